/* A list's own filters: fields whose values are in the URL. */

import { changed, go, hash } from "../base/address.js";
import { h } from "../base/dom.js";

/** Return a form. `fields`: {name, label, placeholder, options ([value, label]), kind, wide}. */
export function filterForm(address, fields) {
  const form = h(
    "form",
    { class: "filters" },
    fields.map((field) => labelled(field, address.query.get(field.name) ?? "")),
    h("button", { type: "submit", class: "primary" }, "Search"),
    fields.some((field) => address.query.get(field.name)) &&
      h("a", { class: "quiet", href: hash(address.view, changed(address.query, nothing(fields))) }, "Clear"),
  );
  const apply = () => {
    const given = Object.fromEntries(fields.map(({ name }) => [name, form.elements[name].value.trim() || null]));
    go(hash(address.view, changed(address.query, given)));
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  form.addEventListener("change", (event) => event.target.matches("select") && apply());
  return form;
}

const nothing = (fields) => Object.fromEntries(fields.map(({ name }) => [name, null]));

function labelled(field, value) {
  const id = `field-${field.name}`;
  return h(
    "div",
    { class: field.wide ? "field wide-field" : "field" },
    h("label", { for: id }, field.label),
    field.options ? select(field, id, value) : input(field, id, value),
  );
}

function input({ name, placeholder, kind = "text", key = null }, id, value) {
  return h("input", {
    id, name, value, placeholder, type: kind, autocomplete: "off", spellcheck: "false", maxlength: "500",
    min: kind === "number" ? "0" : null, "data-focus": id, "aria-keyshortcuts": key,
  });
}

function select({ name, options }, id, value) {
  return h("select", { id, name, "data-focus": id },
    options.map(([one, label]) => h("option", { value: one, selected: one === value }, label)));
}
