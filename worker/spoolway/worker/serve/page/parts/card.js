/* A card of the overview: what it is, its number, what goes with it, and how it went over time. */

import { fill, h } from "../base/dom.js";
import { exact } from "../base/format.js";
import { Chart } from "./chart.js";

let last = 0;

export class Card {
  /** `figure(value)` shows the number; `series` and `format` are the chart's. */
  constructor({ title, figure, unit = "", series, format, scale }) {
    this.figure = figure;
    this.unit = unit;
    this.number = h("p", { class: "figure" }, "–");
    this.beside = h("p", { class: "beside" });
    this.chart = new Chart({ title: `${title} over time`, series, format, scale });
    last += 1;
    const id = `card-${last}`;
    this.element = h(
      "section",
      { class: "card", "aria-labelledby": id },
      h("h2", { id }, title),
      h("div", { class: "said" }, this.number, this.beside),
      this.chart.element,
    );
  }

  /** `value` is the number as the API has it, `beside` what stands next to it. */
  show(value, beside, times, columns, step) {
    const shown = this.figure(value);
    const full = exact(value);
    fill(
      this.number,
      typeof value === "number"
        ? h("data", { value: String(value), title: full === shown ? null : String(value) }, shown)
        : shown,
      this.unit && h("span", { class: "unit" }, this.unit),
    );
    fill(this.beside, beside);
    this.chart.show(times, columns, step);
  }

  close() {
    this.chart.close();
  }
}
