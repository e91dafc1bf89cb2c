/* Asking the API, and what it means when there is no answer. */

import { askForToken } from "./token.js";

const KEY = "spoolway.token";
const KINDS = {
  400: "wrong", 401: "token", 403: "forbidden", 404: "missing", 429: "busy", 504: "slow",
};

/** No answer. `kind` is whose turn it is: wrong, token, forbidden, missing, busy, slow,
 * unavailable (the database), away (the server); `after` is the seconds to wait, where it says so. */
export class Failure extends Error {
  constructor(kind, message, after = null) {
    super(message);
    this.kind = kind;
    this.after = after;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
    dispatchEvent(new Event("spoolway-token"));
  },
};

/** Return the parsed answer. Throws Failure; an AbortError where the signal says so. */
export async function ask(path, query = null, { signal } = {}) {
  const answer = await asked(path, query, signal, {});
  return parsed(await answer.text());
}

/** Return the answer's text and its value. */
export async function askText(path, query = null, { signal } = {}) {
  const text = await (await asked(path, query, signal, {})).text();
  return { text, value: parsed(text) };
}

/** Return an answer to be read as it comes. */
export function askFile(path, query, type) {
  return asked(path, query, undefined, { accept: type });
}

async function asked(path, query, signal, headers) {
  const url = query === null || !query.toString() ? path : `${path}?${query}`;
  for (;;) {
    const used = token.get();
    const answer = await sent(url, signal, used ? { ...headers, authorization: `Bearer ${used}` } : headers);
    if (answer.ok) return answer;
    if (answer.status !== 401) throw await failure(answer);
    // Another one may have been given while this request was on its way.
    if (used === token.get()) token.set(await askForToken(used !== ""));
    if (!token.get()) throw new Failure("token", "A token is needed to see anything.");
  }
}

async function sent(url, signal, headers) {
  try {
    return await fetch(url, { signal, headers, credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("away", "Spoolway does not answer: is spoolway serve running?");
  }
}

async function failure(answer) {
  let said = {};
  try {
    said = (await answer.json()).error ?? {};
  } catch {
    // Something between us and the server has answered.
  }
  const kind = KINDS[answer.status] ?? (said.code === "busy" ? "busy" : "unavailable");
  const after = Number.parseInt(answer.headers.get("retry-after") ?? "", 10);
  return new Failure(
    kind,
    typeof said.message === "string" ? said.message : `The server answered ${answer.status}.`,
    Number.isNaN(after) ? null : after,
  );
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Failure("away", "The answer is no JSON: is there a proxy in between?");
  }
}
