// The audit log: a page at a time, newest first; of some words, up to a day, of all accounts.
import { get } from "./api.js";
import { el, field, moment, refill, say, short, table, whose } from "./dom.js";

const LINES = 50;     // more are shown at a time
const MOST = 200;     // of one answer
const ANSWERS = 10;   // that one press looks through

/** STATE, {lines, more}, with the lines that come after its last one, and whether there are more still. UP_TO: a Unix
 * time. */
async function older(state, { all, up_to: upTo }, limit) {
  const last = state.lines.at(-1);
  const from = last ? `&before=${last.at}&before_id=${last.id}` : upTo ? `&before=${upTo}` : "";
  const got = (await get(`/v1/audit?limit=${limit}${from}${all ? "&all=1" : ""}`)).audit;
  return { lines: [...state.lines, ...got], more: got.length === limit };
}

function matches(line, words) {
  const text = [line.actor, line.action, line.subject, line.address].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

/** Until COUNT lines of WISH are there, the log begins, or that was enough work for one press. */
async function more(state, wish, count) {
  const enough = (s) => s.lines.filter((l) => matches(l, wish.words)).length > count;
  let now = state;
  for (let i = 0; i < ANSWERS && now.more && !enough(now); i++)
    now = await older(now, wish, now.lines.length || wish.words.length ? MOST : LINES + 1);
  return now;
}

const columns = [
  ["When", (l) => moment(l.at)],
  ["Who", (l) => whose(l.actor || "nobody known")],
  ["What", (l) => short(l.action)],
  ["About", (l) => whose(l.subject)],
  ["From", (l) => short(l.address)],
];

function zone() {
  const minutes = -new Date().getTimezoneOffset(), size = Math.abs(minutes);
  return minutes ? `UTC${minutes < 0 ? "−" : "+"}${Math.floor(size / 60)}${size % 60 ? `:${String(size % 60).padStart(2, "0")}` : ""}` : "UTC";
}

/** The end of DAY (2026-01-31, as this browser has it), or 0. */
function endOf(day) {
  const [y, m, d] = day.split("-").map(Number);
  return day ? Math.floor(new Date(y, m - 1, d + 1).getTime() / 1000) : 0;
}

const NOTHING = { lines: [], more: true };
const ANY = { words: [], up_to: 0, all: false };

/** What is below the table: more of it, or how far it was looked through. Who pressed the button when there was one still
 * is left at the end. */
function below(state, shown, wish, press) {
  const last = state.lines.at(-1), more = state.more || state.lines.length > shown;
  return [
    el("p.note", more ? {} : { tabindex: -1, "data-focus": "older" }, `Times are ${zone()}. `,
       wish.words.length && last ? [`Looked through ${state.lines.length} lines, back to `, moment(last.at), ". "] : null,
       !more && last ? "This is where the log begins." : null),
    more ? el("p.buttons", {}, el("button", { type: "button", "data-focus": "older", onclick: press }, "Load older")) : null,
  ].filter(Boolean);
}

export const audit = {
  title: "Audit log",
  load: () => more(NOTHING, ANY, LINES),
  show: (begin, user) => {
    const list = el("div");
    let state = begin, wish = ANY, count = LINES, turn = 0;
    const fill = () => {
      const found = state.lines.filter((l) => matches(l, wish.words)), seen = found.slice(0, count);
      refill(list, table("Audit log, newest first", columns, seen, wish === ANY ? "Nothing was done yet." : "No line is of that kind."),
             ...below(state, found.length > count ? 0 : state.lines.length, wish, press));
      return seen.length;
    };
    const show = async (from, n) => {
      const mine = ++turn;
      try {
        const got = await more(from, wish, n);
        if (mine !== turn)
          return;
        state = got;
        count = n;
        say(`${fill()} lines shown.`);
      } catch (error) {
        if (mine === turn)
          say(error.message);
      }
    };
    const press = () => show(state, count + LINES);
    const inputs = {};
    const choose = () => {
      wish = { words: inputs.words.value.toLowerCase().split(/\s+/).filter(Boolean), up_to: endOf(inputs.day.value),
               all: Boolean(inputs.all && inputs.all.checked) };
      show(NOTHING, LINES);
    };
    const tools = el("div.tools", { role: "search", "aria-label": "Audit log" },
      field({ name: "words", label: "Only lines with", type: "search", maxlength: 200, autocomplete: "off", spellcheck: "false",
              autocapitalize: "none", onchange: choose }),
      field({ name: "day", label: "Up to", type: "date", onchange: choose }),
      user.admin ? field({ name: "all", label: "Of all accounts", type: "checkbox", onchange: choose }) : null);
    for (const input of tools.querySelectorAll("input"))
      inputs[input.name] = input;
    fill();
    return [tools, list];
  },
};
