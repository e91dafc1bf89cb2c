/* All that matches, as a file. */

import { askFile, token } from "../base/api.js";
import { announce, h } from "../base/dom.js";

const FORMS = [
  { form: "csv", label: "CSV" },
  { form: "ndjson", label: "NDJSON, a line each" },
  { form: "ndjson", label: "NDJSON with bodies", whole: "true" },
];
const TYPES = { ndjson: "application/x-ndjson", csv: "text/csv" };

/** A menu of the forms, with bodies if it `canBeWhole`. Without a token they are links, and the browser writes as it reads; a link
 * cannot carry one, so with a token the file is put together in memory first. */
export function exportMenu(path, query, name, { canBeWhole = false } = {}) {
  const says = h("p", { class: "wrong", role: "alert" });
  return h(
    "details",
    { class: "drop right" },
    h("summary", { "data-focus": "export" }, "Export"),
    h(
      "div",
      { class: "popover" },
      FORMS.filter(({ whole }) => !whole || canBeWhole).map((one) => item(path, query, name, one, says)),
      h("p", { class: "dim" }, "Everything that matches, not this page alone."),
      says,
    ),
  );
}

function item(path, query, name, { form, label, whole }, says) {
  const asked = new URLSearchParams(query);
  asked.set("format", form);
  if (whole) asked.set("whole", whole);
  const file = `${name}.${form}`;
  if (!token.get()) return h("a", { class: "item", href: `${path}?${asked}`, download: file }, label);
  return h("button", {
    type: "button", class: "item", on: { click: () => saved(path, asked, file, form, says) },
  }, label);
}

/** Have the browser write a file. */
export function save(blob, file) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { download: file });
  link.href = url; // ours, and gone in a moment: not one of the page's links
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

async function saved(path, query, file, form, says) {
  says.textContent = "";
  announce("The export has begun");
  try {
    const answer = await askFile(path, query, TYPES[form]);
    save(await answer.blob(), file);
    announce("The export is done");
  } catch (failure) {
    says.textContent = failure.message;
  }
}
