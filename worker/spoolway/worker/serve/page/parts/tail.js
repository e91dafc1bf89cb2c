/* Watching what comes in: asked again and again, each row once. */

import { ask } from "../base/api.js";
import { changed } from "../base/address.js";

const EVERY_MS = 1_500;
const LATER_MS = 5_000; // after a failure
const REMEMBERED = 2_000;

export class Tail {
  /** `onRows(rows)`: the new ones, oldest first; `onFailure(failure)`: it goes on by itself. */
  constructor({ query, onRows, onFailure }) {
    this.query = query;
    this.onRows = onRows;
    this.onFailure = onFailure;
    this.seen = new Set();
    this.since = null;
    this.stopped = new AbortController();
    this.timer = 0;
  }

  /** Begin after these rows, which are shown already. */
  start(shown) {
    for (const row of shown) this.seen.add(row.id);
    this.since = new Date(Date.now() - 10_000).toISOString();
    this.look();
  }

  stop() {
    this.stopped.abort();
    clearTimeout(this.timer);
  }

  async look() {
    let wait = EVERY_MS;
    if (!document.hidden) {
      try {
        const { data, now } = await ask("/api/tail", changed(this.query, { since: this.since }), {
          signal: this.stopped.signal,
        });
        this.since = now;
        const fresh = data.filter((row) => !this.seen.has(row.id));
        for (const row of fresh) this.seen.add(row.id);
        this.forget();
        this.onRows(fresh);
      } catch (failure) {
        if (failure.name === "AbortError") return;
        this.onFailure(failure);
        wait = LATER_MS;
      }
    }
    if (!this.stopped.signal.aborted) this.timer = setTimeout(() => this.look(), wait);
  }

  forget() {
    for (const id of this.seen) {
      if (this.seen.size <= REMEMBERED) return;
      this.seen.delete(id);
    }
  }
}
