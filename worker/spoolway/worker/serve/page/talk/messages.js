/* Messages of each format as they stand whole, in a request's body or in an answer. */

import { call, held, isRecord, list, media, parts, record, result, said, text } from "./content.js";

/** OpenAI chat, Anthropic, Ollama, Cohere: {role, content, tool_calls …}. */
export function chatMessage(value) {
  const message = record(value);
  const role = text(message.role) || "message";
  const inside = [
    ...said("thinking", message.reasoning_content ?? message.reasoning ?? message.thinking),
    ...parts(message.content),
    ...said("refusal", message.refusal),
    ...list(message.images).map((data) => held("image", data, "")),
    ...list(message.tool_calls).map((one) => toolCall(one)),
    ...(isRecord(message.function_call) ? [toolCall({ function: message.function_call })] : []),
    ...(isRecord(message.audio) ? [...said("text", message.audio.transcript), held("audio", message.audio.data, "")] : []),
  ];
  if (role === "tool" || role === "function") {
    return { role, name: text(message.name) || text(message.tool_name), parts: [result(message.tool_call_id, inside)] };
  }
  // Anthropic's tools answer as the user.
  const isTool = role === "user" && inside.length > 0 && inside.every(({ kind }) => kind === "result");
  return { role: isTool ? "tool" : role, name: text(message.name), parts: inside };
}

export function toolCall(value) {
  const one = record(value);
  const of = record(one.function ?? one.custom);
  return call(of.name ?? one.name, of.arguments ?? of.input ?? one.arguments, one.id);
}

/** OpenAI Responses: an item of `input` or `output`. */
export function item(value) {
  if (typeof value === "string") return { role: "user", name: "", parts: said("text", value) };
  const one = record(value);
  switch (one.type) {
    case "function_call":
    case "custom_tool_call":
      return { role: "assistant", name: "", parts: [call(one.name, one.arguments ?? one.input, one.call_id)] };
    case "function_call_output":
    case "custom_tool_call_output":
      return { role: "tool", name: "", parts: [result(one.call_id, parts(one.output))] };
    case "reasoning":
      return { role: "assistant", name: "", parts: thoughts(one) };
    case "image_generation_call":
      return { role: "assistant", name: "", parts: [held("image", one.result, text(one.output_format))] };
    case "message":
    case undefined:
      return { role: text(one.role) || "message", name: "", parts: parts(one.content) };
    default:
      return { role: text(one.role) || "assistant", name: "", parts: [{ kind: "other", value }] };
  }
}

function thoughts(one) {
  const found = [...parts(one.summary), ...parts(one.content)]
    .filter(({ kind }) => kind === "thinking" || kind === "text")
    .map((part) => ({ ...part, kind: "thinking" }));
  return found.length ? found : [{ kind: "thinking", text: "(not shown by the provider)" }];
}

/** Gemini: {role, parts}. */
export function turn(value, otherwise) {
  const one = record(value);
  const role = one.role === "model" ? "assistant" : text(one.role) || otherwise;
  return { role, name: "", parts: list(one.parts).flatMap(piece) };
}

function piece(value) {
  const one = record(value);
  const data = one.inlineData ?? one.inline_data;
  const file = one.fileData ?? one.file_data;
  const asked = one.functionCall ?? one.function_call;
  const answer = one.functionResponse ?? one.function_response;
  if (typeof one.text === "string") return said(one.thought === true ? "thinking" : "text", one.text);
  if (isRecord(data)) return [held("media", data.data, data.mimeType ?? data.mime_type)];
  if (isRecord(file)) return [media("file", file.fileUri ?? file.file_uri)];
  if (isRecord(asked)) return [call(asked.name, asked.args, asked.id)];
  if (isRecord(answer)) return [result(answer.name, [{ kind: "other", value: answer.response }])];
  return [{ kind: "other", value }];
}
