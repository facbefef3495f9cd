// What there is to see. A view is {title, load(user, which) => data, show(data, user, refresh) => nodes} and, when it
// needs it: every_ms, how often it is looked at again; summary(data), its first line; admin: for administrators;
// one: the view of one entry of it, at #name/which; back: [href, title] of where it belongs. page.js shows them.
import { accounts } from "./accounts.js";
import { audit } from "./audit.js";
import { devices, hosts } from "./machines.js";
import { addRelay, relays } from "./relays.js";
import { get } from "./api.js";
import { badge, el, named, short, table } from "./dom.js";

const percent = (part) => `${(100 * part).toFixed(part > 0 && part < 0.1 ? 1 : 0)} %`;

const sessions = {
  title: "Sessions",
  every_ms: 5000,
  load: async () => {
    const [found, own] = await Promise.all([get("/v1/sessions"), get("/v1/devices")]);
    const names = new Map(own.devices.map((d) => [d.key, d.name]));
    return found.sessions.map((s) => ({ ...s, peer_name: names.get(s.peer) }));
  },
  summary: (list) => list.length
    ? `${list.length} running, ${list.filter((s) => s.path === "relayed").length} of them relayed.` : "",
  show: (list, user) => [
    table("Sessions", [
      ["Host", (s) => named(s.name, s.host)],
      ["Device", (s) => named(s.peer_name || "another account's device", s.peer)],
      ["Path", (s) => s.path === "direct" ? badge("good", "Direct") : badge("warn", "Relayed")],
      ["Delay", (s) => short(`${s.rtt_ms.toFixed(s.rtt_ms < 10 ? 1 : 0)} ms`)],
      ["Loss", (s) => s.loss >= 0.02 ? badge("warn", percent(s.loss)) : short(percent(s.loss))],
    ], list, "No session is running."),
    el("p.note", {}, user.admin ? "What all hosts say of their sessions, at most 20 seconds old."
      : "What your hosts say of their sessions, at most 20 seconds old."),
  ],
};

export const views = { hosts, sessions, relays, "add-relay": addRelay, devices, audit, accounts };
