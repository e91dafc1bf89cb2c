/* JSON as it is, folded until somebody wants to see it. */

import { h } from "../base/dom.js";
import { bytes } from "../base/format.js";
import { block } from "../base/visible.js";

const MOST = 20_000;

/** A JSON value as indented text; a text as itself. Tracebacks and the like keep their lines. */
export function jsonBlock(value) {
  if (typeof value === "string") return block(value, { class: "code" });
  const lines = isRecord(value) ? Object.entries(value).filter(([, one]) => isText(one)) : [];
  if (!lines.length) return block(written(value), { class: "code", most: MOST });
  const rest = Object.fromEntries(Object.entries(value).filter(([, one]) => !isText(one)));
  return h(
    "div",
    {},
    Object.keys(rest).length ? block(written(rest), { class: "code", most: MOST }) : null,
    lines.map(([name, text]) => [h("p", { class: "dim label" }, block(name, { class: "inline" })), block(text, { class: "code", most: MOST })]),
  );
}

/** A fold that makes its inside when it is opened first. */
export function folded(label, make, { open = false, beside = "" } = {}) {
  const inside = h("div", { class: "inside" });
  const details = h(
    "details",
    { class: "fold" },
    h("summary", {}, label, beside && h("span", { class: "dim" }, ` ${beside}`)),
    inside,
  );
  const show = () => details.open && !inside.hasChildNodes() && inside.append(make());
  details.addEventListener("toggle", show);
  if (open) {
    details.open = true;
    show();
  }
  return details;
}

/** How much JSON it is. */
export const sizeOf = (value) => bytes(new Blob([written(value)]).size);

/** Indented JSON; what is nested too deeply for that in one line, or not at all. */
export function written(value) {
  try {
    return JSON.stringify(value, null, 2) ?? "";
  } catch {
    return "nested too deeply to be shown: download it";
  }
}

export const isRecord = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

const isText = (value) => typeof value === "string" && (value.includes("\n") || value.length > 200);
