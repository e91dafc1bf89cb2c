/* Tables: what is in a column is said once, for all rows. */

import { h } from "../base/dom.js";

/** Return a table.
 *
 * `columns`: {label, cell(row), number, wide, name, title}; a `wide` one is left out on a phone, one
 * with `name` can be ordered by (`order`: the current one; `onOrder(name)`), always largest first.
 * `rowClass(row)` is a row's class. */
export function table({ caption, columns, rows, order = null, onOrder = null, rowClass = null }) {
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map((column) => heading(column, order, onOrder)))),
      h("tbody", { on: { keydown: moved } }, rows.map((row) => line(columns, row, rowClass))),
    ),
  );
}

/** Return one row, for tables that grow. */
export function line(columns, row, rowClass = null) {
  return h(
    "tr",
    { class: rowClass?.(row) || null },
    columns.map((column, index) =>
      h(index ? "td" : "th", { class: classes(column), scope: index ? null : "row" }, column.cell(row)),
    ),
  );
}

function heading(column, order, onOrder) {
  const attributes = { class: classes(column), scope: "col", title: column.title };
  if (!column.name || !onOrder) return h("th", attributes, column.label);
  const isOrder = column.name === order;
  return h(
    "th",
    { ...attributes, "aria-sort": isOrder ? "descending" : "none" },
    h(
      "button",
      {
        type: "button", class: "order", "data-focus": `order-${column.name}`,
        on: { click: () => onOrder(column.name) },
      },
      column.label,
      h("span", { class: "arrow", "aria-hidden": "true" }, isOrder ? "↓" : ""),
    ),
  );
}

function classes(column) {
  return [column.number && "number", column.wide && "wide", column.class].filter(Boolean).join(" ") || null;
}

/** Up and down go from link to link. */
function moved(event) {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const row = event.target.closest("tr");
  if (!step || !event.target.matches("a, button") || event.altKey || event.ctrlKey || event.metaKey) return;
  const link = row[step]?.querySelector("a, button");
  if (link) {
    event.preventDefault();
    link.focus();
  }
}
