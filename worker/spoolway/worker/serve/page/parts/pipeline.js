/* How the events come: the queue, the spool, what could not be stored, and who does it. */

import { h } from "../base/dom.js";
import { bytes, count, span } from "../base/format.js";
import { marked } from "../base/visible.js";

const LATE_SECONDS = 60;
const WELL = ["starting", "idle", "draining"];

/** `status` is what /api/status says. */
export function pipeline(status) {
  const { queue, spool, dead, workers = [] } = status;
  const facts = [
    fact("Database", status.database === "available" ? "available" : "not available",
      status.database === "available" ? "good" : "bad"),
    queue
      ? fact("Queue", [`${count(queue.entries)} entries`, lag(queue)], isLate(queue) ? "poor" : "good",
          `${count(queue.waiting)} waiting, ${count(queue.pending)} being written`)
      : fact("Queue", "not known", "poor", "Redis or Valkey does not answer"),
    spool && fact("Spool", spool.events ? [`${count(spool.events)} events`, bytes(spool.bytes)] : "empty",
      spool.events ? "poor" : "good",
      spool.events ? `oldest ${span(spool.oldest_seconds)}, in ${count(spool.segments)} segments` : "nothing waits on the disk"),
    dead && fact("Dead letters", dead.total ? count(dead.total) : "none", dead.total ? "bad" : "good",
      dead.total ? Object.entries(dead.reasons).map(([reason, number]) => `${reason}: ${number}`).join(", ") : ""),
    fact("Workers", workers.length ? activities(workers) : "none here", workers.length && workers.every(isWell) ? "good" : "poor",
      "of this server's state folder"),
  ];
  return h("dl", { class: "pipeline" }, facts);
}

function fact(name, value, how, title = "") {
  const parts = (Array.isArray(value) ? value : [value]).filter(Boolean);
  return h(
    "div",
    { class: how, title: title || null },
    h("dt", {}, name),
    h("dd", {}, h("i", { class: "lamp", "aria-hidden": "true" }), marked(parts.join(" · "))),
  );
}

const isLate = (queue) => queue.lag_seconds > LATE_SECONDS || queue.pending_seconds > LATE_SECONDS;
const isWell = (worker) => WELL.includes(worker.activity);

function lag(queue) {
  return queue.lag_seconds >= 0.5 ? `${span(queue.lag_seconds)} behind` : "";
}

function activities(workers) {
  const counts = new Map();
  for (const { activity } of workers) counts.set(activity, (counts.get(activity) ?? 0) + 1);
  return [...counts].map(([activity, number]) => `${number} ${activity}`).join(", ");
}
