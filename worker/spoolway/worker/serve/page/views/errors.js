/* Error events, newest first: also those of requests that succeeded at last, or of no request. */

import { ask } from "../base/api.js";
import { changed, hash, kept, period } from "../base/address.js";
import { announce, fill, h, refill } from "../base/dom.js";
import { clock, moment } from "../base/format.js";
import { inline, plain } from "../base/visible.js";
import { exportMenu } from "../parts/export.js";
import { valueShown } from "../parts/filters.js";
import { filterForm } from "../parts/form.js";
import { folded, jsonBlock } from "../parts/json.js";
import { Listing } from "../parts/listing.js";
import { empty, failed } from "../parts/notice.js";

const LIMIT = 50;
const FIELDS = [
  { name: "q", label: "Text in messages", placeholder: "words …", kind: "search", wide: true, key: "/" },
  { name: "error_type", label: "Type" },
  { name: "backend", label: "Backend" },
  { name: "status", label: "Status", placeholder: "500, 4xx" },
];

export class Errors extends Listing {
  filters = ["model"]; // an error event has no other dimension

  constructor() {
    super("Errors");
  }

  async load(address, signal) {
    const query = asked(address.query);
    this.pages.visit(address.query);
    refill(this.form, filterForm(address, FIELDS));
    refill(this.tools, exportMenu("/api/errors", query, "errors"));
    this.body.setAttribute("aria-busy", "true");
    try {
      this.show(address, await ask("/api/errors", changed(query, { limit: String(LIMIT), after: address.query.get("after") }), { signal }));
    } catch (failure) {
      if (failure.name === "AbortError") return;
      fill(this.body, failed(failure, () => this.load(address, signal)));
      fill(this.foot);
    } finally {
      this.body.setAttribute("aria-busy", "false");
    }
  }

  show(address, { data, next, complete }) {
    refill(
      this.body,
      data.length
        ? h("ol", { class: "errors" }, data.map((error) => event(error, address)))
        : empty(next ? "Nothing found so far." : "No errors match.", next ? "Go on with “Older”." : "Try a longer period, or take filters away."),
    );
    fill(
      this.foot,
      complete === false && h("p", { class: "dim" }, "The time for one search was over: older ones are looked for with the next page."),
      this.pages.links(address, next),
    );
    announce(`${data.length} errors`);
  }
}

function asked(query) {
  const { from, to } = period(query);
  const given = Object.fromEntries(FIELDS.map(({ name }) => [name, query.get(name)]));
  // "" is a type of its own here: those without.
  if (query.has("error_type") && !query.get("error_type")) given.error_type = [""];
  return changed(new URLSearchParams(), {
    from, to: to || null, model: query.getAll("model"),
    ...Object.fromEntries(Object.entries(given).map(([name, value]) => [name, value === "" ? null : value])),
  });
}

function event(error, address) {
  return h(
    "li",
    { class: "event" },
    h(
      "div",
      { class: "first" },
      h("b", { class: "type" }, error.error_type ? inline(error.error_type) : "Error"),
      error.http_status !== null && h("span", { class: "status" }, plain(error.http_status)),
      error.backend_name && h("span", { class: "fact" }, h("span", { class: "dim" }, "backend "), inline(error.backend_name)),
      error.model_name && h("span", { class: "fact" }, h("span", { class: "dim" }, "model "), valueShown(error.model_name)),
      h("span", { class: "to" }, toRequest(error, address)),
      h("time", { datetime: error.timestamp, title: moment(error.timestamp) }, clock(error.timestamp)),
    ),
    error.error_message && h("p", { class: "message" }, inline(error.error_message, { most: 2_000 })),
    error.extra_context && folded("Context", () => jsonBlock(error.extra_context)),
  );
}

function toRequest({ id, request_id: given, request_log_id: linked }, address) {
  if (linked) {
    return h("a", { href: hash("request", kept(address.query), linked), "data-focus": id }, "Its request");
  }
  return h("span", { class: "dim" }, given ? "Its request is not there (yet)" : "Of no request");
}
