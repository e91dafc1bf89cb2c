/* What is known of a request, in groups. What is not known is left out. */

import { narrowed, hash, kept } from "../base/address.js";
import { h } from "../base/dom.js";
import { NONE, count, duration, energy, mass, moment, money, range, speed } from "../base/format.js";
import { inline } from "../base/visible.js";
import { isRecord } from "./json.js";

/** Return the groups. `query`: period and filters, to which the links add. */
export function facts(request, query) {
  const enriched = isRecord(request.enriched) ? request.enriched : {};
  const filter = (dimension, value) =>
    value === null || value === "" ? null : h("a", { href: hash("logs", narrowed(kept(query), dimension, value)), title: "Requests like this" }, inline(value));
  const text = (value) => (value === null || value === "" ? null : inline(value, { most: 400 }));
  return h(
    "div",
    { class: "facts" },
    group("Time", [
      ["Came in", moment(request.request_time)],
      ["Duration", known(duration(request.duration_ms))],
      ["First token", known(duration(request.ttft_ms))],
      ["Speed", known(speed(rate(request)))],
      ["Stored", moment(request.created_at)],
    ]),
    group("Tokens", [
      ["In", known(count(request.prompt_tokens))],
      ["– cached", known(count(request.cached_tokens))],
      ["Out", known(count(request.completion_tokens))],
      ["– reasoning", known(count(request.reasoning_tokens))],
      ["All", known(count(request.total_tokens))],
    ]),
    group("Cost and footprint", [
      ["Cost", request.cost === null ? null : [h("data", { value: String(request.cost) }, money(request.cost)), origin(enriched.cost, "the proxy")]],
      ["Energy", request.kwh_max === null ? null : range(request.kwh_min, request.kwh_max, energy)],
      ["CO₂e", request.kgco2eq_max === null ? null : [range(request.kgco2eq_min, request.kgco2eq_max, mass), origin(enriched.footprint, "the proxy")]],
    ]),
    group("Who", [
      ["User", filter("user", request.user_id)],
      ["API key", filter("key", request.api_key_id)],
      ["Organization", filter("organization", request.organization_id)],
      ["Project", filter("project", request.project_id)],
      ["Address", text(request.client_ip)],
    ]),
    group("What", [
      ["Model", filter("model", request.model_name)],
      ["Answered by", text(request.provider_model)],
      ["Backend", filter("provider", request.provider)],
      ["Call", request.path === null ? null : inline(`${request.method ?? ""} ${request.path}`.trim(), { most: 400 })],
      ["Query", text(request.query)],
      ["Stream", request.is_stream === null ? null : request.is_stream ? "yes" : "no"],
      ["Stop reason", text(request.stop_reason)],
      ["Client's id", text(request.request_id)],
    ]),
  );
}

const known = (shown) => (shown === NONE ? null : shown);

function group(title, rows) {
  const there = rows.filter(([, value]) => value !== null && value !== NONE);
  if (!there.length) return null;
  return h(
    "section",
    {},
    h("h3", {}, title),
    h("dl", {}, there.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
  );
}

/** Tokens in a second, of the time after the first one where that is known. */
function rate({ completion_tokens: tokens, duration_ms: all, ttft_ms: first }) {
  const ms = (all ?? 0) - (first ?? 0);
  return tokens > 1 && ms > 0 ? (tokens * 1000) / ms : null;
}

/** Where a number is from: the proxy's own, or filled in by the worker, and how. */
function origin(filled, otherwise) {
  if (!isRecord(filled)) return h("p", { class: "origin dim" }, `said by ${otherwise}`);
  const { by, ...rest } = filled;
  const details = Object.entries(rest).filter(([, value]) => ["string", "number"].includes(typeof value) && value !== "");
  return h(
    "div",
    { class: "origin dim" },
    h("p", {}, "worked out by ", inline(typeof by === "string" ? by : "the worker")),
    details.length > 0 && h("p", {}, details.map(([name, value], index) => [index ? ", " : "", inline(name.replaceAll("_", " ")), " ", inline(value)])),
  );
}
