/** One answer of foreman's that is on show: asked for when it is stale, at most every so often, never twice at once. */

import * as live from "./live.js";

/** @typedef {{data: any, error: Error | null}} Known */

/** An answer that takes longer than this does not come: its connection is dead, and nobody has told the browser. */
const PATIENCE_MS = 60_000;
/** How soon to ask again after a failure that is not the question's fault. */
const AGAIN_MS = 10_000;
/** However slow foreman is, the page takes no more than a part of its time. */
const RESTS = 4;

export class Resource {
  /** @type {any} the last answer; null before the first */
  data = null;
  /** @type {Error | null} why the last question had no answer */
  error = null;
  #load;
  #concerns;
  #restMs;
  #everyMs;
  #watchers = new Set();
  #hide = null;
  #asking = null;
  #stale = false;
  #timer = 0;
  #askedAt = -Infinity;
  #tookMs = 0;

  /**
   * @param {object} how
   * @param {(signal: AbortSignal) => Promise<any>} how.load
   * @param {(event: import("./feed.js").LogEvent) => boolean} [how.concerns] - which events make it stale
   * @param {() => number} [how.restMs] - the least time between two questions
   * @param {(data: any) => number} [how.everyMs] - how soon it is stale without an event; 0 for never
   */
  constructor({ load, concerns = () => false, restMs = () => 500, everyMs = () => 0 }) {
    this.#load = load;
    this.#concerns = concerns;
    this.#restMs = restMs;
    this.#everyMs = everyMs;
  }

  /** @param {import("./feed.js").LogEvent} event */
  concerns(event) {
    return this.#concerns(event);
  }

  /**
   * Keep it current as long as somebody watches.
   * @param {() => void} watcher - called when data or error have changed
   * @returns {() => void} to stop
   */
  watch(watcher) {
    this.#watchers.add(watcher);
    if (this.#watchers.size === 1) {
      this.#hide = live.show(this);
      this.refresh();
    }
    return () => {
      this.#watchers.delete(watcher);
      if (this.#watchers.size === 0) this.#rest();
    };
  }

  /** It is stale: ask soon. */
  refresh() {
    this.#stale = true;
    if (!this.#asking) this.#plan(this.#pause());
  }

  /** It is stale, and somebody waits for it: ask now. */
  refreshNow() {
    this.#stale = true;
    if (!this.#asking) this.#plan(0);
  }

  #pause() {
    return this.#askedAt + Math.max(this.#restMs(), RESTS * this.#tookMs) - performance.now();
  }

  #plan(inMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), Math.max(0, inMs));
  }

  async #ask() {
    // Whoever looks again, or unlocks the page, has the feed refresh everything.
    if (!live.awake() || this.#watchers.size === 0) return;
    this.#stale = false;
    this.#askedAt = performance.now();
    const asking = new AbortController();
    this.#asking = asking;
    try {
      const data = await this.#load(AbortSignal.any([asking.signal, AbortSignal.timeout(PATIENCE_MS)]));
      if (asking.signal.aborted) return;
      [this.data, this.error] = [data, null];
    } catch (error) {
      if (asking.signal.aborted) return;
      this.error = error;
    }
    this.#asking = null;
    this.#tookMs = performance.now() - this.#askedAt;
    this.#tell();
    const { status } = this.error ?? {};
    const refused = status >= 400 && status < 500;
    const everyMs = this.error && !refused ? AGAIN_MS : this.#everyMs(this.data);
    if (this.#stale) this.#plan(this.#pause());
    else if (everyMs) this.#plan(everyMs);
  }

  #rest() {
    this.#hide?.();
    clearTimeout(this.#timer);
    this.#asking?.abort();
    this.#asking = null;
  }

  #tell() {
    for (const watcher of [...this.#watchers]) watcher();
  }
}
