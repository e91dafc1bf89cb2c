/* What happened: numbers, how they went, by whom, and what failed last. */

import { Failure, ask } from "../base/api.js";
import { DIMENSIONS, changed, hash, period } from "../base/address.js";
import { announce, fill, h, refill } from "../base/dom.js";
import { compact, count, duration, energy, hour, mass, money, percent, range } from "../base/format.js";
import { inline } from "../base/visible.js";
import { Breakdown, middle } from "../parts/breakdown.js";
import { Card } from "../parts/card.js";
import { failures } from "../parts/failures.js";
import { empty, failed, loading, missing } from "../parts/notice.js";
import { pipeline } from "../parts/pipeline.js";
import { table } from "../parts/table.js";

const FAILURES = 8;
const ERRORS = 40; // among them those of the failures that are shown
const HOUR = 3_600;
const DAY = 86_400;

export class Overview {
  isMoving = true;
  title = "Overview";
  filters = DIMENSIONS;

  constructor() {
    this.cards = cards();
    this.models = new Breakdown({
      choices: ["model", "provider", "outcome", "organization", "project"], isWide: true,
    });
    this.users = new Breakdown({ choices: ["user"] });
    this.keys = new Breakdown({ choices: ["key"] });
    this.pipeline = h("div", { class: "strip", "aria-label": "Pipeline", role: "group" });
    this.says = h("div", {});
    this.counted = h("p", { class: "counted dim" });
    this.failures = h("div", {}, loading());
    this.types = h("div", {}, loading());
    this.all = h("a", { class: "quiet" }, "All failed requests");
    this.element = h(
      "div",
      { class: "overview" },
      h("h1", { class: "unseen", tabindex: "-1" }, "Overview"),
      this.pipeline,
      this.says,
      h("div", { class: "cards" }, Object.values(this.cards).map((card) => card.element)),
      this.counted,
      h(
        "div",
        { class: "two wide-first" },
        h("section", { class: "card plain" }, h("div", { class: "heading" }, h("h2", {}, "Failed last"), this.all), this.failures),
        h("section", { class: "card plain" }, h("div", { class: "heading" }, h("h2", {}, "Errors by type")), this.types),
      ),
      this.models.element,
      h("div", { class: "two" }, this.users.element, this.keys.element),
    );
  }

  async load(address, signal) {
    const query = asked(address.query);
    this.all.setAttribute("href", hash("logs", changed(address.query, { outcome: "error" })));
    await Promise.all([
      this.loadUsage(address, query, signal),
      this.loadFailures(address, query, signal),
      this.loadPipeline(signal),
      this.models.load(address, query, signal),
      this.users.load(address, query, signal),
      this.keys.load(address, query, signal),
    ]);
  }

  close() {
    for (const card of Object.values(this.cards)) card.close();
  }

  async loadUsage(address, query, signal) {
    try {
      const { historical } = await ask("/api/usage", query, { signal });
      if (historical.status !== "available") {
        throw new Failure("unavailable", historical.message ?? "");
      }
      fill(this.says);
      this.showUsage(historical, address);
    } catch (failure) {
      if (failure.name === "AbortError") return;
      fill(this.says, failed(failure, () => this.load(address, signal)));
      fill(this.types, empty("Not available at the moment."));
    }
  }

  showUsage(usage, address) {
    const trends = new Trends(usage);
    const { total_stats: total, token_stats: tokens, cost_stats: cost, footprint_stats: footprint } = usage;
    const { requests, failures: failing, tokens: token, cost: costs, co2, latency } = this.cards;
    const rate = total.total_requests ? (100 * total.failed_requests) / total.total_requests : null;

    requests.show(
      total.total_requests,
      total.total_requests
        ? [h("b", {}, percent(total.success_rate)), " succeeded", some(total.cancelled_requests, "cancelled"), some(total.unknown_requests, "unknown")]
        : "none in this period",
      ...trends.of(["usage_trends", "count"], ["error_trends", "count"]),
    );
    failing.show(
      total.failed_requests,
      total.total_requests ? [h("b", {}, percent(rate)), " of all requests"] : "",
      ...trends.share(["error_trends", "count"], ["usage_trends", "count"]),
    );
    token.show(
      tokens.total_tokens,
      `${compact(tokens.total_prompt_tokens)} in · ${compact(tokens.total_completion_tokens)} out · ${compact(tokens.total_cached_tokens)} cached`,
      ...trends.of(["token_trends", "total_tokens"]),
    );
    costs.show(
      cost.priced_requests ? cost.total_cost : null,
      cost.unpriced_requests ? `${count(cost.unpriced_requests)} requests without a price` : "",
      ...trends.of(["cost_trends", "cost"]),
    );
    co2.show(
      footprint.kgco2eq_max ? middle(footprint.kgco2eq_min, footprint.kgco2eq_max) : null,
      footprint.kgco2eq_max ? [`${range(footprint.kgco2eq_min, footprint.kgco2eq_max, mass)} · `, range(footprint.kwh_min, footprint.kwh_max, energy)] : "none estimated",
      ...(footprint.kgco2eq_max
        ? trends.of(["footprint_trends", "kgco2eq_min"], ["footprint_trends", "kgco2eq_max"])
        : trends.unknown(2)),
    );
    const { duration_ms: took = {}, ttft_ms: first = {} } = usage.percentiles ?? {};
    latency.show(
      took.p95 ?? null,
      [typeof took.p50 === "number" && `half within ${duration(took.p50)}`, typeof first.p50 === "number" && ` · first token ${duration(first.p50)}`],
      ...trends.of(["latency_trends", "p50"], ["latency_trends", "p95"]),
    );
    fill(this.counted, `Whole hours, UTC: ${hour(total.start_time)} – ${hour(total.end_time)}`);
    this.showTypes(usage.errors_by_type, address);
    announce(`${count(total.total_requests)} requests, ${count(total.failed_requests)} failed`);
  }

  showTypes(types, address) {
    if (!types) {
      fill(this.types, empty("Errors have a model alone:", "take the other filters away to count them by type."));
    } else if (!types.length) {
      fill(this.types, empty("No errors in this period."));
    } else {
      const link = (row) => hash("errors", changed(address.query, { error_type: [row.error_type ?? ""] }));
      refill(this.types, table({
        caption: "Errors by type",
        columns: [
          {
            label: "Type", class: "name", cell: (row) => h("a", { href: link(row), "data-focus": `type-${row.error_type}` },
              row.error_type ? inline(row.error_type) : h("span", { class: "dim" }, "(none)")),
          },
          { label: "Events", number: true, cell: (row) => count(row.count) },
        ],
        rows: types.slice(0, 8),
      }));
    }
  }

  async loadFailures(address, query, signal) {
    const one = new URLSearchParams(period(address.query).to ? { from: query.get("from"), to: query.get("to") } : { from: query.get("from") });
    const ofErrors = changed(one, { model: query.getAll("model"), limit: String(ERRORS) });
    try {
      const [requests, errors] = await Promise.all([
        ask("/api/logs", changed(query, { outcome: "error", limit: String(FAILURES) }), { signal }),
        ask("/api/errors", ofErrors, { signal }),
      ]);
      refill(this.failures, failures(requests.data, errors.data, address.query));
      // The errors of a failure may be older than those of others.
      const found = new Set(errors.data.map((error) => error.request_log_id ?? error.request_id));
      const missing = requests.data.filter((request) => !found.has(request.id));
      if (!missing.length) return;
      const more = await Promise.all(missing.map((request) =>
        ask("/api/errors", changed(one, { request: request.id, limit: "1" }), { signal })));
      refill(this.failures, failures(requests.data, [...errors.data, ...more.flatMap((page) => page.data)], address.query));
    } catch (failure) {
      if (failure.name === "AbortError") return;
      fill(this.failures, missing(failure, () => this.loadFailures(address, query, signal)));
    }
  }

  async loadPipeline(signal) {
    try {
      fill(this.pipeline, pipeline(await ask("/api/status", null, { signal })));
    } catch (failure) {
      if (failure.name === "AbortError") return;
      fill(this.pipeline, h("p", { class: "dim" }, failure.kind === "forbidden"
        ? "Queue, spool and dead letters are shown to tokens that see everything."
        : `Queue, spool and dead letters: ${failure.message}`));
    }
  }
}

/** What the API is asked for: period and dimensions alone. */
function asked(query) {
  const { from, to } = period(query);
  return changed(new URLSearchParams(), {
    from, to: to || null, ...Object.fromEntries(DIMENSIONS.map((name) => [name, query.getAll(name)])),
  });
}

const some = (number, what) => (number ? ` · ${count(number)} ${what}` : "");

/** The trends of an answer as uPlot takes them. All have the same buckets. */
class Trends {
  constructor(usage) {
    this.usage = usage;
    this.times = (usage.usage_trends ?? []).map((point) => seconds(point.timestamp));
    this.step = usage.interval === "day" ? DAY : HOUR;
  }

  of(...series) {
    return [this.times, series.map(([name, field]) => this.column(name, field)), this.step];
  }

  /** Nothing is drawn where nobody knows: not a line at zero. */
  unknown(series) {
    return [this.times, Array.from({ length: series }, () => this.times.map(() => null)), this.step];
  }

  share([part, field], [whole, wholeField]) {
    const of = this.column(whole, wholeField);
    const shares = this.column(part, field).map((value, at) => (of[at] ? (100 * (value ?? 0)) / of[at] : null));
    return [this.times, [shares], this.step];
  }

  column(name, field) {
    const values = new Map((this.usage[name] ?? []).map((point) => [seconds(point.timestamp), point[field]]));
    return this.times.map((time) => {
      const value = values.get(time);
      return typeof value === "number" ? value : null;
    });
  }
}

const seconds = (timestamp) => Date.parse(timestamp) / 1000;

/** A duration on an axis: 500 ms, 2.5 s, 5 min. */
function briefly(ms) {
  if (ms < 1000) return `${compact(ms)} ms`;
  return ms < 60_000 ? `${compact(ms / 1000)} s` : `${compact(ms / 60_000)} min`;
}

function cards() {
  const bars = (label, colour) => ({ label, colour, shape: "bars" });
  const line = (label, colour, dashed = false) => ({ label, colour, shape: "line", dashed });
  return {
    requests: new Card({
      title: "Requests", figure: count, format: count, scale: compact,
      series: [bars("Requests", "--chart-requests"), bars("Failed", "--chart-failed")],
    }),
    failures: new Card({
      title: "Failed requests", figure: count, format: percent, scale: (value) => `${compact(value)} %`,
      series: [line("Failed of all", "--chart-failed")],
    }),
    latency: new Card({
      title: "Duration", figure: duration, unit: "p95", format: duration, scale: briefly,
      series: [line("p50", "--chart-p50"), line("p95", "--chart-p95", true)],
    }),
    tokens: new Card({
      title: "Tokens", figure: count, format: count, scale: compact, series: [bars("Tokens", "--chart-tokens")],
    }),
    cost: new Card({
      title: "Cost", figure: money, format: money, scale: compact, series: [bars("Cost", "--chart-cost")],
    }),
    co2: new Card({
      title: "CO₂ equivalent", figure: mass, format: mass, scale: (value) => mass(value).replace(/\.0+(?= )|(?<=\.\d*[1-9])0+(?= )/, ""),
      series: [line("Least", "--chart-co2", true), line("Most", "--chart-co2")],
    }),
  };
}
