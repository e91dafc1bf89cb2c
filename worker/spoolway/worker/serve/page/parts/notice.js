/* What stands where there is nothing to show: it is coming, there is none, or it cannot be had. */

import { h } from "../base/dom.js";
import { marked } from "../base/visible.js";

const TITLES = {
  wrong: "This cannot be asked",
  token: "A token is needed",
  forbidden: "Not for this token",
  missing: "Not there",
  busy: "Busy",
  slow: "Too slow",
  unavailable: "The database is not available",
  away: "No answer",
};

const COMES_BACK = ["unavailable", "away"];

/** It is coming. */
export function loading(text = "Loading …") {
  return h("p", { class: "state loading" }, text);
}

/** There is none. */
export function empty(text, hint = "") {
  return h("div", { class: "state" }, h("p", {}, text), hint && h("p", { class: "dim" }, hint));
}

/** A part of it cannot be had: as `failed`, but quietly where something else says so already. */
export function missing(failure, again) {
  return COMES_BACK.includes(failure.kind) ? empty("Not available at the moment.") : failed(failure, again);
}

/** It cannot be had: why, and again; by itself where the server says when, or may come back. */
export function failed(failure, again) {
  const button = h("button", { type: "button" }, "Try again");
  const notice = h(
    "div",
    { class: `state notice ${failure.kind}`, role: "alert" },
    h("p", { class: "title" }, TITLES[failure.kind] ?? "Something went wrong"),
    h("p", {}, marked(failure.message)),
    failure.kind !== "missing" && failure.kind !== "forbidden" && button,
  );
  let timer = 0;
  button.addEventListener("click", () => {
    clearTimeout(timer);
    again();
  });
  const after = failure.after ?? (COMES_BACK.includes(failure.kind) ? 5 : null);
  if (after !== null) timer = setTimeout(() => notice.isConnected && again(), after * 1000 + 250);
  return notice;
}
