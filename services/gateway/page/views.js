// What there is to see: hosts, sessions, relays, devices, the audit log, accounts. A view is {title, every_ms,
// load(user) => data, show(data, user, refresh) => nodes}; page.js loads and shows it.
import { call, get } from "./api.js";
import { badge, confirm, el, field, form, moment, named, refill, say, since, table } from "./dom.js";

const LIVE_MS = 5000;

function revokeButton(kind, machine, refresh) {
  return el("button.danger.quiet", {
    type: "button", "data-focus": `revoke ${machine.key}`, "aria-label": `Revoke ${machine.name}`,
    onclick: () => confirm({
      title: `Revoke this ${kind}?`,
      text: el("span", {}, el("bdi", {}, machine.name), kind === "host"
        ? " can't be reached through this gateway any more, by nobody it is shared with either. To come back it must be registered again."
        : " can't use this account any more. To come back it must be signed in again."),
      button: "Revoke",
    }, async () => {
      await call("DELETE", `/v1/${kind}s/${encodeURIComponent(machine.key)}`);
      say(`The ${kind} ${machine.name} is revoked.`);
      await refresh();
    }),
  }, "Revoke");
}

const state = (machine) => machine.online ? badge("good", "Online") : badge("off", "Offline");
const byState = (a, b) => Number(b.online) - Number(a.online) || a.name.localeCompare(b.name) ||
                          a.key.localeCompare(b.key);

const hosts = {
  title: "Hosts",
  every_ms: LIVE_MS,
  load: async () => (await get("/v1/hosts")).hosts.sort(byState),
  show: (list, user, refresh) => [
    el("p.lead", {}, list.length
      ? `${list.filter((h) => h.online).length} of ${list.length} online.`
      : ""),
    table("Hosts", [
      ["Host", (h) => named(h.name, h.key)],
      ["State", state],
      ["Last seen", (h) => h.online ? "now" : since(h.seen)],
      ["Whose", (h) => h.shared ? `shared with you: ${h.grants.split(",").join(", ")}` : "yours"],
      ["", (h) => h.shared ? null : revokeButton("host", h, refresh)],
    ], list, "No host is registered. On the host, run: wavryctl host register"),
  ],
};

const devices = {
  title: "Devices",
  every_ms: 3 * LIVE_MS,
  load: async () => (await get("/v1/devices")).devices.sort(byState),
  show: (list, user, refresh) => [
    el("p.lead", {}, "Machines that reach your hosts with a key of their own, without a password."),
    table("Devices", [
      ["Device", (d) => named(d.name, d.key)],
      ["State", state],
      ["Last seen", (d) => d.online ? "now" : since(d.seen)],
      ["Added", (d) => moment(d.created)],
      ["", (d) => revokeButton("device", d, refresh)],
    ], list, "No device is signed in. On the device, run: wavryctl login"),
  ],
};

const short = (text) => el("span.short", {}, text);
const percent = (part) => `${(100 * part).toFixed(part > 0 && part < 0.1 ? 1 : 0)} %`;

const sessions = {
  title: "Sessions",
  every_ms: LIVE_MS,
  load: async () => {
    const [found, own] = await Promise.all([get("/v1/sessions"), get("/v1/devices")]);
    const names = new Map(own.devices.map((d) => [d.key, d.name]));
    return found.sessions.map((s) => ({ ...s, peer_name: names.get(s.peer) }));
  },
  show: (list, user) => [
    el("p.lead", {}, user.admin ? "What all hosts say of their sessions, at most 20 seconds old."
      : "What your hosts say of their sessions, at most 20 seconds old."),
    table("Sessions", [
      ["Host", (s) => named(s.name, s.host)],
      ["Device", (s) => named(s.peer_name || "another account's device", s.peer)],
      ["Path", (s) => s.path === "direct" ? badge("good", "Direct") : badge("warn", "Relayed")],
      ["Delay", (s) => short(`${s.rtt_ms.toFixed(s.rtt_ms < 10 ? 1 : 0)} ms`)],
      ["Loss", (s) => s.loss >= 0.02 ? badge("warn", percent(s.loss)) : short(percent(s.loss))],
    ], list, "No session is running."),
  ],
};

function health(r) {
  if (r.drain)
    return badge("warn", "Drained");
  if (r.draining)
    return badge("warn", "Stopping");
  if (r.usable)
    return badge("good", "Healthy");
  return r.heard ? (r.load >= 950 ? badge("warn", "Full") : badge("bad", "Silent")) : badge("off", "Never heard");
}

function load(r) {
  return el("span.load", {}, el("meter", {
    min: 0, max: 1000, low: 700, high: 900, optimum: 0, value: r.load, "aria-label": `Load of ${r.id}`,
  }), `${Math.round(r.load / 10)} %`);
}

function drainButton(r, refresh) {
  const act = async (drain) => {
    await call("POST", `/v1/relays/${encodeURIComponent(r.id)}/drain`, { drain });
    say(drain ? `${r.id} gets no new sessions.` : `${r.id} gets sessions again.`);
    await refresh((list) => list.map((one) => one.id === r.id ? { ...one, drain } : one));
  };
  const attributes = { type: "button", "data-focus": `drain ${r.id}` };
  if (!r.drain)
    return el("button.quiet", { ...attributes, "aria-label": `Drain ${r.id}`, onclick: () => confirm({
      title: "Drain this relay?",
      text: el("span", {}, el("bdi", {}, r.id), " gets no new sessions. Those that it carries go on until they end."),
      button: "Drain", danger: false,
    }, () => act(true)) }, "Drain");
  return el("button.quiet", { ...attributes, "aria-label": `Use ${r.id} again`, onclick: () => confirm({
    title: "Use this relay again?", text: el("span", {}, el("bdi", {}, r.id), " gets new sessions again."),
    button: "Use again", danger: false,
  }, () => act(false)) }, "Use again");
}

const relays = {
  title: "Relays",
  every_ms: LIVE_MS,
  admin: true,
  load: async () => (await get("/v1/relays")).relays.sort((a, b) => a.id.localeCompare(b.id)),
  show: (list, user, refresh) => [
    el("p.lead", {}, "Relays carry what can't go directly, and see nothing of it."),
    table("Relays", [
      ["Relay", (r) => named(r.id, r.address)],
      ["Region", (r) => el("bdi", {}, r.region)],
      ["Health", health],
      ["Load", load],
      ["Leases", (r) => String(r.leases)],
      ["Last heard", (r) => since(r.heard)],
      ["", (r) => drainButton(r, refresh)],
    ], list, "No relay is registered."),
  ],
};

// ---- the audit log

const AUDIT_LINES = 50;
const AUDIT_MOST = 200;

/** Those after LINES. Lines have no number and several may be of one second: that second is asked for again,
 * and what was shown of it is left out. */
async function olderLines(lines, all) {
  const last = lines.length ? lines[lines.length - 1].at : 0;
  const shown = new Map();
  for (const line of lines.filter((l) => l.at === last).map((l) => JSON.stringify(l)))
    shown.set(line, (shown.get(line) || 0) + 1);
  const ask = (before, limit) => get(`/v1/audit?limit=${limit}${before ? `&before=${before}` : ""}${all ? "&all=1" : ""}`);
  const limit = last ? AUDIT_MOST : AUDIT_LINES;
  let got = (await ask(last ? last + 1 : 0, limit)).audit;
  let full = got.length === limit;
  const keep = (line) => {
    const left = shown.get(JSON.stringify(line)) || 0;
    shown.set(JSON.stringify(line), left - 1);
    return left <= 0;
  };
  let next = got.filter(keep);
  if (full && !next.length) { // a second with more lines than one answer holds
    got = next = (await ask(last, limit)).audit;
    full = got.length === limit;
  }
  return { lines: [...lines, ...next.slice(0, AUDIT_LINES)], more: full || next.length > AUDIT_LINES };
}

const auditColumns = [
  ["When", (l) => moment(l.at)],
  ["Who", (l) => el("bdi", {}, l.actor || "nobody known")],
  ["What", (l) => l.action],
  ["About", (l) => el("bdi", {}, l.subject)],
  ["From", (l) => short(l.address)],
];

const audit = {
  title: "Audit log",
  load: () => olderLines([], false),
  show: (begin, user) => {
    const list = el("div");
    let seen = begin, all = false;
    const fill = () => refill(list, table("Audit log, newest first", auditColumns, seen.lines, "Nothing was done yet."),
      seen.more ? el("p.buttons", {}, el("button", { type: "button", "data-focus": "older", onclick: older }, "Load older"))
                : el("p.note", {}, seen.lines.length ? "This is where the log begins." : ""));
    const show = async (ask) => {
      const before = seen.lines.length;
      try {
        seen = await ask();
        fill();
        say(`${Math.max(seen.lines.length - before, 0) || seen.lines.length} lines loaded.`);
      } catch (error) {
        say(error.message);
      }
    };
    const older = () => show(() => olderLines(seen.lines, all));
    const choice = field({ name: "all", label: "Of all accounts", type: "checkbox", onchange: (event) => {
      all = event.target.checked;
      show(() => olderLines([], all));
    } });
    fill();
    return [user.admin ? choice : null, list];
  },
};

// ---- accounts, for administrators

function disableButton(account, user, refresh) {
  const verb = account.disabled ? "Enable" : "Disable";
  if (account.id === user.id)
    return null;
  return el(account.disabled ? "button.quiet" : "button.danger.quiet", {
    type: "button", "data-focus": `account ${account.id}`, "aria-label": `${verb} ${account.name}`,
    onclick: () => confirm({
      title: `${verb} this account?`,
      text: el("span", {}, el("bdi", {}, account.name), account.disabled
        ? " and its machines can sign in again."
        : " is signed out everywhere, its hosts and devices too, until it is enabled again."),
      button: verb, danger: !account.disabled,
    }, async () => {
      await call("PATCH", `/v1/accounts/${account.id}`, { disabled: !account.disabled });
      say(`The account ${account.name} is ${account.disabled ? "enabled" : "disabled"}.`);
      await refresh();
    }),
  }, verb);
}

const accounts = {
  title: "Accounts",
  admin: true,
  load: async () => (await get("/v1/accounts")).accounts.sort((a, b) => a.name.localeCompare(b.name)),
  show: (list, user, refresh) => [
    table("Accounts", [
      ["Account", (a) => named(a.name)],
      ["State", (a) => a.disabled ? badge("bad", "Disabled") : badge("good", "Enabled")],
      ["Role", (a) => a.admin ? "administrator" : "member"],
      ["Authenticator", (a) => a.totp ? "yes" : "no"],
      ["Created", (a) => moment(a.created)],
      ["", (a) => disableButton(a, user, refresh)],
    ], list, "There is no account."),
    el("section.card", { "aria-labelledby": "add-title" },
      el("h2", { id: "add-title" }, "Make an account"),
      form({ id: "add-account", label: "Make an account", button: "Make account" }, [
        field({ name: "name", label: "Name", required: true, maxlength: 64, autocomplete: "off", autocapitalize: "none",
                spellcheck: "false" }),
        field({ name: "password", label: "First password", type: "password", required: true, minlength: 10,
                autocomplete: "new-password", hint: "10 characters or more. Its owner should change it." }),
        field({ name: "admin", label: "An administrator", type: "checkbox" }),
      ], async (values) => {
        const made = await call("POST", "/v1/accounts", values);
        say(`The account ${made.name} is made.`);
        await refresh();
      })),
  ],
};

export const views = { hosts, sessions, relays, devices, audit, accounts };
