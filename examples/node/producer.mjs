// A producer for Spoolway in plain Node, to copy from. What it pushes is docs/wire-contract.md.

import { randomBytes } from "node:crypto";
import { readFileSync, realpathSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { createClient } from "redis";

const MIB = 1024 * 1024;
const FRAME_EVENTS = 100; // a frame may hold 10,000
const FRAME_BYTES = 1 * MIB; // and 32 MiB
const EVENT_BYTES = 4 * MIB; // a larger event is dropped; better cut its body before
const WAITING_BYTES = 64 * MIB; // while Redis is away; then new events are dropped
const LINGER_MS = 50; // that an event waits for others to share its frame

let lastMs = 0;
let sequence = 0;

// The id of an event: a UUIDv7, 48 bits of Unix milliseconds first, so that ids sort by time.
export function uuid7() {
  const now = Date.now();
  if (now > lastMs) [lastMs, sequence] = [now, 0];
  else if (++sequence > 0xfff) [lastMs, sequence] = [lastMs + 1, 0];
  const bytes = randomBytes(16);
  bytes.writeUIntBE(lastMs, 0, 6);
  bytes.writeUInt16BE(0x7000 | sequence, 6); // version 7, and the order within a millisecond
  bytes[8] = 0x80 | (bytes[8] & 0x3f); // variant
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

// One stream entry of many events: JSON lines, one event a line. All values are strings.
export function frame(lines) {
  return { v: "1", codec: "json", n: String(lines.length), data: lines.join("\n") };
}

// Until Redis has it. After a reply that got lost it is there twice, with the same ids: one row.
export async function push(client, stream, fields, isOver = () => false) {
  for (let pause = 100; ; pause = Math.min(pause * 2, 1000)) {
    try {
      return await client.xAdd(stream, "*", fields); // never MAXLEN: it drops what is not read yet
    } catch (error) {
      if (isOver()) throw error;
      await sleep(pause);
    }
  }
}

// Secrets never leave the proxy: only headers that are known to hold none are sent.
const HARMLESS_HEADERS = ["accept", "content-length", "content-type", "user-agent"];

export function harmless(headers) {
  return Object.fromEntries(
    HARMLESS_HEADERS.filter((name) => name in headers).map((name) => [name, headers[name]]),
  );
}

// A request, minted when it starts; `emit` it with its outcome when it has ended.
export function request({ model, method, url, headers = {}, body }) {
  return {
    type: "request",
    id: uuid7(),
    request_time: new Date().toISOString(),
    model_name: model,
    method,
    path: new URL(url, "http://proxy").pathname, // not the query: keys travel in it
    headers: harmless(headers),
    body,
  };
}

// An error on the way of a request. Either of the two may arrive first.
export function errorOf({ id, path, model_name }, error, columns = {}) {
  return {
    type: "error",
    id: uuid7(),
    timestamp: new Date().toISOString(),
    request_id: id,
    request_path: path,
    model_name,
    error_type: error.name,
    error_message: error.message,
    ...columns,
    extra_context: { stack: error.stack },
  };
}

// Takes events at once, pushes them behind the proxy's back.
export class Producer {
  pushed = 0; // events that Redis has
  dropped = 0; // events that are lost
  #client;
  #stream;
  #lines = [];
  #bytes = 0; // of what waits and of what is on its way
  #sending; // a promise while there is something to send
  #deadline = Infinity;
  #saidAt = -Infinity;

  constructor(
    url = process.env.REDIS_URL || "redis://127.0.0.1:6379/0",
    stream = process.env.SPOOLWAY_STREAM || "spoolway:events",
  ) {
    this.#stream = stream;
    this.#client = createClient({
      url,
      disableOfflineQueue: true, // what waits, waits here, with a bound
      pingInterval: 2000,
      socket: {
        connectTimeout: 2000,
        socketTimeout: 5000, // a Redis that hangs is one that is away
        reconnectStrategy: (retries) => Math.min(50 * 2 ** retries, 1000), // never give up
      },
    });
    this.#client.on("error", (error) => this.#say(error)); // without a listener it ends the process
    this.#client.connect().catch(() => {});
  }

  // Never throws, never waits; false if the event is dropped.
  emit(event) {
    const line = asLine(event);
    const bytes = Buffer.byteLength(line);
    const isRefused = !bytes || bytes > EVENT_BYTES || this.#bytes + bytes > WAITING_BYTES;
    if (isRefused || this.#deadline < Infinity) {
      this.dropped += 1;
      return false;
    }
    this.#lines.push(line);
    this.#bytes += bytes;
    this.#sending ??= this.#send();
    return true;
  }

  // Sends what is left, and gives up what Redis does not take in this time.
  async close(timeoutMs = 5000) {
    this.#deadline = Date.now() + timeoutMs;
    await this.#sending;
    this.#client.destroy();
  }

  async #send() {
    await sleep(LINGER_MS);
    while (this.#lines.length) {
      const [lines, bytes] = this.#take();
      try {
        await push(this.#client, this.#stream, frame(lines), () => Date.now() > this.#deadline);
        this.pushed += lines.length;
      } catch (error) {
        this.#say(error);
        this.dropped += lines.length;
      }
      this.#bytes -= bytes;
    }
    this.#sending = undefined;
  }

  #take() {
    let [count, bytes] = [0, 0];
    while (count < this.#lines.length && count < FRAME_EVENTS && bytes < FRAME_BYTES) {
      bytes += Buffer.byteLength(this.#lines[count++]);
    }
    return [this.#lines.splice(0, count), bytes];
  }

  // At most once a minute, and never an event.
  #say(error) {
    if (Date.now() - this.#saidAt < 60_000) return;
    this.#saidAt = Date.now();
    console.error(`spoolway: Redis takes no events: ${error.message || error.code}`);
  }
}

// Now, for the caller may change the event afterwards; "" for what is no JSON: a BigInt, a cycle.
function asLine(event) {
  try {
    return JSON.stringify(event) ?? "";
  } catch {
    return "";
  }
}

const USAGE = `usage: node producer.mjs demo        push two requests, and the error of one of them
       node producer.mjs send FILE   push the events in a file, one JSON object a line; -: stdin

environment: REDIS_URL (default redis://127.0.0.1:6379/0), SPOOLWAY_STREAM (default spoolway:events)`;

function demo(producer) {
  const headers = { authorization: "Bearer sk-demo", "content-type": "application/json" };
  const url = "/v1/chat/completions?key=sk-demo";
  const [good, bad] = ["gpt-4o", "gpt-4o-mini"].map((model) =>
    request({ model, method: "POST", url, headers, body: { messages: [] } }),
  );
  producer.emit({ ...good, outcome: "success", http_status: 200, prompt_tokens: 12, cost: 0.0004 });
  const error = new TypeError("fetch failed");
  producer.emit(errorOf(bad, error, { backend_name: "eu", http_status: 502 }));
  producer.emit({ ...bad, outcome: "error", http_status: 502, duration_ms: 31.5 });
}

function send(producer, file) {
  const text = readFileSync(file === "-" ? 0 : file, "utf8");
  for (const line of text.split("\n").filter(Boolean)) producer.emit(JSON.parse(line));
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const [command, file] = process.argv.slice(2);
  if (command === "demo" || (command === "send" && file)) {
    const producer = new Producer();
    if (command === "demo") demo(producer);
    else send(producer, file);
    await producer.close();
    console.log(`pushed ${producer.pushed} events, dropped ${producer.dropped}`);
    process.exitCode = producer.dropped ? 1 : 0;
  } else {
    console.error(USAGE);
    process.exitCode = 2;
  }
}
