/* What was asked: a request's body as messages, and everything else in it as settings. */

import { isCut, isRecord, list, parts, record, said, text } from "./content.js";
import { chatMessage, item, turn } from "./messages.js";

/** Return {messages, tools, settings}; null where the body is nothing that is talked in. */
export function asked(body) {
  if (!isRecord(body) || isCut(body)) return null;
  const messages = messagesOf(body);
  if (messages === null) return null;
  const { messages: _m, input: _i, contents: _c, prompt: _p, system: _s, instructions: _n,
    systemInstruction: _g, system_instruction: _h, tools, functions, ...settings } = body;
  return { messages, tools: [...list(tools), ...list(functions)].flatMap(named), settings };
}

function messagesOf(body) {
  if (Array.isArray(body.messages)) {
    return [...instruction(body.system), ...body.messages.map(chatMessage)];
  }
  if (Array.isArray(body.contents)) {
    const system = body.systemInstruction ?? body.system_instruction;
    return [
      ...(isRecord(system) ? [{ ...turn(system, "system"), role: "system" }] : instruction(system)),
      ...body.contents.map((one) => turn(one, "user")),
    ];
  }
  if (body.input !== undefined) {
    return [...instruction(body.instructions), ...inputs(body.input)];
  }
  if (typeof body.prompt === "string" || Array.isArray(body.prompt)) {
    return [...instruction(body.system), { role: "user", name: "", parts: parts(body.prompt) }];
  }
  return null;
}

function instruction(value) {
  const inside = parts(value);
  return inside.length ? [{ role: "system", name: "", parts: inside }] : [];
}

function inputs(input) {
  if (typeof input === "string") return [{ role: "user", name: "", parts: said("text", input) }];
  if (!Array.isArray(input)) return [{ role: "user", name: "", parts: parts(input) }];
  return input.map((one) => (isRecord(one) || typeof one === "string" ? item(one) : { role: "user", name: "", parts: parts([one]) }));
}

/** Return the names and descriptions of the tools that were offered. */
function named(value) {
  const tool = record(value);
  const declared = list(tool.functionDeclarations ?? tool.function_declarations);
  if (declared.length) return declared.flatMap(named);
  const of = isRecord(tool.function) ? tool.function : tool;
  const name = text(of.name) || text(tool.type);
  return name ? [{ name, description: text(of.description), value }] : [];
}
