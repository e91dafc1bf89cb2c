/* What is in a message, whoever's format it is: text, thinking, tool calls and results, media.
 *
 * A message is {role, name, parts}; a part is {kind, ...} of: text, thinking, refusal, call, result,
 * media, problem, cut, other. Everything read is taken for anything: a log is not what it claims. */

export const list = (value) => (Array.isArray(value) ? value : []);
export const isRecord = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
export const record = (value) => (isRecord(value) ? value : {});
export const text = (value) => (typeof value === "string" ? value : "");
/** Whether the producer kept a beginning of this alone. */
export const isCut = (value) => isRecord(value) && value._truncated === true;

export const said = (kind, value) => (text(value) ? [{ kind, text: value }] : []);

const DATA_URL = /^data:([\w.+/-]{0,100})[^,]{0,100},/;
const READERS = {
  text: (part) => said("text", part.text),
  input_text: (part) => said("text", part.text),
  output_text: (part) => said("text", part.text),
  summary_text: (part) => said("thinking", part.text),
  reasoning_text: (part) => said("thinking", part.text),
  thinking: (part) => said("thinking", part.thinking),
  redacted_thinking: () => [{ kind: "thinking", text: "(encrypted by the provider)" }],
  refusal: (part) => said("refusal", part.refusal),
  image_url: (part) => [media("image", isRecord(part.image_url) ? part.image_url.url : part.image_url)],
  input_image: (part) => [media("image", part.image_url ?? part.file_id)],
  image: (part) => [source("image", part)],
  document: (part) => [source("document", part)],
  video_url: (part) => [media("video", record(part.video_url).url)],
  input_audio: (part) => [held("audio", record(part.input_audio).data, record(part.input_audio).format)],
  file: (part) => [file(record(part.file))],
  input_file: (part) => [file(part)],
  tool_use: (part) => [call(part.name, part.input, part.id)],
  server_tool_use: (part) => [call(part.name, part.input, part.id)],
  tool_result: (part) => [result(part.tool_use_id, parts(part.content), part.is_error === true)],
};

/** Return the parts of a message's content: text, or a list in any provider's form. */
export function parts(content) {
  if (typeof content === "string") return said("text", content);
  if (content === null || content === undefined) return [];
  if (isCut(content)) return [{ kind: "cut", mark: content }];
  if (!Array.isArray(content)) return isRecord(content) ? part(content) : [{ kind: "other", value: content }];
  return content.flatMap(part);
}

function part(value) {
  if (typeof value === "string") return said("text", value);
  if (isCut(value)) return [{ kind: "cut", mark: value }];
  if (!isRecord(value)) return [{ kind: "other", value }];
  const reader = Object.hasOwn(READERS, text(value.type)) ? READERS[value.type] : null;
  const found = reader ? reader(value) : [];
  return found.length || (reader && "text" in value) ? found : [{ kind: "other", value }];
}

export const call = (name, given, id) => ({ kind: "call", name: text(name) || "(no name)", given: unpacked(given), id: text(id) });
export const result = (id, inside, isError = false) => ({ kind: "result", id: text(id), parts: inside, isError });

/** Return arguments as the value that their text stands for, or the text where it is none. */
export function unpacked(given) {
  if (typeof given !== "string") return given ?? null;
  try {
    return JSON.parse(given);
  } catch {
    return given;
  }
}

/** A picture and the like, by its URL: never loaded, only named. */
export function media(what, url) {
  const data = DATA_URL.exec(text(url).slice(0, 250));
  if (data) return held(what, url.slice(data[0].length), data[1]);
  return { kind: "media", what, where: text(url) || "(not said where)" };
}

/** The same, by what it holds as base64. */
export function held(what, data, type) {
  const mark = isCut(data) ? data.bytes : null;
  return { kind: "media", what, type: text(type), size: mark ?? Math.floor((text(data).length * 3) / 4) };
}

function source(what, value) {
  const from = record(value.source);
  if (from.type === "base64") return held(what, from.data, from.media_type);
  if (from.type === "text") return { kind: "text", text: text(from.data) };
  return media(what, from.url ?? from.file_id);
}

function file(value) {
  const name = text(value.filename) || text(value.file_id) || text(value.file_url);
  return value.file_data ? { ...held("file", value.file_data, ""), where: name } : media("file", name);
}
