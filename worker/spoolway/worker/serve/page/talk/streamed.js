/* A streamed answer put together again of its chunks, in the order they came. */

import { answered, ended, problem } from "./answered.js";
import { call, isCut, isRecord, list, parts, record, said, text } from "./content.js";
import { item, toolCall, turn } from "./messages.js";

/** Return {messages, cut}: `cut` is the mark at the end of a stream that was not kept whole. */
export function streamed(chunks) {
  const all = list(chunks);
  const cut = all.find(isCut) ?? null;
  const values = all.filter((one) => isRecord(one) && !isCut(one));
  const problems = values.map(problem).filter(Boolean);
  const messages = (READERS.find(([is]) => values.some(is)) ?? [null, () => []])[1](values);
  // What a stream ends with can be the whole answer, its error included.
  const known = messages.some(({ role }) => role === "error");
  return { messages: [...messages, ...(known ? [] : problems)], cut };
}

const type = (value) => text(value.type);

const READERS = [
  [(one) => Array.isArray(one.choices), ofChat],
  [(one) => type(one).startsWith("response."), ofResponses],
  [(one) => type(one) === "message_start" || type(one).startsWith("content_block"), ofAnthropic],
  [(one) => Array.isArray(one.candidates), ofGemini],
  [(one) => type(one) === "content-delta" || type(one) === "message-start", ofCohere],
  [(one) => isRecord(one.message) || typeof one.response === "string", ofOllama],
];

/** OpenAI chat and completions, and all that are compatible. */
function ofChat(values) {
  const choices = new Map();
  for (const value of values) {
    for (const one of list(value.choices).map(record)) {
      const index = Number(one.index ?? 0);
      const so = choices.get(index) ?? { role: "", text: "", thinking: "", refusal: "", calls: new Map(), reason: "" };
      choices.set(index, so);
      const delta = record(one.delta ?? one.message);
      so.role ||= text(delta.role);
      so.text += text(delta.content) || text(one.text);
      so.thinking += text(delta.reasoning_content) || text(delta.reasoning);
      so.refusal += text(delta.refusal);
      so.reason = text(one.finish_reason) || so.reason;
      for (const [at, piece] of list(delta.tool_calls).entries()) addCall(so.calls, piece, at);
      if (isRecord(delta.function_call)) addCall(so.calls, { function: delta.function_call }, 0);
    }
  }
  return [...choices].sort(([one], [other]) => one - other).map(([index, so]) =>
    ended({
      role: so.role || "assistant",
      name: choices.size > 1 ? `choice ${index + 1} of ${choices.size}` : "",
      parts: [
        ...said("thinking", so.thinking), ...said("text", so.text), ...said("refusal", so.refusal),
        ...[...so.calls.values()].map(toolCall),
      ],
    }, so.reason));
}

function addCall(calls, value, at) {
  const piece = record(value);
  const index = Number(piece.index ?? at);
  const of = record(piece.function);
  const so = calls.get(index) ?? { id: "", function: { name: "", arguments: "" } };
  calls.set(index, so);
  so.id ||= text(piece.id);
  so.function.name += text(of.name);
  so.function.arguments += text(of.arguments);
}

/** OpenAI Responses: the last event has all of it; without that one, what came until then. */
function ofResponses(values) {
  const last = values.findLast((one) => ["response.completed", "response.incomplete", "response.failed"].includes(type(one)));
  const whole = last && answered(last.response);
  if (whole?.length) return whole;
  const items = new Map();
  for (const value of values) {
    const index = Number(value.output_index ?? 0);
    const so = items.get(index) ?? { item: null, isDone: false, text: "", thinking: "", given: "" };
    items.set(index, so);
    if (type(value).startsWith("response.output_item.")) {
      so.item = value.item;
      so.isDone = type(value).endsWith(".done");
    }
    if (type(value) === "response.output_text.delta") so.text += text(value.delta);
    if (/^response\.reasoning\w*\.delta$/.test(type(value))) so.thinking += text(value.delta);
    if (type(value) === "response.function_call_arguments.delta") so.given += text(value.delta);
  }
  return [...items.values()].filter((so) => so.item || so.text || so.thinking || so.given).map((so) => {
    if (so.isDone) return item(so.item);
    const of = record(so.item);
    const inside = [...said("thinking", so.thinking), ...said("text", so.text)];
    if (so.given || of.type === "function_call") inside.push(call(of.name, so.given, of.call_id));
    return { role: "assistant", name: "", parts: inside };
  });
}

function ofAnthropic(values) {
  const blocks = new Map();
  let reason = "";
  for (const value of values) {
    const index = Number(value.index ?? 0);
    if (type(value) === "content_block_start") blocks.set(index, { block: record(value.content_block), text: "", given: "" });
    if (type(value) === "content_block_delta") {
      const so = blocks.get(index) ?? { block: { type: "text" }, text: "", given: "" };
      blocks.set(index, so);
      const delta = record(value.delta);
      so.text += text(delta.text) || text(delta.thinking);
      so.given += text(delta.partial_json);
    }
    if (type(value) === "message_delta") reason = text(record(value.delta).stop_reason) || reason;
  }
  const inside = [...blocks].sort(([one], [other]) => one - other).flatMap(([, so]) => {
    if (so.block.type === "thinking") return said("thinking", text(so.block.thinking) + so.text);
    if (so.block.type === "text") return said("text", text(so.block.text) + so.text);
    if (so.given) return [call(so.block.name, so.given, so.block.id)];
    return parts([so.block]);
  });
  return blocks.size || reason ? [ended({ role: "assistant", name: "", parts: inside }, reason)] : [];
}

function ofGemini(values) {
  const found = values.flatMap((value) => list(value.candidates).map(record));
  const pieces = found.flatMap((one) => turn(one.content, "assistant").parts);
  return [ended({ role: "assistant", name: "", parts: joined(pieces) }, found.findLast((one) => text(one.finishReason))?.finishReason)];
}

function ofOllama(values) {
  const pieces = values.flatMap((value) => {
    const message = record(value.message);
    return [
      ...said("thinking", message.thinking),
      ...said("text", message.content ?? value.response),
      ...list(message.tool_calls).map(toolCall),
    ];
  });
  return [ended({ role: "assistant", name: "", parts: joined(pieces) }, values.findLast((one) => text(one.done_reason))?.done_reason)];
}

function ofCohere(values) {
  const pieces = values.flatMap((value) => said("text", record(record(record(value.delta).message).content).text));
  return [{ role: "assistant", name: "", parts: joined(pieces) }];
}

/** Return parts with neighbours of one kind as one. */
function joined(pieces) {
  const whole = [];
  for (const piece of pieces) {
    const last = whole.at(-1);
    if (last && last.kind === piece.kind && (piece.kind === "text" || piece.kind === "thinking")) last.text += piece.text;
    else whole.push({ ...piece });
  }
  return whole;
}
