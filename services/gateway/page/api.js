// Talks to the gateway's API, signed in by its cookie, and knows whether the gateway can be reached. Keeps no
// secret but the value of X-Wavry-CSRF, which is worth nothing without the cookie that no script can read.

const AGAIN_MS = 2000;
const WAIT_MS = 20000;

let csrf = "";
let away = false;
const listeners = { away: () => {}, back: () => {}, ended: () => {}, changed: () => {}, demoted: () => {} };

/** What the API answered, in its own words. status 0: the gateway was not reached. */
export class Refusal extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function listen(calls) {
  Object.assign(listeners, calls);
}

export function isAway() {
  return away;
}

export function setCsrf(value) {
  csrf = value;
}

/** The gateway itself said nothing: a network, a proxy in front of it, or its own end spoke. */
function isNotItself(status, body) {
  return status === 0 || ((status === 502 || status === 503 || status === 504) &&
                          (!body || !body.error || body.error === "draining"));
}

async function ask() {
  try {
    const answer = await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(WAIT_MS) });
    if (answer.ok) {
      away = false;
      listeners.back();
      return;
    }
  } catch {
    // Still away.
  }
  setTimeout(ask, AGAIN_MS);
}

function lost() {
  if (away)
    return;
  away = true;
  listeners.away();
  setTimeout(ask, AGAIN_MS);
}

async function read(answer) {
  const text = await answer.text();
  if (!text)
    return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Returns the answer's body. Throws a Refusal. An ended session, and one that another tab began, are
 * told to the listener, too. */
export async function call(method, path, body) {
  const headers = {};
  let answer = null, told = null;
  if (method !== "GET")
    headers["X-Wavry-CSRF"] = csrf;
  if (body !== undefined)
    headers["Content-Type"] = "application/json";
  try {
    answer = await fetch(path, {
      method, headers, cache: "no-store", credentials: "same-origin", redirect: "error",
      body: body === undefined ? undefined : JSON.stringify(body), signal: AbortSignal.timeout(WAIT_MS),
    });
    told = await read(answer);
  } catch {
    answer = null;
  }
  const status = answer ? answer.status : 0;
  if (isNotItself(status, told)) {
    lost();
    throw new Refusal(0, "away", method === "GET" ? "The gateway is not reachable."
      : "The gateway is not reachable. Whether this was done is not known: look again when it is back.");
  }
  if (answer.ok)
    return told;
  const refusal = new Refusal(status, told && told.error ? told.error : "unknown",
    told && told.message ? told.message : `The gateway answered ${status}.`);
  if (refusal.code === "no_token" || refusal.code === "bad_token")
    listeners.ended();
  if (refusal.code === "csrf") // the cookie is of a newer sign-in than this page
    listeners.changed();
  if (refusal.code === "not_admin")
    listeners.demoted();
  throw refusal;
}

export const get = (path) => call("GET", path);
