/** What everybody has to know first: the target is away or wedged, foreman stops, or is not there; and what to do. */

import { clock } from "../format.js";
import { now } from "../clock.js";
import { feed } from "../live.js";
import { health } from "../resources.js";
import { h } from "../ui.js";
import { targetState } from "./target.js";
import { Watching } from "./watching.js";

export class Banner extends Watching {
  #version = null;

  watches() {
    return [health, feed.state];
  }

  /** Times are told as times of day: words that change by themselves would be read out again and again. */
  render() {
    const { data } = health;
    if (!data) return null;
    this.#version ??= data.version;
    const since = (at) => (at ? ` since ${clock(at, now())}` : "");
    if (data.status === "stopping") return h(Alert, { title: "foreman is shutting down.", todo: "It takes no more jobs. Those that wait are kept, and go on when it is started again." });
    const state = targetState(data);
    if (state === "stalled") {
      return h(Alert, {
        title: `Ollama takes calls and does not answer them${since(data.stalled)}.`,
        todo: "Jobs wait and lose no attempts. Restart Ollama on its machine; foreman asks a model for one token now and then, and goes on by itself once that is answered.",
      });
    }
    if (state === "down") {
      return h(Alert, {
        title: `Ollama cannot be reached${since(data.degraded_since)}.`,
        detail: data.target.error,
        todo: "Jobs wait and lose no attempts. Start Ollama, or check FOREMAN_OLLAMA_URL; foreman keeps asking and goes on by itself.",
      });
    }
    if (data.version !== this.#version) return h(Alert, { title: `foreman is now version ${data.version}.`, todo: "This page is of the version before: reload it.", mild: true });
    return null;
  }
}

const Alert = ({ title, detail, todo, mild = false }) =>
  h("div", { class: mild ? "banner mild" : "banner", role: "alert" }, h("p", null, h("strong", null, title), detail && ` ${detail}`), h("p", null, todo));
