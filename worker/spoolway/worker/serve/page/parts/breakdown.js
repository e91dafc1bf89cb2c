/* Who and what it was: a table by one dimension, each value a filter. */

import { ask } from "../base/api.js";
import { changed, hash, narrowed } from "../base/address.js";
import { fill, h, refill } from "../base/dom.js";
import { count, duration, mass, money, percent } from "../base/format.js";
import { labelOf, valueShown } from "./filters.js";
import { empty, loading, missing } from "./notice.js";
import { table } from "./table.js";

const ROWS = 10;

export class Breakdown {
  /** `choices`: dimensions that it can be by. `isWide` has more columns. */
  constructor({ choices, isWide = false }) {
    this.choices = choices;
    this.isWide = isWide;
    this.by = choices[0];
    this.order = "requests";
    this.title = h("h2", {});
    this.body = h("div", { "aria-busy": "true" }, loading());
    this.element = h("section", { class: "card plain" }, h("div", { class: "heading" }, this.title, this.choice()), this.body);
  }

  choice() {
    if (this.choices.length < 2) return null;
    const select = h("select", { "aria-label": "By which dimension" },
      this.choices.map((dimension) => h("option", { value: dimension }, labelOf(dimension))));
    select.addEventListener("change", () => {
      this.by = select.value;
      this.load(this.address, this.query, undefined);
    });
    return select;
  }

  /** `query`: period and filters, as the API takes them. Shows what failed in its own place. */
  async load(address, query, signal) {
    this.address = address;
    this.query = query;
    this.title.textContent = `By ${labelOf(this.by).replace(/^[A-Z](?=[a-z])/, (one) => one.toLowerCase())}`;
    const asked = changed(query, { dimension: this.by, order: this.order, limit: String(ROWS) });
    try {
      this.show(await ask("/api/usage/by", asked, { signal }));
    } catch (failure) {
      if (failure.name === "AbortError") return;
      fill(this.body, missing(failure, () => this.load(address, query, signal)));
    } finally {
      this.body.setAttribute("aria-busy", "false");
    }
  }

  show({ data, others, total }) {
    if (!data.length) {
      fill(this.body, empty("No requests in this period."));
      return;
    }
    const rows = others ? [...data, { ...others, isOthers: true }] : data;
    const most = Math.max(...data.map((row) => amount(row, this.order)), 0);
    refill(
      this.body,
      table({
        caption: `Usage by ${labelOf(this.by)}`,
        columns: this.columns(most, total),
        rows,
        order: this.order,
        onOrder: (name) => {
          this.order = name;
          this.load(this.address, this.query, undefined);
        },
        rowClass: (row) => (row.isOthers ? "others" : ""),
      }),
    );
  }

  columns(most, total) {
    const number = (label, name, format, more = {}) => ({
      label, name: more.order, number: true, wide: more.wide, title: more.title, cell: (row) => format(row[name]),
    });
    const wide = this.isWide;
    return [
      { label: labelOf(this.by), class: "name", cell: (row) => this.name(row) },
      {
        label: "Requests", name: "requests", number: true,
        cell: (row) => [count(row.requests), bar(row, this.order, most)],
      },
      {
        label: "Failed", name: "failed", number: true,
        cell: (row) => h("span", {
          class: row.failed ? "bad" : "dim", title: row.failed ? `${count(row.failed)} of ${count(row.requests)}` : null,
        }, count(row.failed), wide && row.failed > 0 && h("span", { class: "wide" }, ` (${percent((100 * row.failed) / row.requests)})`)),
      },
      number("Tokens", "total_tokens", count, { order: "total_tokens" }),
      {
        label: "Cost", name: "cost", number: true, wide: true,
        cell: (row) => money(row.priced_requests ? row.cost : null),
      },
      wide && {
        label: "CO₂e", name: "kgco2eq", number: true, wide: true, title: "the middle of least and most",
        cell: (row) => mass(row.kgco2eq_max ? middle(row.kgco2eq_min, row.kgco2eq_max) : null),
      },
      wide && number("p50", "p50", duration, { wide: true, title: "half of the requests took no longer" }),
      wide && number("p95", "p95", duration, { wide: true, title: "19 of 20 requests took no longer" }),
    ].filter(Boolean);
  }

  name(row) {
    if (row.isOthers) return h("span", { class: "dim" }, "others");
    return h(
      "a",
      {
        href: hash(this.address.view, narrowed(this.address.query, this.by, row.value ?? "")),
        title: "Show these alone", "data-focus": `${this.by}-${row.value ?? ""}`,
      },
      valueShown(row.value),
    );
  }
}

/** What a row is ordered by. */
function amount(row, order) {
  return (order === "kgco2eq" ? middle(row.kgco2eq_min, row.kgco2eq_max) : row[order]) ?? 0;
}

/** The middle of a range; null without one. */
export function middle(least, most) {
  if (typeof least !== "number" && typeof most !== "number") return null;
  return ((least ?? most) + (most ?? least)) / 2;
}

function bar(row, order, most) {
  if (row.isOthers || !most) return null;
  const mark = h("i", {});
  mark.style.setProperty("width", `${Math.max(1, (100 * amount(row, order)) / most)}%`);
  return h("span", { class: "share", "aria-hidden": "true" }, mark);
}
