/* One request: how it ended and why, what was said, how it went, and all that is stored of it. */

import { askText } from "../base/api.js";
import { hash, kept } from "../base/address.js";
import { announce, fill, h } from "../base/dom.js";
import { ago, duration, moment } from "../base/format.js";
import { block, inline, plain } from "../base/visible.js";
import { copyButton } from "../parts/copy.js";
import { save } from "../parts/export.js";
import { facts } from "../parts/facts.js";
import { folded, isRecord, jsonBlock, sizeOf } from "../parts/json.js";
import { failed, loading } from "../parts/notice.js";
import { outcome } from "../parts/outcome.js";
import { timeline } from "../parts/timeline.js";
import { answered } from "../talk/answered.js";
import { asked } from "../talk/asked.js";
import { isCut } from "../talk/content.js";
import { conversation, cutNote } from "../talk/conversation.js";
import { streamed } from "../talk/streamed.js";

const RAW = [
  "headers", "body", "route", "backend_attempts", "response", "stream_chunks", "errors", "error_logs",
  "usage_stats", "truncated", "extra", "enriched",
];
const EXPIRED = "_expired";

export class Request {
  filters = null; // no bar
  title = "Request";

  constructor() {
    this.element = h("article", { class: "request" }, loading());
  }

  async load(address, signal) {
    try {
      const { text, value } = await askText(`/api/logs/${encodeURIComponent(address.id)}`, null, { signal });
      this.show(address, value, text);
    } catch (failure) {
      if (failure.name === "AbortError") return;
      fill(this.element, h("h1", { tabindex: "-1" }, "Request"), failed(failure, () => this.load(address, signal)));
    }
  }

  close() {}

  show(address, request, text) {
    this.title = `Request ${request.model_name ? plain(request.model_name, 40) : ""}`;
    document.title = `${this.title} · Spoolway`;
    fill(
      this.element,
      this.header(address, request, text),
      why(request),
      h(
        "div",
        { class: "beside-facts" },
        h(
          "div",
          {},
          h("section", { class: "card plain" }, h("h2", {}, "What happened"), timeline(request)),
          talk(request),
          raw(request),
        ),
        h("aside", { "aria-label": "Facts" }, facts(request, address.query)),
      ),
    );
    announce(`Request, ${request.outcome ?? "unknown outcome"}`);
  }

  header(address, request, text) {
    const download = h("button", {
      type: "button", class: "quiet", on: { click: () => save(new Blob([text], { type: "application/json" }), `${request.id}.json`) },
    }, "Download JSON");
    return h(
      "header",
      { class: "about" },
      h("a", { class: "back quiet", href: hash("logs", kept(address.query)) }, "← Requests"),
      h(
        "div",
        { class: "title" },
        h("h1", { tabindex: "-1" }, request.model_name ? inline(request.model_name, { most: 80 }) : "Request"),
        outcome(request.outcome, request.http_status),
        h("span", { class: "dim" }, [duration(request.duration_ms), ago(request.request_time)].join(" · ")),
        h("time", { class: "dim", datetime: request.request_time }, moment(request.request_time)),
      ),
      h("div", { class: "ids" }, h("code", {}, plain(request.id)), copyButton(String(request.id), "Copy id"), download),
    );
  }
}

/** Why it failed, in the first place one looks; of one that succeeded, nothing. */
function why(request) {
  const all = [...(request.error_logs ?? [])];
  const last = all.at(-1) ?? (Array.isArray(request.errors) ? request.errors.filter(isRecord).at(-1) : null);
  if (request.outcome === "cancelled") {
    return h("section", { class: "reason cancelled" }, h("h2", {}, "The client hung up"), h("p", {}, `after ${duration(request.duration_ms)}, before the answer was whole.`));
  }
  if (request.outcome !== "error") return null;
  if (!last) {
    return h("section", { class: "reason" }, h("h2", {}, "Why it failed"), h("p", {}, "No error event is stored for it (yet)."));
  }
  return h(
    "section",
    { class: "reason" },
    h("h2", {}, "Why it failed"),
    h("p", { class: "type" }, inline(said(last.error_type) || "error")),
    said(last.error_message) && block(said(last.error_message), { class: "prose", most: 1_500 }),
    h("p", { class: "dim" }, where(last, all.length)),
  );
}

/** Return where an error was, as far as is known: the status may be the backend's, or the proxy's own. */
function where(error, errors) {
  const parts = [
    error.backend_name ? ["backend ", inline(said(error.backend_name))] : null,
    said(error.http_status) ? `status ${plain(said(error.http_status))}` : null,
    errors > 1 ? `the last of ${errors} errors` : null,
  ];
  return parts.filter((part) => part !== null).flatMap((part, at) => (at ? [" · ", part] : [part]));
}

const said = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));

function talk(request) {
  const gone = Array.isArray(request.truncated) && request.truncated.includes(EXPIRED);
  const question = asked(request.body);
  return h(
    "section",
    { class: "card plain talks" },
    h("h2", {}, "Conversation"),
    gone && h("p", { class: "part cutoff" }, h("b", {}, "Expired. "), "Retention has removed what was said; everything else is kept."),
    question
      ? [conversation(question.messages), tools(question), settings(question)]
      : bodyOf("What was asked", request.body, gone),
    h("h3", { class: "answer" }, "Answer"),
    answerOf(request, gone),
  );
}

function answerOf(request, gone) {
  if (request.stream_chunks !== null && request.stream_chunks !== undefined) {
    const { messages, cut } = isCut(request.stream_chunks) ? { messages: [], cut: request.stream_chunks } : streamed(request.stream_chunks);
    const chunks = Array.isArray(request.stream_chunks) ? request.stream_chunks.length : 0;
    return [
      messages.length ? conversation(messages) : !cut && bodyOf("The stream", request.stream_chunks, gone),
      cut && cutNote(cut, "The stream"),
      chunks > 0 && messages.length > 0 && h("p", { class: "dim" }, `Put together of ${chunks.toLocaleString("en-GB")} chunks.`),
    ];
  }
  const messages = answered(request.response);
  return messages?.length ? conversation(messages) : bodyOf("The answer", request.response, gone);
}

/** A body that is no conversation: as it is. */
function bodyOf(what, body, gone) {
  if (body === null || body === undefined) {
    return h("p", { class: "dim" }, gone ? "Not kept any more." : `${what}: nothing was recorded.`);
  }
  return isCut(body) ? cutNote(body, what) : jsonBlock(body);
}

function tools({ tools: offered }) {
  if (!offered.length) return null;
  return folded(
    `${offered.length} ${offered.length === 1 ? "tool" : "tools"} offered`,
    () => h("ul", { class: "tools-offered" }, offered.map((tool) =>
      h("li", {}, folded(inline(tool.name), () => jsonBlock(tool.value)), tool.description && h("p", { class: "dim" }, inline(tool.description, { most: 300 }))))),
  );
}

function settings({ settings: given }) {
  const names = Object.keys(given);
  return names.length ? folded("Settings", () => jsonBlock(given), { beside: plain(names.join(", "), 80) }) : null;
}

function raw(request) {
  const there = RAW.filter((name) => {
    const value = request[name];
    return value !== null && value !== undefined && !(Array.isArray(value) && !value.length);
  });
  return h(
    "section",
    { class: "card plain raw" },
    h("h2", {}, "As it is stored"),
    there.map((name) => folded(h("code", {}, name), () => (name === "headers" ? headers(request[name]) : jsonBlock(request[name])), { beside: sizeOf(request[name]) })),
  );
}

function headers(value) {
  if (!isRecord(value)) return jsonBlock(value);
  return h("dl", { class: "headers" }, Object.entries(value).map(([name, one]) =>
    h("div", {}, h("dt", {}, inline(name)), h("dd", {}, inline(typeof one === "string" ? one : JSON.stringify(one), { most: 2_000 })))));
}
