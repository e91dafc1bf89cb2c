/* Period and dimensions above every list: what is filtered by, and what else there is. */

import { ask } from "../base/api.js";
import { DIMENSIONS, changed, go, hash, narrowed, period, widened } from "../base/address.js";
import { fill, h, icon, refill } from "../base/dom.js";
import { inline, plain } from "../base/visible.js";
import { periodPicker } from "./period.js";

const LABELS = {
  model: "Model", provider: "Provider", outcome: "Outcome", user: "User", key: "API key",
  organization: "Organization", project: "Project",
};
const OUTCOMES = ["success", "error", "cancelled"];
const WITHOUT = "(none)";

/** What a dimension is called. */
export const labelOf = (dimension) => LABELS[dimension];

/** A dimension's value for a person; the empty one is "without". */
export function valueShown(value) {
  return value === null || value === undefined || value === ""
    ? h("span", { class: "dim" }, WITHOUT)
    : inline(value);
}

export class FilterBar {
  constructor(element) {
    this.element = element;
    this.known = {};
    this.asked = "";
  }

  /** Show the bar for an address: `dimensions` apply there, and `extra` stands at its end. */
  show(address, dimensions, extra = null) {
    this.dimensions = dimensions;
    refill(
      this.element,
      h(
        "div",
        { class: "bar", role: "search", "aria-label": "Filters" },
        periodPicker(address),
        this.chips(address),
        h("div", { class: "end" }, extra),
      ),
    );
  }

  hide() {
    fill(this.element);
  }

  chips(address) {
    const set = DIMENSIONS.flatMap((dimension) =>
      address.query.getAll(dimension).map((value) => this.chip(address, dimension, value)),
    );
    const none = Object.fromEntries(DIMENSIONS.map((dimension) => [dimension, null]));
    return h(
      "div",
      { class: "chips" },
      set,
      this.adder(address),
      set.length > 1 &&
        h("a", { class: "quiet", href: hash(address.view, changed(address.query, none)) }, "Clear"),
    );
  }

  chip(address, dimension, value) {
    const isIdle = !this.dimensions.includes(dimension);
    return h(
      "span",
      { class: isIdle ? "chip idle" : "chip", title: isIdle ? "Not known here, and so not filtered by" : null },
      h("span", { class: "dim" }, LABELS[dimension]),
      valueShown(value),
      h("a", {
        class: "remove", href: hash(address.view, widened(address.query, dimension, value)),
        "aria-label": `Remove the filter ${LABELS[dimension]}: ${plain(value || WITHOUT)}`,
      }, icon("M4 4l8 8M12 4l-8 8")),
    );
  }

  adder(address) {
    const choice = h("select", { id: "dimension" },
      this.dimensions.map((dimension) => h("option", { value: dimension }, LABELS[dimension])));
    const known = h("datalist", { id: "known-values" });
    const value = h("input", {
      id: "value", list: "known-values", autocomplete: "off", spellcheck: "false", maxlength: "500",
    });
    const offer = () => fill(known, this.values(choice.value).map((one) => h("option", { value: one })));
    const form = h(
      "form",
      { class: "popover" },
      h("label", { for: "dimension" }, "Filter by"),
      choice,
      h("label", { for: "value" }, "Value (empty: without)"),
      value,
      known,
      h("button", { type: "submit", class: "primary" }, "Add filter"),
    );
    choice.addEventListener("change", offer);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      go(hash(address.view, narrowed(address.query, choice.value, value.value)));
    });
    return h(
      "details",
      {
        class: "drop", on: {
          toggle: async (event) => {
            if (!event.target.open) return;
            await this.learn(address);
            offer();
          },
        },
      },
      h("summary", { "data-focus": "add-filter" }, icon("M8 3v10M3 8h10"), "Filter"),
      form,
    );
  }

  values(dimension) {
    if (dimension === "outcome") return OUTCOMES;
    const found = this.known[`${dimension}s`] ?? this.known[dimension] ?? [];
    return found.filter((one) => typeof one === "string" && one !== "");
  }

  /** Ask what values there are in the period. Without an answer they are typed in. */
  async learn(address) {
    const asked = new URLSearchParams(Object.entries(period(address.query)).filter(([, value]) => value));
    if (this.asked === asked.toString()) return;
    try {
      this.known = await ask("/api/filters", asked);
      this.asked = asked.toString();
    } catch {
      this.known = {};
    }
  }
}
