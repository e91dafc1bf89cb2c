/* What a log says, as text for a person to read. It is hostile: characters that hide, turn the
 * reading direction or imitate others are shown by their number, and what is huge is cut. */

import { h } from "./dom.js";
import { bytes } from "./format.js";

/* Controls but tab and line feed, soft hyphen, everything of no width, every turn of direction,
 * separators, byte order marks, halves of characters, private ones and tags. A joiner inside of an
 * emoji, or a non-joiner between two letters, is what it is there for. */
const HIDDEN = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5" +
    "\\u180b-\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\uffa0" +
    "\\ufff0-\\ufffc\\u{e0000}-\\u{e0fff}\\p{Surrogate}\\p{Private_Use}]" +
    "|(?<!\\p{L}|\\p{M})\\u200c|(?<!\\p{L}|\\p{M}|\\p{Emoji}|\\ufe0f)\\u200d",
  "gu",
);
const HIDDEN_RUNS = new RegExp(`(${HIDDEN.source})\\1*`, "gu");
const NAMES = {
  0x0: "NUL", 0x7: "BEL", 0x8: "BS", 0xd: "CR", 0x1b: "ESC", 0x7f: "DEL", 0xad: "soft hyphen",
  0x200b: "zero width space", 0x200c: "zero width non-joiner", 0x200d: "zero width joiner",
  0x200e: "left-to-right mark", 0x200f: "right-to-left mark",
  0x202a: "left-to-right embedding", 0x202b: "right-to-left embedding",
  0x202c: "end of direction", 0x202d: "left-to-right override", 0x202e: "right-to-left override",
  0x2066: "left-to-right isolate", 0x2067: "right-to-left isolate",
  0x2068: "first strong isolate", 0x2069: "end of isolate", 0xfeff: "byte order mark",
};
const RUN = 200;
const UNBROKEN = new RegExp(`(\\S{${RUN},})`, "u");
const PIECES = /.{1,48}/gsu;
const CELL = 200;
const BLOCK = 6_000;

/** Return text and marks for what hides, as nodes. */
export function marked(value) {
  const text = String(value).replaceAll("\r\n", "\n");
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(HIDDEN_RUNS)) {
    if (match.index > end) parts.push(...breakable(text.slice(end, match.index)));
    const code = match[0].codePointAt(0);
    const times = match[0].length / String.fromCodePoint(code).length;
    parts.push(h("span", { class: "hidden-one", title: NAMES[code] }, number(code), times > 1 && `×${times}`));
    end = match.index + match[0].length;
  }
  if (end < text.length) parts.push(...breakable(text.slice(end)));
  return parts;
}

/* A browser takes seconds for the lines of one word of 30,000 letters, and minutes for a larger one:
 * what has no spaces gets places where it may be broken. Nobody sees or copies them. */
function breakable(text) {
  if (!UNBROKEN.test(text)) return [text];
  return text.split(UNBROKEN).flatMap((part) =>
    part.length < RUN ? part : part.match(PIECES).flatMap((piece) => [piece, h("wbr")]));
}

/** Return the same as plain text, for a title or a name that is read aloud. */
export function plain(value, most = CELL) {
  const text = head(String(value).replaceAll("\r\n", "\n"), most);
  return text.replace(HIDDEN, (one) => `[${number(one.codePointAt(0))}]`);
}

/** Return a short text in a line of its own direction, cut where it is long. */
export function inline(value, { most = CELL, ...attributes } = {}) {
  const text = String(value);
  return h(
    "bdi",
    { title: text.length > 24 ? plain(text, 600) : null, ...attributes },
    marked(head(text, most)),
  );
}

/** Return a text of any length: lines as they are, and the rest of a long one on demand. */
export function block(value, { most = BLOCK, ...attributes } = {}) {
  const text = String(value);
  // What may scroll by itself is reached by the keyboard.
  const tabindex = attributes.class === "code" && (text.length > 2_000 || text.split("\n").length > 24) ? "0" : "-1";
  const pre = h("pre", { tabindex, ...attributes, dir: "auto" }, marked(head(text, most)));
  if (text.length <= most) return pre;
  const size = bytes(new Blob([text]).size);
  const more = h("button", { type: "button", class: "more" }, `Show all (${size})`);
  more.addEventListener("click", () => {
    pre.replaceChildren(...marked(text));
    more.remove();
    pre.focus();
  });
  return h("div", { class: "cut" }, pre, more);
}

/** Return a text's beginning: never half a character. */
function head(text, most) {
  if (text.length <= most) return text;
  const cut = text.slice(0, most);
  return `${/[\ud800-\udbff]$/.test(cut) ? cut.slice(0, -1) : cut}…`;
}

function number(code) {
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}
