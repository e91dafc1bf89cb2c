/* How a request went: its attempts, its errors, its first token and its end, against its duration. */

import { h } from "../base/dom.js";
import { date, duration } from "../base/format.js";
import { inline, plain } from "../base/visible.js";
import { isRecord, jsonBlock, folded } from "./json.js";

/** Return the timeline of a request as the API has it. */
export function timeline(request) {
  const steps = stepsOf(request);
  const whole = Math.max(request.duration_ms ?? 0, ...steps.map(({ at, took }) => (at ?? 0) + (took ?? 0)), 1);
  return h("ol", { class: "timeline" }, steps.map((step) => shown(step, whole)));
}

/** Steps in the order they happened, each with what it took; `at` is ms since the request came. */
function stepsOf(request) {
  const began = date(request.request_time)?.getTime() ?? null;
  const errors = (request.error_logs ?? []).map((error) => ({ error, at: since(began, error.timestamp), isUsed: false }));
  const steps = attempts(request, errors);
  for (const { error, at, isUsed } of errors) if (!isUsed) steps.push({ kind: "error", error, at });
  if (typeof request.ttft_ms === "number") steps.push({ kind: "token", at: request.ttft_ms });
  steps.sort((one, other) => (one.at ?? 0) - (other.at ?? 0));
  return [
    { kind: "start", at: 0 },
    ...steps,
    { kind: "end", at: request.duration_ms, outcome: request.outcome, status: request.http_status, reason: request.stop_reason },
  ];
}

/** An attempt has no time of its own: one that failed ended when its error was recorded, and the
 * others begin where the one before has ended. */
function attempts(request, errors) {
  let clock = 0;
  const given = Array.isArray(request.backend_attempts) ? request.backend_attempts.filter(isRecord) : [];
  return given.map((attempt, index) => {
    const took = typeof attempt.duration_ms === "number" ? attempt.duration_ms : null;
    const its = errors.find(({ error, isUsed }) => !isUsed && isOf(error, attempt));
    if (its) its.isUsed = true;
    const ended = its?.at ?? null;
    const at = ended !== null && took !== null ? Math.max(clock, ended - took) : clock;
    clock = at + (took ?? 0);
    return { kind: "attempt", number: index + 1, attempt, error: its?.error ?? null, at, took };
  });
}

function isOf(error, attempt) {
  return attempt.error_type !== undefined && error.error_type === attempt.error_type && error.backend_name === attempt.backend;
}

function since(began, timestamp) {
  const at = date(timestamp)?.getTime() ?? null;
  return began === null || at === null ? null : Math.max(0, at - began);
}

function shown(step, whole) {
  const bar = h("i", { class: "span", "aria-hidden": "true" });
  bar.style.setProperty("left", `${Math.min(100, (100 * (step.at ?? 0)) / whole)}%`);
  bar.style.setProperty("width", `${Math.min(100, (100 * (step.took ?? 0)) / whole)}%`);
  const [title, inside, how] = said(step);
  return h(
    "li",
    { class: `step ${step.kind} ${how}` },
    h("span", { class: "at" }, step.at === null || step.at === undefined ? "" : `+${duration(step.at)}`),
    h("div", { class: "what" }, h("p", { class: "title" }, title), inside),
    h("span", { class: "track" }, bar),
  );
}

function said(step) {
  switch (step.kind) {
    case "start":
      return ["Came in", null, ""];
    case "token":
      return ["First token", null, ""];
    case "end":
      return [[{ success: "Answered", error: "Failed", cancelled: "The client hung up" }[step.outcome] ?? "Ended",
        step.status !== null && step.status !== undefined ? `, ${plain(step.status)}` : "",
        step.reason ? [" · ", inline(step.reason, { most: 40 })] : ""], null, step.outcome ?? ""];
    case "attempt":
      return attempted(step);
    default:
      return [[h("b", {}, inline(step.error.error_type ?? "Error")), backend(step.error.backend_name), status(step.error.http_status)], message(step.error), "error"];
  }
}

function attempted({ number, attempt, error, took }) {
  const failed = error !== null || attempt.error_type !== undefined || attempt.http_status >= 400;
  const told = error ?? { error_type: attempt.error_type, error_message: attempt.error_message };
  const { backend: name, http_status: code, duration_ms: _d, error_type: _t, error_message: _m, ...rest } = attempt;
  return [
    [`Attempt ${number}`, backend(name), status(code), took === null ? "" : h("span", { class: "dim" }, ` in ${duration(took)}`)],
    [failed && h("p", { class: "type" }, inline(told.error_type ?? "failed")), failed && message(told),
      Object.keys(rest).length > 0 && folded("What it answered", () => jsonBlock("response" in rest && Object.keys(rest).length === 1 ? rest.response : rest))],
    failed ? "error" : "success",
  ];
}

const backend = (name) => (name === null || name === undefined ? "" : [" at ", h("b", {}, inline(plainName(name)))]);
const status = (code) => (code === null || code === undefined ? "" : [" ", h("span", { class: "status" }, plain(plainName(code)))]);
const plainName = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

function message(error) {
  const context = error.extra_context;
  return [
    error.error_message ? h("p", { class: "message" }, inline(plainName(error.error_message), { most: 2_000 })) : null,
    context && folded("Context", () => jsonBlock(context)),
  ];
}
