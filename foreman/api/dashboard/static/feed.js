/**
 * The log as it grows: `GET /events` as server-sent events, over fetch because EventSource sends no Authorization.
 * Comes back by itself with the last id it had, so that nothing is missed and nothing comes twice.
 */

import { request } from "./api.js";
import { Backoff } from "./backoff.js";
import { parser } from "./sse.js";
import { Value } from "./value.js";

/** foreman gives a sign of life every 15 s; after this long without one the connection is dead. */
const SILENCE_MS = 40_000;
/** A connection that is heard after this long is a good one; a server that ends each at once is not to be besieged. */
const GOOD_MS = 3_000;

/** @typedef {{position: number, stream: string, type: string, at: string, data: any}} LogEvent */

export class Feed {
  /** @type {Value<"connecting" | "live" | "reconnecting" | "paused">} */
  state = new Value("connecting");
  #lastId = null;
  #running = null;
  #onEvent;
  #onGap;

  /**
   * @param {(event: LogEvent) => void} onEvent
   * @param {() => void} onGap - events may have been missed or made void: look at everything anew
   */
  constructor(onEvent, onGap) {
    this.#onEvent = onEvent;
    this.#onGap = onGap;
  }

  /** Connect, and stay connected. */
  start() {
    if (this.#running) return;
    this.#running = new AbortController();
    this.state.set(this.state.get() === "paused" ? "reconnecting" : "connecting");
    this.#stay(this.#running.signal);
  }

  /** Let go until the next start. */
  stop() {
    this.#running?.abort();
    this.#running = null;
    this.state.set("paused");
  }

  /** Connect anew: the connection may be dead without anybody having been told. */
  restart() {
    if (!this.#running) return;
    this.stop();
    this.start();
  }

  async #stay(signal) {
    const backoff = new Backoff();
    while (!signal.aborted) {
      try {
        await this.#listen(signal, () => backoff.reset());
      } catch (error) {
        if (error.status === 400) this.#lastId = null; // the id is none that this foreman understands
      }
      if (signal.aborted) return;
      this.state.set("reconnecting");
      await backoff.wait(signal);
    }
  }

  async #listen(signal, heard) {
    const connection = new AbortController();
    const close = () => connection.abort();
    signal.addEventListener("abort", close);
    let watchdog = setTimeout(close, SILENCE_MS);
    const began = performance.now();
    try {
      const headers = { accept: "text/event-stream" };
      if (this.#lastId !== null) headers["last-event-id"] = this.#lastId;
      const response = await request("/events", { headers, signal: connection.signal });
      const take = parser((message) => this.#take(message));
      this.state.set("live");
      this.#onGap();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        if (performance.now() - began > GOOD_MS) heard();
        clearTimeout(watchdog);
        watchdog = setTimeout(close, SILENCE_MS);
        take(value);
      }
    } finally {
      clearTimeout(watchdog);
      signal.removeEventListener("abort", close);
      connection.abort();
    }
  }

  #take({ type, id, data }) {
    if (id !== null) this.#lastId = id;
    if (type === "reset") this.#onGap();
    else if (data) this.#onEvent(JSON.parse(data));
  }
}
