// The operator's page: who is signed in, which view is shown, and when it is looked at again. Everything that it
// does goes over the same API as everybody's (api.js); everything that it shows is text (dom.js).
import { call, get, isAway, listen, setCsrf } from "./api.js";
import { account, second } from "./account.js";
import { byId, el, field, form, isAsking, refill, say, tell, whose } from "./dom.js";
import { views } from "./views.js";

const all = { ...views, account };
let user = null;    // GET /v1/account, null: not signed in
let shown = null;   // {view, which, body, lead, problem, data, text of it}
let turn = 0;       // what was asked for before the newest view came is not shown
let timer = 0;

// ---- signing in

function frame(title, ...children) {
  document.title = `${title} – Wavry gateway`;
  const heading = el("h1", { id: "title", tabindex: -1 }, title);
  byId("main").replaceChildren(heading, ...children);
  tell("");
  return heading;
}

function signInForm(why) {
  const codeField = field({
    name: "code", label: "Code", autocomplete: "one-time-code", autocapitalize: "none", spellcheck: "false", maxlength: 32,
    hint: "Six digits of your authenticator, or a recovery code.",
  });
  codeField.hidden = true;
  const fields = [
    field({ name: "account", label: "Account", required: true, autocomplete: "username", autocapitalize: "none",
            spellcheck: "false", maxlength: 64 }),
    field({ name: "password", label: "Password", type: "password", required: true, autocomplete: "current-password" }),
    codeField,
  ];
  const box = form({ id: "sign-in", label: "Sign in", button: "Sign in" }, fields, async (values, target) => {
    const wish = { account: values.account, password: values.password, cookie: true };
    try {
      if (!codeField.hidden)
        Object.assign(wish, second(values.code));
      const answer = await call("POST", "/v1/login", wish);
      target.reset();
      enter({ ...answer.account, csrf: answer.csrf });
    } catch (error) {
      const code = target.elements.code;
      if (error.code === "code_needed" && codeField.hidden) {
        codeField.hidden = false;
        code.required = true;
        code.focus();
        say("This account needs a code of its authenticator, too.");
        return;
      }
      code.value = "";
      (codeField.hidden ? target.elements.password : code).focus();
      throw error;
    }
  });
  return el("div.card", {}, why ? el("p.note", { role: "status" }, why) : null, box);
}

function noQuestion() {
  for (const box of document.querySelectorAll("dialog"))
    box.remove();
}

function leave(why) {
  user = shown = null;
  turn++;
  clearTimeout(timer);
  setCsrf("");
  noQuestion();
  byId("nav").hidden = byId("who").hidden = true;
  frame("Sign in", signInForm(why));
  byId("field-account").focus();
}

function enter(who) {
  user = who;
  setCsrf(who.csrf);
  byId("who-name").textContent = who.name;
  byId("nav").hidden = byId("who").hidden = false;
  for (const link of document.querySelectorAll("#nav a"))
    link.parentElement.hidden = Boolean(all[link.hash.slice(1)].admin) && !who.admin;
  say();
  open();
}

// ---- views

function isSame(data) {
  const text = JSON.stringify(data);
  const same = shown.text === text;
  shown.text = text;
  return same;
}

/** Somebody types here, or has chosen text to copy it. */
function isInUse() {
  const chosen = getSelection();
  return shown.body.querySelector("form") || (!chosen.isCollapsed && shown.body.contains(chosen.anchorNode));
}

/** With the same data, too, when it shows relative times; but not under the hands of who works with it. */
function fill(data, first) {
  if (!first && isInUse())
    return;
  const same = isSame(data);
  if (first || !same || shown.body.querySelector("time[title]"))
    refill(shown.body, ...shown.view.show(data, user, again).filter(Boolean));
  if (shown.view.heading)
    byId("title").replaceChildren(whose(shown.view.heading(data)));
  const summary = shown.view.summary ? shown.view.summary(data) : "";
  if (!first && summary !== shown.lead.textContent)
    tell(summary);
  shown.lead.textContent = summary;
}

/** Nothing is there yet to be shown: whoever does not want to wait, asks again. */
function askAgain() {
  refill(shown.body, el("p.buttons", {}, el("button.main", { type: "button", "data-focus": "again", onclick: () => look(true) }, "Try again")));
}

async function look(first) {
  const mine = turn;
  clearTimeout(timer);
  try {
    const data = await shown.view.load(user, shown.which);
    if (mine !== turn)
      return;
    shown.data = data;
    shown.problem.textContent = "";
    if (first || !isAsking())
      fill(data, first);
  } catch (error) {
    if (mine === turn && error.code !== "away")
      shown.problem.textContent = error.message;
    if (mine === turn && !shown.text)
      askAgain();
  }
  if (mine === turn)
    plan();
}

function plan() {
  clearTimeout(timer);
  if (shown && shown.view.every_ms && !isAway() && !document.hidden)
    timer = setTimeout(() => look(!shown.text), shown.view.every_ms);
}

/** After something was done. CHANGE: what it made of the data, for a list that is not quite up to date yet. */
async function again(change) {
  if (!shown)
    return;
  if (!change)
    return look(true);
  fill(shown.data = change(shown.data), true);
  plan();
}

/** The view that the address names, of those that this account may see, and which entry of it. */
function wanted() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  let which = "";
  try {
    which = decodeURIComponent(rest.join("/"));
  } catch {
    // Somebody else's address: the list instead.
  }
  const view = Object.hasOwn(all, name) && (user.admin || !all[name].admin) ? all[name] : all.hosts;
  return which && view.one ? { view: view.one, which } : { view, which: "" };
}

function open() {
  const { view, which } = wanted();
  const section = view.back ? view.back[0] : `#${Object.keys(all).find((name) => all[name] === view)}`;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.hash === section)
      link.setAttribute("aria-current", view.back ? "true" : "page");
    else
      link.removeAttribute("aria-current");
  }
  turn++;
  shown = { view, which, body: el("div", { id: "view" }, el("p.note", {}, "Loading …")), lead: el("p.lead"),
            problem: el("p.problem", { role: "alert" }), text: "" };
  frame(view.title, shown.lead, shown.problem, shown.body).focus({ preventScroll: true });
  if (view.back)
    byId("title").before(el("p.back", {}, el("a", { href: view.back[0] }, `← ${view.back[1]}`)));
  scrollTo(0, 0);
  look(true);
}

// ---- the gateway comes and goes

async function begin() {
  try {
    enter(await get("/v1/account"));
  } catch (error) {
    if (error.code === "away")
      frame("Wavry gateway", el("p.note", {}, "Waiting for the gateway."));
    else if (error.status === 401)
      leave("");
    else
      frame("Wavry gateway", el("p.problem", { role: "alert" }, error.message),
            el("p.buttons", {}, el("button.main", { type: "button", onclick: begin }, "Try again")));
  }
}

listen({
  away: () => {
    byId("away").textContent = "The gateway is not reachable, trying again …";
    byId("away").hidden = false;
    clearTimeout(timer);
  },
  back: () => {
    byId("away").hidden = true;
    say("The gateway is reachable again.");
    if (user)
      look(!shown.text);
    else if (!byId("sign-in"))
      begin();
  },
  ended: () => user && leave("Your sign-in has ended. Sign in again."),
  changed: async () => {
    noQuestion();
    await begin();
    say("This browser has signed in anew in another tab, so nothing was done: try again.");
  },
  demoted: async () => {
    noQuestion();
    await begin();
    say("This account is no administrator any more.");
  },
});

addEventListener("hashchange", () => user && location.hash !== "#main" && open());
document.addEventListener("visibilitychange", () => !document.hidden && shown && !isAway() && shown.view.every_ms && look(!shown.text));
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
byId("sign-out").addEventListener("click", async () => {
  try {
    await call("POST", "/v1/logout");
    leave("You are signed out.");
  } catch (error) {
    say(error.message);
  }
});
begin();
