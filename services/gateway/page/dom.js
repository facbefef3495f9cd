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
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Says TEXT to who listens and to who looks. */
let fading = 0;
export function say(text) {
  const status = byId("status");
  clearTimeout(fading);
  status.textContent = text;
  if (text)
    fading = setTimeout(() => { status.textContent = ""; }, 8000);
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

/** A stranger's name stays in its own direction, and its key below it. */
export function named(name, key) {
  return el("span.named", {}, el("bdi", {}, name), key ? el("code", {}, key) : null);
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
    return el(i ? (title ? "td" : "td.actions") : "th", attributes, cell(row));
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

/** FIELD: {name, label, type, hint, ...attributes of the input}. */
export function field({ name, label, hint, ...attributes }) {
  const id = `field-${name}`;
  const input = el("input", { id, name, type: "text", "aria-describedby": hint ? `${id}-hint` : null, ...attributes });
  if (attributes.type === "checkbox")
    return el("p.field.check", {}, input, el("label", { for: id }, label));
  return el("p.field", {}, el("label", { for: id }, label), input,
            hint ? el("span.hint", { id: `${id}-hint` }, hint) : null);
}

/** A form whose button waits for ACT(values); what that throws is shown in it. */
export function form({ id, label, button, danger }, fields, act) {
  const problem = el("p.problem", { role: "alert" });
  const submit = el(danger ? "button.danger" : "button.main", { type: "submit", "data-focus": `submit ${id}` }, button);
  return el("form", {
    id, "aria-label": label, novalidate: false,
    onsubmit: async (event) => {
      event.preventDefault();
      if (submit.getAttribute("aria-disabled"))
        return;
      const values = Object.fromEntries([...event.target.elements].filter((e) => e.name)
        .map((e) => [e.name, e.type === "checkbox" ? e.checked : e.value]));
      problem.textContent = "";
      submit.setAttribute("aria-disabled", "true");
      try {
        await act(values, event.target);
      } catch (error) {
        problem.textContent = error.message;
      } finally {
        submit.removeAttribute("aria-disabled");
      }
    },
  }, ...fields, problem, el("p.buttons", {}, submit));
}

/** Asks in the page. ACT is done when the answer is yes; while it fails, the question stays and says why. */
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
    const again = beforeId && [...document.querySelectorAll("[data-focus]")].find((n) => n.dataset.focus === beforeId);
    const next = again || (before && before.isConnected ? before : byId("title"));
    if (next)
      next.focus();
  });
  document.body.append(box);
  box.showModal();
}

export const isAsking = () => document.querySelector("dialog[open]") !== null;
