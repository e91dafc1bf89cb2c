/* The period: a few that are usual, and any other. */

import { changed, go, hash, period } from "../base/address.js";
import { h } from "../base/dom.js";
import { date } from "../base/format.js";

const USUAL = [
  ["1h", "1 h"],
  ["24h", "24 h"],
  ["7d", "7 d"],
  ["30d", "30 d"],
];

/** Whether the period goes on with the clock. */
export function isMoving(query) {
  const { from, to } = period(query);
  return /^\d+[a-z]+$/i.test(from) && !to;
}

export function periodPicker(address) {
  const { from, to } = period(address.query);
  const isUsual = !to && USUAL.some(([name]) => name === from);
  return h(
    "div",
    { class: "period" },
    h(
      "ul",
      { class: "segments", "aria-label": "Period" },
      USUAL.map(([name, label]) =>
        h("li", {}, h("a", {
          href: hash(address.view, changed(address.query, { from: name, to: null })),
          "aria-current": !to && name === from ? "true" : null, "data-focus": `period-${name}`,
        }, h("span", { class: "unseen" }, "last "), label)),
      ),
      h("li", {}, custom(address, isUsual, from, to)),
    ),
  );
}

function custom(address, isUsual, from, to) {
  const start = h("input", { type: "datetime-local", id: "from", value: local(from), required: true });
  const end = h("input", { type: "datetime-local", id: "to", value: local(to) });
  const says = h("p", { class: "wrong", role: "alert" });
  const form = h(
    "form",
    { class: "popover" },
    h("label", { for: "from" }, "From (UTC)"),
    start,
    h("label", { for: "to" }, "To (UTC), or now"),
    end,
    says,
    h("button", { type: "submit", class: "primary" }, "Apply"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (end.value && end.value <= start.value) {
      says.textContent = "The end must be after the start.";
      return;
    }
    go(hash(address.view, changed(address.query, {
      from: `${start.value}Z`, to: end.value ? `${end.value}Z` : null,
    })));
  });
  return h(
    "details",
    { class: "drop" },
    h("summary", { "aria-current": isUsual ? null : "true", "data-focus": "period-custom" },
      isUsual ? "Custom" : shown(from, to)),
    form,
  );
}

function shown(from, to) {
  const text = (value) => local(value).replace("T", " ") || value;
  return to ? `${text(from)} – ${text(to)}` : `since ${text(from)}`;
}

/** Return what a date field takes, in UTC; "" for what is no moment. */
function local(value) {
  const made = /^\d{4}-/.test(value) ? date(value) : null;
  return made === null ? "" : made.toISOString().slice(0, 16);
}
