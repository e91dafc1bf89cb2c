/* A conversation for a person to read. Pictures and sounds are named, never loaded. */

import { h, icon } from "../base/dom.js";
import { bytes } from "../base/format.js";
import { block, inline } from "../base/visible.js";
import { folded, isRecord, sizeOf, written } from "../parts/json.js";

const ROLES = {
  system: "System", developer: "Developer", user: "User", assistant: "Assistant", tool: "Tool",
  function: "Tool", error: "Error",
};
const LONG = 3_000; // characters of thinking and results that are shown at once

/** Return the messages as a list; `answers` is how many at the end are the answer. */
export function conversation(messages) {
  return h("ol", { class: "talk" }, messages.map(message));
}

function message({ role, name, parts, ended }) {
  const known = Object.hasOwn(ROLES, role) ? role : "other";
  return h(
    "li",
    { class: `turn ${known}` },
    h(
      "div",
      { class: "who" },
      h("span", { class: "role" }, Object.hasOwn(ROLES, role) ? ROLES[role] : inline(role, { most: 40 })),
      name && h("span", { class: "dim" }, inline(name, { most: 60 })),
    ),
    h(
      "div",
      { class: "parts" },
      parts.length ? parts.map(shown) : h("p", { class: "dim" }, "(nothing)"),
      ended && h("p", { class: "ended dim" }, "ended: ", inline(ended, { most: 60 })),
    ),
  );
}

function shown(part) {
  switch (part.kind) {
    case "text":
      return block(part.text, { class: "prose" });
    case "thinking":
      return folded("Thinking", () => block(part.text, { class: "prose", most: LONG }), { beside: `${part.text.length.toLocaleString("en-GB")} characters` });
    case "refusal":
      return h("div", { class: "part refusal" }, h("p", { class: "label" }, "Refused"), block(part.text, { class: "prose" }));
    case "problem":
      return h("div", { class: "part problem" }, part.type && h("p", { class: "label" }, inline(part.type)), block(part.text, { class: "prose" }));
    case "call":
      return called(part);
    case "result":
      return returned(part);
    case "media":
      return placeholder(part);
    case "cut":
      return cutNote(part.mark);
    default:
      return folded(other(part.value), () => block(written(part.value), { class: "code" }), { beside: sizeOf(part.value) });
  }
}

function called({ name, given, id }) {
  const isPlain = typeof given === "string" || given === null;
  return h(
    "div",
    { class: "part call" },
    h("p", { class: "label" }, icon("M9.5 3a3.5 3.5 0 0 0-3.3 4.7L3 11v2h2l3.3-3.2A3.5 3.5 0 1 0 9.5 3z"), "calls ", h("b", {}, inline(name)), id && h("span", { class: "dim" }, inline(id, { most: 60 }))),
    given !== null && given !== "" && block(isPlain ? given : written(given), { class: "code", most: LONG }),
  );
}

function returned({ id, parts, isError }) {
  return h(
    "div",
    { class: isError ? "part result problem" : "part result" },
    h("p", { class: "label" }, isError ? "failed with" : "returned", id && h("span", { class: "dim" }, inline(id, { most: 60 }))),
    parts.length
      ? parts.map((part) => (part.kind === "text" ? block(part.text, { class: "code", most: LONG }) : shown(part)))
      : h("p", { class: "dim" }, "(nothing)"),
  );
}

function placeholder({ what, type, size, where }) {
  return h(
    "div",
    { class: "part media" },
    icon("M2.5 3.5h11v9h-11zM2.5 10.5l3-3 2.5 2.5 2-2 3.5 3.5M10.5 6.5h.01"),
    h("span", {}, [what, type && ` (${type})`, size ? `, ${bytes(size)}` : "", ", not loaded"].filter(Boolean).join("").replace(/^./, (one) => one.toUpperCase())),
    where && h("span", { class: "dim where" }, inline(where, { most: 300 })),
  );
}

/** What the producer kept of something that was over its cap. */
export function cutNote(mark, what = "This") {
  const size = typeof mark.bytes === "number" ? ` of ${bytes(mark.bytes)}` : "";
  return h(
    "div",
    { class: "part cutoff" },
    h("p", {}, h("b", {}, "Cut when it was recorded. "), `${what}${size} was over the cap of what is kept; `, mark.preview ? "this is how it began:" : "the rest is not stored."),
    typeof mark.preview === "string" && mark.preview && block(mark.preview, { class: "code" }),
    typeof mark.sha256 === "string" && h("p", { class: "dim" }, "SHA-256 of the whole: ", h("code", {}, inline(mark.sha256, { most: 64 }))),
  );
}

function other(value) {
  const type = isRecord(value) && typeof value.type === "string" ? value.type : "";
  return type ? inline(type, { most: 60 }) : "Something else";
}
