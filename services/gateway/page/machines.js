// Hosts, whom they are shared with, and devices.
import { call, get } from "./api.js";
import { Mistake, asking, badge, card, el, facts, field, form, linkButton, moment, named, say, short, since, table,
         whose } from "./dom.js";

const LIVE_MS = 5000;

/** What a share may allow, in the words of the API and in ours. */
const MAY = [["view", "see the screen"], ["input", "use keyboard and mouse"], ["audio", "hear the sound"],
             ["clipboard", "use the clipboard"], ["files", "send and fetch files"]];
const may = (grants) => MAY.filter(([word]) => grants.split(",").includes(word)).map(([, text]) => text).join(", ");

const hostPath = (key) => `/v1/hosts/${encodeURIComponent(key)}`;

function revokeButton(kind, machine, done, look = "danger.quiet") {
  return asking({
    id: `revoke ${machine.key}`, button: "Revoke", label: `Revoke ${machine.name}`, kind: look,
    question: { title: `Revoke this ${kind}?`, text: [whose(machine.name), kind === "host"
      ? " can't be reached through this gateway any more, by nobody it is shared with either. To come back it must be registered again."
      : " can't use this account any more. To come back it must be signed in again.",
      " A session that runs directly goes on until it ends."] },
  }, async () => {
    await call("DELETE", `/v1/${kind}s/${encodeURIComponent(machine.key)}`);
    say(`The ${kind} `, whose(machine.name), " is revoked.");
    await done();
  });
}

const state = (machine) => machine.online ? badge("good", "Online") : badge("off", "Offline");
const seen = (machine) => machine.online ? "now" : since(machine.seen);
const byState = (a, b) => Number(b.online) - Number(a.online) || a.name.localeCompare(b.name) ||
                          a.key.localeCompare(b.key);
const summary = (list) => list.length ? `${list.filter((m) => m.online).length} of ${list.length} online.` : "";

// ---- one host

function endButton(host, share, refresh) {
  return asking({
    id: `end ${share.account}`, button: "End", label: `End the share with ${share.name}`, kind: "danger.quiet",
    question: { title: "End this share?", button: "End share",
                text: [whose(share.name), " can't reach ", whose(host.name),
                       " through this gateway any more. A session that runs directly goes on until it ends."] },
  }, async () => {
    await call("DELETE", `${hostPath(host.key)}/shares/${encodeURIComponent(share.account)}`);
    say(whose(host.name), " is not shared with ", whose(share.name), " any more.");
    await refresh();
  });
}

/** Puts what SHARE allows into the form, to be changed there. */
function changeButton(share) {
  return el("button.quiet", {
    type: "button", "data-focus": `change ${share.account}`, "aria-label": `Change what ${share.name} may do`,
    onclick: () => {
      const fields = document.getElementById("share").elements;
      fields.account.value = share.name;
      for (const [word] of MAY)
        fields[word].checked = share.grants.split(",").includes(word);
      fields[MAY[0][0]].focus();
    },
  }, "Change");
}

/** The API says "nothing of that name" of an account and of a host alike. */
async function whichIsMissing(host, name) {
  const { hosts: list } = await get("/v1/hosts");
  return list.some((h) => h.key === host.key && !h.shared)
    ? new Mistake("account", `This gateway has no account “${name}”. Its owner tells you how it is written.`)
    : new Error("This host is not registered with your account any more.");
}

function shareForm(host, refresh) {
  const wanted = MAY.map(([name, label], i) => field({ name, label, type: "checkbox", checked: i < 3 }));
  return form({ id: "share", label: "Share with an account", button: "Share" }, [
    field({ name: "account", label: "Account", required: true, maxlength: 64, autocomplete: "off", autocapitalize: "none",
            spellcheck: "false", hint: "Its name at this gateway. Sharing again changes what it may do." }),
    el("fieldset", {}, el("legend", {}, "It may"), wanted),
  ], async (values) => {
    const account = values.account.trim(), grants = MAY.map(([word]) => word).filter((word) => values[word]);
    if (!account)
      throw new Mistake("account", "Name the account.");
    if (!grants.length)
      throw new Mistake(MAY[0][0], "Choose something that it may do.");
    try {
      const made = await call("POST", `${hostPath(host.key)}/shares`, { account, grants });
      say(whose(host.name), " is shared with ", whose(made.name), ".");
    } catch (error) {
      if (error.code === "conflict")
        throw new Mistake("account", "This is your own account: the host is yours already.");
      throw error.code === "not_found" ? await whichIsMissing(host, account) : error;
    }
    await refresh();
  });
}

const host = {
  title: "Host",
  back: ["#hosts", "Hosts"],
  load: async (user, key) => {
    const found = (await get("/v1/hosts")).hosts.find((h) => h.key === key);
    if (!found)
      throw new Error("No such host is registered with your account.");
    return { ...found, shares: found.shared ? [] : (await get(`${hostPath(key)}/shares`)).shares };
  },
  heading: (h) => h.name,
  show: (h, user, refresh) => [
    facts([["Key", el("code", {}, h.key)], ["State", state(h)], ["Last seen", seen(h)], ["Registered", moment(h.created)],
           ["Whose", h.shared ? `another account's; you may ${may(h.grants)}` : "yours"]]),
    h.shared ? null : el("h2", {}, "Shared with"),
    h.shared ? null : table("Accounts that this host is shared with", [
      ["Account", (s) => named(s.name)],
      ["May", (s) => may(s.grants)],
      ["Since", (s) => moment(s.created)],
      ["", (s) => [changeButton(s), endButton(h, s, refresh)]],
    ], h.shares, "Nobody: only your own devices reach this host through the gateway."),
    h.shared ? null : el("div.cards", {},
      card("share-title", "Share with an account",
           el("p", {}, "Its devices find this host here and can call it. The host itself still lets in only whom it was paired with."),
           shareForm(h, refresh)),
      card("revoke-title", "Revoke",
           el("p", {}, "Takes the host off this gateway, for everybody it is shared with, too."),
           el("p.buttons", {}, revokeButton("host", h, () => { location.hash = "#hosts"; }, "danger")))),
  ],
};

export const hosts = {
  title: "Hosts",
  every_ms: LIVE_MS,
  one: host,
  load: async () => (await get("/v1/hosts")).hosts.sort(byState),
  summary,
  show: (list, user, refresh) => [
    table("Hosts", [
      ["Host", (h) => named(h.name, h.key, `#hosts/${h.key}`)],
      ["State", state],
      ["Last seen", seen],
      ["Whose", (h) => h.shared ? `shared with you: ${may(h.grants)}` : short("yours")],
      ["", (h) => h.shared ? null : [linkButton(`#hosts/${h.key}`, "Share", `Share ${h.name}`),
                                     revokeButton("host", h, refresh)]],
    ], list, ["No host is registered. On the host, run: ", el("code", {}, "wavryctl host register")]),
  ],
};

export const devices = {
  title: "Devices",
  every_ms: 3 * LIVE_MS,
  load: async () => (await get("/v1/devices")).devices.sort(byState),
  summary,
  show: (list, user, refresh) => [
    table("Devices", [
      ["Device", (d) => named(d.name, d.key)],
      ["State", state],
      ["Last seen", seen],
      ["Added", (d) => moment(d.created)],
      ["", (d) => revokeButton("device", d, refresh)],
    ], list, ["No device is signed in. On the device, run: ", el("code", {}, "wavryctl login")]),
    el("p.note", {}, "Machines that reach your hosts with a key of their own, without a password."),
  ],
};
