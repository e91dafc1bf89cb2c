/* What was answered, in one piece. */

import { isCut, isRecord, record, said, text } from "./content.js";
import { chatMessage, item, turn } from "./messages.js";

/** Return the messages of a whole answer; null where it is nothing that is talked in. */
export function answered(response) {
  const value = unpacked(response);
  if (Array.isArray(value)) {
    const found = value.map(answered); // Gemini's stream without alt=sse
    return found.length && found.every(Boolean) ? found.flat() : null;
  }
  if (!isRecord(value) || isCut(value)) return null;
  const messages = messagesOf(value);
  const wrong = problem(value);
  if (wrong) return [...(messages ?? []), wrong];
  return messages;
}

function messagesOf(value) {
  if (Array.isArray(value.choices)) return value.choices.map((one) => choice(record(one), value.choices.length));
  if (Array.isArray(value.output)) return value.output.map(item);
  if (Array.isArray(value.candidates)) {
    return value.candidates.map((one) => ended(turn(record(one).content, "assistant"), record(one).finishReason));
  }
  if (value.type === "message" && value.content !== undefined) {
    return [ended(chatMessage({ role: "assistant", ...value }), value.stop_reason)];
  }
  if (isRecord(value.message)) return [ended(chatMessage(value.message), value.done_reason ?? value.finish_reason)];
  if (typeof value.response === "string") {
    return [ended({ role: "assistant", name: "", parts: said("text", value.response) }, value.done_reason)];
  }
  return null;
}

function choice(one, of) {
  const message = isRecord(one.message)
    ? chatMessage({ role: "assistant", ...one.message })
    : { role: "assistant", name: "", parts: said("text", one.text) };
  if (of > 1) message.name = `choice ${Number(one.index ?? 0) + 1} of ${of}`;
  return ended(message, one.finish_reason);
}

/** A message with the reason that it ends for, in the provider's own word. */
export function ended(message, reason) {
  return text(reason) ? { ...message, ended: reason } : message;
}

/** Return what an answer says went wrong, as a message. */
export function problem(value) {
  const error = value.error;
  if (error === null || error === undefined || error === false) return null;
  const said = isRecord(error) ? error : { message: error };
  const what = [text(said.type) || text(said.status), text(said.code) || (typeof said.code === "number" ? String(said.code) : "")];
  return {
    role: "error", name: "",
    parts: [{ kind: "problem", type: what.filter(Boolean).join(" · "), text: text(said.message) || JSON.stringify(error) }],
  };
}

/** A refusal of a backend is often kept as the text that it was. */
function unpacked(response) {
  if (typeof response !== "string" || !/^\s*[{[]/.test(response)) return response;
  try {
    return JSON.parse(response);
  } catch {
    return response;
  }
}
