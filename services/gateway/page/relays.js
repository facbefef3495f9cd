// Relays: how they are, drained, added, changed and removed.
import { call, get } from "./api.js";
import { Mistake, asking, badge, card, confirm, copyButton, el, facts, field, form, linkButton, moment, named, say,
         since, table, whose } from "./dom.js";

const path = (id) => `/v1/relays/${encodeURIComponent(id)}`;
const hash = (id) => `#relays/${encodeURIComponent(id)}`;

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
  const drain = !r.drain;
  return asking({
    id: `drain ${r.id}`, button: drain ? "Drain" : "Use again", label: drain ? `Drain ${r.id}` : `Use again: ${r.id}`, kind: "quiet",
    question: { title: drain ? "Drain this relay?" : "Use this relay again?", danger: false,
                text: [whose(r.id), drain ? " gets no new sessions. Those that it carries go on until they end."
                                          : " gets new sessions again."] },
  }, async () => {
    await call("POST", `${path(r.id)}/drain`, { drain });
    say(whose(r.id), drain ? " gets no new sessions." : " gets sessions again.");
    await refresh((data) => ({ ...data, relays: data.relays.map((one) => one.id === r.id ? { ...one, drain } : one) }));
  });
}

async function read() {
  const found = await get("/v1/relays");
  return { ...found, relays: found.relays.sort((a, b) => a.id.localeCompare(b.id)) };
}

// ---- what is typed is looked at before the gateway is asked, which can only say that it is wrong

function checkName(name) {
  if (!name)
    throw new Mistake("name", "Name the relay.");
  if (new TextEncoder().encode(name).length > 64 || /[\/\p{Cc}]/u.test(name))
    throw new Mistake("name", "A name is at most 64 bytes, without a slash.");
}

function checkKey(key, name, known) {
  if (key.startsWith("wavry1"))
    throw new Mistake("key", "This is the key of a host or a device. A relay's begins with “ed25519.”; see where to find it.");
  if (!/^ed25519\.[A-Za-z0-9_-]*$/.test(key))
    throw new Mistake("key", "A relay's key is “ed25519.” and 43 letters, digits, “-” or “_”.");
  const n = key.length - "ed25519.".length;
  if (n !== 43)
    throw new Mistake("key", `A relay's key has 43 characters after the dot; this has ${n}: copy all of it.`);
  if (!"AEIMQUYcgkosw048".includes(key.at(-1))) // 43 of base64 are 258 bits, a key has 256
    throw new Mistake("key", "A character of this key is wrong: copy it again.");
  if (key === known.issuer)
    throw new Mistake("key", "This is the gateway's own key, which signs leases: the relay has another one.");
  const other = known.relays.find((r) => r.key === key && r.id !== name);
  if (other)
    throw new Mistake("key", `This is the key of ${other.id}. Each relay has its own.`);
}

function checkAddress(address) {
  const found = /^(\[[0-9A-Fa-f:.]+\]|[^\s/"\\:[\]]+):([0-9]{1,5})$/.exec(address);
  if (!found || Number(found[2]) < 1 || Number(found[2]) > 65535)
    throw new Mistake("address", "An address is HOST:PORT, as relay.example.org:4821, 192.0.2.7:4821 or [2001:db8::7]:4821.");
}

/** The API's own words, at the field that they are about. */
function explain(error) {
  const at = { bad_name: "name", bad_key: "key", bad_field: "address" }[error.code];
  return at ? new Mistake(at, error.message) : error;
}

function relayForm({ id, label, button }, relay, known, act) {
  const text = { autocomplete: "off", autocapitalize: "none", spellcheck: "false", required: true };
  return form({ id, label, button }, [
    relay ? null : field({ ...text, name: "name", label: "Name", maxlength: 64, hint: "The “name” of its relay.conf, letter by letter." }),
    field({ ...text, name: "key", label: "Key", value: relay && relay.key, hint: "On the relay: wavry-relay-beat --print-key" }),
    field({ ...text, name: "address", label: "Address", value: relay && relay.address, maxlength: 255,
            hint: "HOST:PORT, as both peers can reach it." }),
    field({ ...text, name: "region", label: "Region", value: relay && relay.region, maxlength: 64,
            hint: "A word of yours, such as eu. Who asks for one gets a relay there." }),
  ].filter(Boolean), async (values) => {
    const name = relay ? relay.id : values.name.trim();
    const record = { key: values.key.trim(), address: values.address.trim(), region: values.region.trim() };
    if (!relay)
      checkName(name);
    checkKey(record.key, name, known);
    checkAddress(record.address);
    if (!record.region)
      throw new Mistake("region", "Name a region.");
    await act(name, async () => {
      await call("PUT", path(name), record).catch((error) => { throw explain(error); });
    });
  });
}

function issuerCard(issuer) {
  return card("issuer-title", "What a relay needs from here",
    el("p", {}, "This gateway's key signs the leases. It belongs, on a line of its own, into ",
       el("code", {}, "/etc/wavry/relay-issuers"), " of every relay:"),
    el("p", {}, el("code", { id: "issuer" }, issuer)),
    el("p.buttons", {}, copyButton(issuer, "the key")));
}

export const addRelay = {
  title: "Add a relay",
  admin: true,
  back: ["#relays", "Relays"],
  load: read,
  show: (known) => [
    el("div.cards", {},
      card("add-title", "The relay",
        relayForm({ id: "add-relay", label: "Add a relay", button: "Add relay" }, null, known, async (name, put) => {
          if (known.relays.some((r) => r.id === name))
            throw new Mistake("name", "There is a relay of that name: change that one, or choose another name.");
          await put();
          say(whose(name), " is added. It is used once it is heard.");
          location.hash = hash(name);
        })),
      issuerCard(known.issuer)),
  ],
};

function removeButton(r) {
  return asking({
    id: `remove ${r.id}`, button: "Remove", label: `Remove ${r.id}`, kind: "danger",
    question: { title: "Remove this relay?", text: [whose(r.id), " gets no new sessions, and the gateway forgets it. What it carries goes on until the leases end. ",
                r.leases ? `It said that it holds ${r.leases} leases: draining it first spares them.` : ""] },
  }, async () => {
    await call("DELETE", path(r.id));
    say("The relay ", whose(r.id), " is removed.");
    location.hash = "#relays";
  });
}

/** A new key or address is another machine: that is asked before it is done. */
function changeRelay(r, refresh) {
  return async (name, put) => {
    confirm({ title: "Change this relay?", button: "Change", danger: false,
              text: [whose(name), " is believed by this key, and named to peers at this address, from now on. ",
                     "Leases that were given keep the old address."] }, async () => {
      await put();
      say(whose(name), " is changed.");
      await refresh();
    });
  };
}

const relay = {
  title: "Relay",
  admin: true,
  back: ["#relays", "Relays"],
  load: async (user, id) => {
    const known = await read(), found = known.relays.find((r) => r.id === id);
    if (!found)
      throw new Error("This gateway knows no relay of that name.");
    return { ...known, found };
  },
  heading: (data) => data.found.id,
  show: ({ found: r, ...known }, user, refresh) => [
    facts([["Key", el("code", {}, r.key)], ["Address", el("code", {}, r.address)], ["Region", whose(r.region)], ["Health", health(r)],
           ["Load", load(r)], ["Leases", String(r.leases)], ["Last heard", r.heard ? moment(r.heard) : "never"]]),
    el("div.cards", {},
      card("change-title", "Change", relayForm({ id: "change-relay", label: `Change ${r.id}`, button: "Change relay" }, r, known,
                                               changeRelay(r, refresh))),
      issuerCard(known.issuer),
      card("end-title", r.drain ? "Use again, or remove" : "Drain, or remove",
        el("p", {}, "A relay that is drained carries what it has. One that is removed is forgotten; its name can be added again."),
        el("p.buttons", {}, drainButton(r, () => refresh()), removeButton(r)))),
  ],
};

export const relays = {
  title: "Relays",
  every_ms: 5000,
  admin: true,
  one: relay,
  load: read,
  summary: ({ relays: list }) => list.length ? `${list.filter((r) => r.usable && !r.drain).length} of ${list.length} in use.` : "",
  show: ({ relays: list }, user, refresh) => [
    el("p.buttons.above", {}, linkButton("#add-relay", "Add a relay", null, "main")),
    table("Relays", [
      ["Relay", (r) => named(r.id, r.address, hash(r.id))],
      ["Region", (r) => whose(r.region)],
      ["Health", health],
      ["Load", load],
      ["Leases", (r) => String(r.leases)],
      ["Last heard", (r) => since(r.heard)],
      ["", (r) => [drainButton(r, refresh), linkButton(hash(r.id), "Change", `Change ${r.id}`)]],
    ], list, "No relay is registered. Without one, machines that can't reach each other directly don't meet."),
    el("p.note", {}, "Relays carry what can't go directly, and see nothing of it."),
  ],
};
