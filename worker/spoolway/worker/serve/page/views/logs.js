/* Requests, newest first: filtered, searched, page by page, exported, and watched as they come. */

import { ask } from "../base/api.js";
import { DIMENSIONS, changed, hash, kept, period } from "../base/address.js";
import { announce, fill, h, refill } from "../base/dom.js";
import { clock, count, duration, moment, money } from "../base/format.js";
import { inline } from "../base/visible.js";
import { exportMenu } from "../parts/export.js";
import { valueShown } from "../parts/filters.js";
import { filterForm } from "../parts/form.js";
import { Listing } from "../parts/listing.js";
import { empty, failed } from "../parts/notice.js";
import { outcome } from "../parts/outcome.js";
import { line, table } from "../parts/table.js";
import { Tail } from "../parts/tail.js";

const LIMIT = 50;
const MOST_TAILED = 300;
const FIELDS = [
  { name: "q", label: "Text in bodies, answers, errors", placeholder: "words …", kind: "search", wide: true, key: "/" },
  { name: "outcome", label: "Outcome", options: [["", "any"], ["success", "success"], ["error", "failed"], ["cancelled", "cancelled"]] },
  { name: "status", label: "Status", placeholder: "500, 4xx" },
  { name: "error_type", label: "Error type" },
  { name: "path", label: "Path", placeholder: "/v1/*" },
  { name: "request_id", label: "Request id" },
  { name: "is_stream", label: "Stream", options: [["", "any"], ["true", "streamed"], ["false", "whole"]] },
  { name: "min_duration_ms", label: "At least ms", kind: "number" },
];
const LIVE = ["outcome", "error_type"]; // what can be watched by, beside the dimensions
const OWN = FIELDS.map(({ name }) => name).filter((name) => !DIMENSIONS.includes(name));

export class Logs extends Listing {
  filters = DIMENSIONS;

  constructor() {
    super("Requests");
    this.tail = null;
  }

  async load(address, signal) {
    const isLive = address.query.has("live");
    const query = asked(isLive ? watched(address.query) : address.query);
    this.close();
    this.pages.visit(address.query);
    refill(this.form, filterForm(address, isLive ? FIELDS.filter(({ name }) => LIVE.includes(name)) : FIELDS));
    refill(this.tools, this.live(address, isLive), exportMenu("/api/logs", query, "requests", { canBeWhole: true }));
    this.body.setAttribute("aria-busy", "true");
    try {
      const page = await ask("/api/logs", changed(query, { limit: String(LIMIT), after: address.query.get("after") }), { signal });
      this.show(address, page);
      if (isLive) this.watch(address, query, page.data);
    } catch (failure) {
      if (failure.name === "AbortError") return;
      fill(this.body, failed(failure, () => this.load(address, signal)));
      fill(this.foot);
    } finally {
      this.body.setAttribute("aria-busy", "false");
    }
  }

  close() {
    this.tail?.stop();
    this.tail = null;
  }

  show(address, { data, next, complete }) {
    const notYet = complete === false && h("p", { class: "dim" }, "The time for one search was over: older ones are looked for with the next page.");
    refill(
      this.body,
      data.length
        ? table({ caption: "Requests, newest first", columns: columns(address), rows: data, rowClass: ({ outcome: how }) => how })
        : empty(
            next ? "Nothing found so far." : "No requests match.",
            next ? "Go on with “Older”." : "Try a longer period, or take filters away.",
          ),
    );
    fill(this.foot, notYet, this.pages.links(address, next));
    announce(`${data.length} requests`);
  }

  /** The switch of the live tail. */
  live(address, isLive) {
    return h(
      "a",
      {
        class: isLive ? "button live on" : "button live", role: "switch", "aria-checked": String(isLive),
        href: hash("logs", changed(isLive ? address.query : watched(address.query), { live: isLive ? null : "1" })), "data-focus": "live",
        on: {
          keydown: (event) => {
            if (event.key !== " ") return;
            event.preventDefault();
            event.currentTarget.click();
          },
        },
      },
      h("i", { class: "lamp", "aria-hidden": "true" }),
      "Live",
    );
  }

  watch(address, query, shown) {
    const says = h("p", { class: "dim tailing" }, "Watching: new requests appear at the top.");
    this.foot.replaceChildren(says);
    this.tail = new Tail({
      query: changed(query, { from: null, to: null }),
      onRows: (rows) => {
        says.textContent = "Watching: new requests appear at the top.";
        if (rows.length) this.prepend(address, rows);
      },
      onFailure: (failure) => {
        says.textContent = `Not watching at the moment: ${failure.message}`;
      },
    });
    this.tail.start(shown);
  }

  prepend(address, rows) {
    let body = this.body.querySelector("tbody");
    if (!body) {
      fill(this.body, table({ caption: "Requests, newest first", columns: columns(address), rows: [], rowClass: null }));
      body = this.body.querySelector("tbody");
    }
    for (const row of rows) body.prepend(line(columns(address), row, ({ outcome: how }) => `${how} fresh`));
    while (body.rows.length > MOST_TAILED) body.lastElementChild.remove();
    announce(`${rows.length} new requests`);
  }
}

/** What of a query can be watched by: what comes in is not searched. */
function watched(query) {
  const not = OWN.filter((name) => !LIVE.includes(name));
  return changed(query, Object.fromEntries(not.map((name) => [name, null])));
}

/** What the API is asked for. */
function asked(query) {
  const { from, to } = period(query);
  const given = Object.fromEntries(OWN.map((name) => [name, query.get(name) || null]));
  const dimensions = Object.fromEntries(DIMENSIONS.map((name) => [name, query.getAll(name)]));
  return changed(new URLSearchParams(), { from, to: to || null, ...dimensions, ...given });
}

function columns(address) {
  const known = kept(address.query);
  return [
    {
      label: "Time, UTC", class: "time", cell: (row) => h("a", {
        href: hash("request", known, row.id), title: moment(row.request_time), "data-focus": row.id,
      }, h("time", { datetime: row.request_time }, clock(row.request_time))),
    },
    { label: "Outcome", cell: (row) => outcome(row.outcome, row.http_status) },
    {
      label: "Model", class: "name", cell: (row) => [valueShown(row.model_name), row.is_stream ? h("span", { class: "tag", title: "streamed" }, "stream") : null],
    },
    { label: "Backend", class: "name", wide: true, cell: (row) => valueShown(row.provider) },
    { label: "User", class: "name", wide: true, cell: (row) => valueShown(row.user_id) },
    { label: "Path", class: "name", wide: true, cell: (row) => (row.path ? inline(row.path) : "") },
    { label: "Duration", number: true, cell: (row) => duration(row.duration_ms) },
    { label: "First token", number: true, wide: true, cell: (row) => duration(row.ttft_ms) },
    { label: "Tokens", number: true, wide: true, cell: (row) => count(row.total_tokens) },
    { label: "Cost", number: true, wide: true, cell: (row) => money(row.cost) },
  ];
}
