// One's own account: password, authenticator, recovery codes.
import { call, get } from "./api.js";
import { badge, card, copyButton, el, facts, field, form, moment, refill, say } from "./dom.js";

const code = (name, label, hint) => field({
  name, label, hint, required: true, inputmode: "numeric", pattern: "[0-9]{6}", maxlength: 6, autocomplete: "one-time-code",
  title: "six digits",
});

/** What proves it is still you: six digits, or else a recovery code. */
export function second(text) {
  const typed = text.trim();
  if (/^[0-9]+$/.test(typed) && typed.length !== 6)
    throw new Error("A code of an authenticator has six digits.");
  return /^[0-9]{6}$/.test(typed) ? { totp: typed } : { recovery: typed };
}

function passwordCard() {
  const fields = [
    field({ name: "present", label: "Present password", type: "password", required: true, autocomplete: "current-password" }),
    field({ name: "next", label: "New password", type: "password", required: true, minlength: 10,
            autocomplete: "new-password", hint: "10 characters or more." }),
    field({ name: "again", label: "New password again", type: "password", required: true, autocomplete: "new-password" }),
  ];
  return card("password-title", "Password",
    el("p", {}, "Changing it ends every other sign-in by password."),
    form({ id: "change-password", label: "Change the password", button: "Change password" }, fields,
      async ({ present, next, again }, target) => {
        if (next !== again)
          throw new Error("The two new passwords are not the same.");
        await call("POST", "/v1/account/password", { password: present, new: next });
        target.reset();
        say("The password is changed.");
      }));
}

function showCodes(place, codes, done) {
  const title = el("h3", { tabindex: -1 }, "Recovery codes");
  refill(place, title,
    el("p", {}, "Each signs you in once when your authenticator is lost. They are shown only now: keep them where the authenticator is not."),
    el("ol.codes", {}, codes.map((c) => el("li", {}, el("code", {}, c)))),
    el("p.buttons", {},
      copyButton(codes.join("\n"), "the codes"),
      el("button.main", { type: "button", onclick: done }, "I have kept them")));
  title.focus();
}

async function showSetup(place, setup, done) {
  const { qrSvg } = await import("./qr.js"); // few need it, and once
  const title = el("h3", { tabindex: -1 }, "Scan this with your authenticator");
  refill(place, title,
    qrSvg(setup.uri, "QR code for your authenticator"),
    facts([["Or type this secret", el("code", { id: "totp-secret" }, setup.secret)],
           ["Or open this address", el("code", { id: "totp-uri" }, setup.uri)]]),
    form({ id: "confirm-totp", label: "Confirm the authenticator", button: "Confirm" },
      [code("totp", "Code that it shows now")],
      async ({ totp }) => {
        const answer = await call("POST", "/v1/account/totp/confirm", { totp });
        say("The authenticator is set up.");
        showCodes(place, answer.recovery, done);
      }));
  title.focus();
}

function setupCard(done) {
  const place = el("div");
  const begin = form({ id: "begin-totp", label: "Set up an authenticator", button: "Set up an authenticator" }, [],
    async () => showSetup(place, await call("POST", "/v1/account/totp"), done));
  place.append(el("p", {}, "A password alone signs you in. With an authenticator, a stolen password is not enough."), begin);
  return card("totp-title", "Authenticator", place);
}

function authenticatorCards(done) {
  const codes = el("div"), either = (name) => field({
    name, label: "Code of your authenticator, or a recovery code", required: true, autocomplete: "one-time-code",
    autocapitalize: "none", spellcheck: "false", maxlength: 32,
  });
  codes.append(el("p", {}, "New ones replace all that you have."),
    form({ id: "renew-codes", label: "Make new recovery codes", button: "Make new codes" }, [either("renew")],
      async ({ renew }) => showCodes(codes, (await call("POST", "/v1/account/recovery", second(renew))).recovery, done)));
  return [
    card("codes-title", "Recovery codes", codes),
    card("totp-title", "Authenticator",
      el("p", {}, badge("good", "Set up"), " Signing in needs its code. Remove it before you set up another."),
      form({ id: "remove-totp", label: "Remove the authenticator", button: "Remove authenticator", danger: true },
        [either("remove")], async ({ remove }) => {
          await call("POST", "/v1/account/totp/remove", second(remove));
          say("The authenticator is removed.");
          await done();
        })),
  ];
}

export const account = {
  title: "My account",
  load: () => get("/v1/account"),
  show: (data, user, refresh) => [
    facts([["Name", el("bdi", {}, data.name)], ["Role", data.admin ? "administrator" : "member"], ["Created", moment(data.created)]]),
    el("div.cards", {}, passwordCard(), data.totp ? authenticatorCards(() => refresh()) : setupCard(() => refresh())),
  ],
};
