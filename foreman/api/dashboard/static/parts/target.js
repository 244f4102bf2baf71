/** How the target is: whether it answers, what it holds in memory; and the daemon in front of it. */

import { number, size } from "../format.js";
import { health, loaded } from "../resources.js";
import { h } from "../ui.js";
import { Fact, Model, Section, State, known } from "./basics.js";
import { Ago, At } from "./time.js";
import { Watching } from "./watching.js";

/** @param {any} data - of `/healthz`: the target's state in a word */
export function targetState(data) {
  if (data.stalled) return "stalled";
  if (data.target.reachable === null) return "unknown";
  return data.degraded ? "down" : "up";
}

export class Target extends Watching {
  watches() {
    return [health, loaded];
  }

  render() {
    return h(
      Section,
      { title: "Target", id: "target", aside: health.data && h(State, { state: targetState(health.data) }) },
      known(health, (data) => [h(Facts, { key: "facts", data }), h(Resident, { key: "resident" })]),
    );
  }
}

function Facts({ data }) {
  const since = data.stalled ?? (data.degraded ? data.degraded_since : null);
  return h(
    "dl",
    { class: "facts" },
    h(Fact, { name: "Ollama" }, data.target.version),
    h(Fact, { name: "Away since" }, since && h(At, { at: since })),
    h(Fact, { name: "Last answer" }, data.target.last_success && h(Ago, { at: data.target.last_success })),
    h(Fact, { name: "foreman" }, data.version),
    h(Fact, { name: "Up since" }, h(Ago, { at: data.up_since })),
    h(Fact, { name: "Events in the log" }, number(data.log_position)),
  );
}

function Resident() {
  return h(
    "div",
    { class: "resident" },
    h("h3", null, "In memory"),
    known(loaded, ({ models }) =>
      models?.length
        ? h(
            "ul",
            null,
            models.map((model) =>
              h("li", { key: model.name }, h(Model, { name: model.name }), h("span", { class: "quiet" }, memory(model))),
            ),
          )
        : h("p", { class: "quiet" }, "No model is loaded. The next job's is."),
    ),
  );
}

/** @param {any} model - of `/api/ps`: how much of it is where */
export function memory(model) {
  const onGpu = model.size_vram ?? 0;
  if (!model.size) return "";
  if (onGpu >= model.size) return `${size(model.size)} on the GPU`;
  return onGpu ? `${size(onGpu)} of ${size(model.size)} on the GPU` : `${size(model.size)} on the CPU`;
}
