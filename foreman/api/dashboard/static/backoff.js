/** Waiting longer after each failure, and never in step with all the other tabs. */

const FIRST_MS = 500;
const LONGEST_MS = 15_000;

export class Backoff {
  #failures = 0;

  /** The next failure is a first one again. */
  reset() {
    this.#failures = 0;
  }

  /**
   * Wait after a failure.
   * @param {AbortSignal} signal - ends the wait at once, as does the network's return
   * @returns {Promise<void>}
   */
  async wait(signal) {
    const longest = Math.min(LONGEST_MS, FIRST_MS * 2 ** this.#failures);
    this.#failures += 1;
    const ended = new AbortController();
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, longest * (0.2 + Math.random() * 0.8));
      const stop = () => (clearTimeout(timer), resolve());
      signal.addEventListener("abort", stop, { signal: ended.signal });
      window.addEventListener("online", stop, { signal: ended.signal });
      if (signal.aborted) stop();
    });
    ended.abort();
  }
}
