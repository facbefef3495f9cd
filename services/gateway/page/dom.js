// Makes what is shown. Text goes in as text, never as markup: names come from strangers.

/** el("p.note", {id: "x"}, "text", child...): properties that start with "on" are listeners, others attributes. */
export function el(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElement(tag);
  if (classes.length)
    node.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false)
      continue;
    if (name.startsWith("on"))
      node.addEventListener(name.slice(2), value);
    else
      node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** A stranger's name within a sentence: in its own direction, whatever it is made of. */
export const whose = (name) => el("bdi", {}, name);

/** Says PARTS, text or nodes, to who listens and to who looks. Nothing: what was said goes away. */
let fading = 0;
export function say(...parts) {
  const status = byId("status");
  clearTimeout(fading);
  status.replaceChildren(...parts);
  if (parts.length)
    fading = setTimeout(() => status.replaceChildren(), 8000);
}

/** What changed by itself, for who listens; who looks sees it. */
export function tell(text) {
  byId("news").textContent = text;
}

// ---- times and names

const pad = (n) => String(n).padStart(2, "0");

function clock(unix) {
  const t = new Date(unix * 1000);
  return `${t.getFullYear()}-${pad(t.getMonth() + 1)}-${pad(t.getDate())} ` +
         `${pad(t.getHours())}:${pad(t.getMinutes())}:${pad(t.getSeconds())}`;
}

function ago(seconds) {
  if (seconds < 60)
    return "just now";
  if (seconds < 3600)
    return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 2 * 86400)
    return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} days ago`;
}

const isTime = (unix) => Number.isFinite(unix) && unix > 0 && unix < 8e12;

/** A moment, exactly. */
export function moment(unix) {
  if (!isTime(unix))
    return "never";
  return el("time", { datetime: new Date(unix * 1000).toISOString() }, clock(unix));
}

/** A moment as one thinks of it; exactly when pointed at. */
export function since(unix) {
  if (!isTime(unix))
    return "never";
  return el("time", { datetime: new Date(unix * 1000).toISOString(), title: clock(unix) },
            ago(Date.now() / 1000 - unix));
}

/** A state as a word with a mark before it: colour is never all that tells. KIND: good, bad, warn, off. */
export function badge(kind, text) {
  return el(`span.badge.${kind}`, {}, text);
}

/** A stranger's name stays in its own direction, and its key below it. With HREF it leads there. */
export function named(name, key, href) {
  const shown = href ? el("a", { href, "data-focus": `to ${href}` }, whose(name)) : whose(name);
  return el("span.named", {}, shown, key ? el("code", {}, key) : null);
}

/** Words of ours that belong on one line. */
export const short = (text) => el("span.short", {}, text);

/** [[name, text or node]...] */
export function facts(list) {
  return el("dl.facts", {}, list.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]).flat());
}

export function card(id, title, ...children) {
  return el("section.card", { "aria-labelledby": id }, el("h2", { id }, title), ...children);
}

/** LABEL begins with TEXT, so that who speaks to the page is understood. */
export function linkButton(href, text, label, kind = "quiet") {
  return el(`a.button.${kind}`, { href, "aria-label": label, "data-focus": `button ${href}` }, text);
}

// ---- tables

/** COLUMNS: [heading, (row) => node or text][]. KEY: (row) => what its buttons are known by. On a narrow screen
 * rows become cards, which is why the roles are spelled out. */
export function table(caption, columns, rows, empty) {
  if (!rows.length)
    return el("p.empty", {}, empty);
  const head = el("tr", { role: "row" }, columns.map(([title]) =>
    el("th", { role: "columnheader", scope: "col" }, title || el("span.hidden", {}, "Actions"))));
  const body = rows.map((row) => el("tr", { role: "row" }, columns.map(([title, cell], i) => {
    const attributes = { role: i ? "cell" : "rowheader", "data-label": title || null, scope: i ? null : "row" };
    const what = cell(row);
    return el(i ? (title ? "td" : "td.actions") : "th", attributes, title ? what : el("span.buttons", {}, what));
  })));
  return el("table", { role: "table" }, el("caption.hidden", {}, caption), el("thead", { role: "rowgroup" }, head),
            el("tbody", { role: "rowgroup" }, body));
}

/** Puts CHILDREN into PARENT; the focus stays on what has the same data-focus. */
export function refill(parent, ...children) {
  const active = document.activeElement, within = parent.contains(active), held = active && active.dataset.focus;
  parent.replaceChildren(...children);
  if (!within)
    return;
  const again = [...parent.querySelectorAll("[data-focus]")].find((n) => held && n.dataset.focus === held);
  (again || byId("title")).focus({ preventScroll: true });
}

// ---- forms and questions

/** What is wrong with one FIELD of a form, before or after the gateway was asked. */
export class Mistake extends Error {
  constructor(name, message) {
    super(message);
    this.field = name;
  }
}

/** FIELD: {name, label, type, hint, ...attributes of the input}. */
export function field({ name, label, hint, ...attributes }) {
  const id = `field-${name}`;
  const input = el("input", { id, name, type: "text", "aria-describedby": hint ? `${id}-hint` : null, ...attributes });
  if (attributes.type === "checkbox")
    return el("p.field.check", {}, input, el("label", { for: id }, label));
  return el("p.field", {}, el("label", { for: id }, label), input,
            hint ? el("span.hint", { id: `${id}-hint` }, hint) : null);
}

function values(target) {
  return Object.fromEntries([...target.elements].filter((e) => e.name)
    .map((e) => [e.name, e.type === "checkbox" ? e.checked : e.value]));
}

function mark(target, problem, name) {
  for (const input of target.querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-errormessage");
  }
  const wrong = name && target.elements[name];
  if (!wrong)
    return;
  wrong.setAttribute("aria-invalid", "true");
  wrong.setAttribute("aria-errormessage", problem.id);
  wrong.focus();
}

/** A form whose button waits for ACT(values); what that throws is shown in it. */
export function form({ id, label, button, danger }, fields, act) {
  const problem = el("p.problem", { role: "alert", id: `${id}-problem` });
  const submit = el(danger ? "button.danger" : "button.main", { type: "submit", "data-focus": `submit ${id}` }, button);
  return el("form", {
    id, "aria-label": label,
    onsubmit: async (event) => {
      event.preventDefault();
      if (submit.getAttribute("aria-disabled"))
        return;
      problem.textContent = "";
      mark(event.target, problem);
      submit.setAttribute("aria-disabled", "true");
      try {
        await act(values(event.target), event.target);
      } catch (error) {
        problem.textContent = error.message;
        mark(event.target, problem, error.field);
      } finally {
        submit.removeAttribute("aria-disabled");
      }
    },
  }, ...fields, problem, el("p.buttons", {}, submit));
}

function focusAgain(before, beforeId) {
  const again = beforeId && [...document.querySelectorAll("[data-focus]")].find((n) => n.dataset.focus === beforeId);
  const next = again || (before && before.isConnected ? before : byId("title"));
  if (next)
    next.focus();
}

/** Asks in the page. TEXT: parts, text or nodes. ACT is done when the answer is yes; while it fails, the question
 * stays and says why. */
export function confirm({ title, text, button, danger = true }, act) {
  const before = document.activeElement, beforeId = before ? before.dataset.focus : null;
  const problem = el("p.problem", { role: "alert" });
  const yes = el(danger ? "button.danger" : "button.main", { type: "button" }, button);
  const no = el("button", { type: "button", autofocus: true, onclick: () => box.close() }, "Cancel");
  const box = el("dialog", { "aria-labelledby": "ask-title", "aria-describedby": "ask-text" },
    el("h2", { id: "ask-title" }, title), el("p", { id: "ask-text" }, text), problem, el("p.buttons", {}, no, yes));
  yes.addEventListener("click", async () => {
    if (yes.getAttribute("aria-disabled"))
      return;
    yes.setAttribute("aria-disabled", "true");
    problem.textContent = "";
    try {
      await act();
      box.close();
    } catch (error) {
      problem.textContent = error.message;
    }
    yes.removeAttribute("aria-disabled");
  });
  box.addEventListener("close", () => {
    box.remove();
    focusAgain(before, beforeId);
  });
  document.body.append(box);
  box.showModal();
}

/** A button that asks first. LABEL begins with BUTTON; QUESTION is that of confirm(). */
export function asking({ id, button, label, kind, question }, act) {
  return el(`button.${kind}`, { type: "button", "data-focus": id, "aria-label": label,
                                onclick: () => confirm({ button, ...question }, act) }, button);
}

export function copyButton(text, what) {
  return el("button.quiet", { type: "button", "aria-label": `Copy ${what}`, onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied.");
    } catch {
      say("The browser does not allow copying: select the text instead.");
    }
  } }, "Copy");
}

export const isAsking = () => document.querySelector("dialog[open]") !== null;
