// Accounts, for administrators.
import { call, get } from "./api.js";
import { asking, badge, card, el, facts, field, form, linkButton, moment, named, say, short, table, whose } from "./dom.js";

const path = (account) => `/v1/accounts/${encodeURIComponent(account.id)}`;
const state = (account) => account.disabled ? badge("bad", "Disabled") : badge("good", "Enabled");
const role = (account) => short(account.admin ? "administrator" : "member");

/** A button that asks, then changes the account. SAYS: after its name. */
function changeButton(account, { id, button, label, kind, title, text, danger = true, says }, wish, refresh) {
  return asking({ id: `${id} ${account.id}`, button, label, kind, question: { title, text: [whose(account.name), text], danger } },
    async () => {
      await call("PATCH", path(account), wish);
      say(whose(account.name), says);
      await refresh();
    });
}

function disableButton(account, refresh, kind) {
  const off = !account.disabled, verb = off ? "Disable" : "Enable";
  return changeButton(account, {
    id: "account", button: verb, label: `${verb} ${account.name}`, kind: off ? `danger${kind}` : "quiet", danger: off,
    title: `${verb} this account?`,
    text: off ? " is signed out everywhere, its hosts and devices too, until it is enabled again."
              : " and its machines can sign in again.",
    says: off ? " is disabled." : " is enabled.",
  }, { disabled: off }, refresh);
}

function roleButton(account, refresh) {
  const give = !account.admin;
  return changeButton(account, {
    id: "role", button: give ? "Make administrator" : "Make member", kind: "quiet", danger: give,
    label: `${give ? "Make administrator" : "Make member"}: ${account.name}`,
    title: give ? "Make this account an administrator?" : "Take the administration away?",
    text: give ? " sees all sessions and the whole audit log then, and may change every relay and account, yours too."
               : " keeps its hosts and devices, and sees no relays or other accounts any more.",
    says: give ? " is an administrator." : " is a member.",
  }, { admin: give }, refresh);
}

function authenticatorButton(account, refresh) {
  return changeButton(account, {
    id: "totp", button: "Take away", label: `Take away the authenticator of ${account.name}`, kind: "danger",
    title: "Take this authenticator away?",
    text: " signs in by password alone then, until a new one is set up. The recovery codes are void, too. Make sure who asks you for this.",
    says: " has no authenticator any more.",
  }, { totp: false }, refresh);
}

const password = (name, label, hint) => field({ name, label, type: "password", required: true, minlength: 10, maxlength: 1024,
                                                autocomplete: "new-password", hint });

function passwordForm(account, refresh) {
  return form({ id: "set-password", label: `Set a password for ${account.name}`, button: "Set password" },
    [password("password", "New password", "10 characters or more. Its owner should change it.")],
    async (values, target) => {
      await call("PATCH", path(account), { password: values.password });
      target.reset();
      say(whose(account.name), " has a new password.");
      await refresh();
    });
}

const account = {
  title: "Account",
  admin: true,
  back: ["#accounts", "Accounts"],
  load: async (user, id) => {
    const found = (await get("/v1/accounts")).accounts.find((a) => a.id === id);
    if (!found)
      throw new Error("This gateway has no such account.");
    return found;
  },
  heading: (a) => a.name,
  show: (a, user, refresh) => [
    facts([["State", state(a)], ["Role", role(a)], ["Authenticator", a.totp ? "set up" : "none"], ["Created", moment(a.created)]]),
    a.id === user.id ? el("p", {}, "This is your own account: change it at ", el("a", { href: "#account" }, "My account"), ".")
      : el("div.cards", {},
        card("password-title", "Password", el("p", {}, "For who has forgotten it. It ends every sign-in of the account."),
             passwordForm(a, refresh)),
        a.totp ? card("totp-title", "Authenticator", el("p", {}, "For who has lost it, and the recovery codes, too."),
                      el("p.buttons", {}, authenticatorButton(a, refresh))) : null,
        card("rights-title", "Rights", el("p", {}, "Nobody can take these from himself, so one administrator is always left."),
             el("p.buttons", {}, roleButton(a, refresh), disableButton(a, refresh, "")))),
  ],
};

export const accounts = {
  title: "Accounts",
  admin: true,
  one: account,
  load: async () => (await get("/v1/accounts")).accounts.sort((a, b) => a.name.localeCompare(b.name)),
  show: (list, user, refresh) => [
    table("Accounts", [
      ["Account", (a) => named(a.name, null, `#accounts/${a.id}`)],
      ["State", state],
      ["Role", role],
      ["Authenticator", (a) => a.totp ? "yes" : "no"],
      ["Created", (a) => moment(a.created)],
      ["", (a) => a.id === user.id ? null : [disableButton(a, refresh, ".quiet"),
                                             linkButton(`#accounts/${a.id}`, "Change", `Change ${a.name}`)]],
    ], list, "There is no account."),
    card("add-title", "Make an account",
      form({ id: "add-account", label: "Make an account", button: "Make account" }, [
        field({ name: "name", label: "Name", required: true, maxlength: 64, autocomplete: "off", autocapitalize: "none",
                spellcheck: "false" }),
        password("password", "First password", "10 characters or more. Its owner should change it."),
        field({ name: "admin", label: "An administrator", type: "checkbox" }),
      ], async (values) => {
        const made = await call("POST", "/v1/accounts", values);
        say("The account ", whose(made.name), " is made.");
        await refresh();
      })),
  ],
};
