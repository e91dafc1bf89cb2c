/* How a request ended: a word and a shape, never a colour alone. */

import { h, icon } from "../base/dom.js";
import { plain } from "../base/visible.js";

const SHAPES = {
  success: ["M3.5 8.5l3 3 6-7"],
  error: ["M4 4l8 8M12 4l-8 8"],
  cancelled: ["M3.5 8h9"],
};
const WORDS = { success: "Success", error: "Failed", cancelled: "Cancelled" };

/** `status` is the HTTP status beside it. */
export function outcome(value, status = null) {
  const known = Object.hasOwn(WORDS, value ?? "") ? value : "unknown";
  return h(
    "span",
    { class: `outcome ${known}` },
    icon(...(SHAPES[known] ?? ["M6 6.2a2 2 0 1 1 2.8 1.8c-.6.3-.8.6-.8 1.4M8 11.8v.2"])),
    h("span", { class: "word" }, WORDS[known] ?? "Unknown"),
    status !== null && status !== undefined && h("span", { class: "status" }, plain(status)),
  );
}
