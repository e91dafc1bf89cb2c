/* The requests that failed last: each line says why, and leads to all of it. */

import { hash, kept } from "../base/address.js";
import { h } from "../base/dom.js";
import { ago, moment } from "../base/format.js";
import { inline } from "../base/visible.js";
import { valueShown } from "./filters.js";
import { empty } from "./notice.js";

/** `requests` are summaries; `errors` are the newest error events, which say why. */
export function failures(requests, errors, query) {
  if (!requests.length) return empty("No failed requests in this period.");
  const why = new Map();
  for (const error of errors) {
    const of = error.request_log_id ?? error.request_id;
    if (of && !why.has(of)) why.set(of, error);
  }
  return h("ol", { class: "failures" }, requests.map((request) => failure(request, why.get(request.id), query)));
}

function failure(request, error, query) {
  return h(
    "li",
    {},
    h(
      "a",
      { href: hash("request", kept(query), request.id), "data-focus": `failure-${request.id}` },
      h("span", { class: "status" }, request.http_status === null ? "–" : String(request.http_status)),
      h(
        "span",
        { class: "why" },
        error?.error_type && h("b", {}, inline(error.error_type, { most: 60 })),
        error?.error_message
          ? h("span", { class: "message" }, inline(error.error_message, { most: 160 }))
          : !error?.error_type && h("span", { class: "message dim" }, "see what it says"),
      ),
      h("span", { class: "of" }, valueShown(request.model_name)),
      h("time", { datetime: request.request_time, title: moment(request.request_time) }, ago(request.request_time)),
    ),
  );
}
