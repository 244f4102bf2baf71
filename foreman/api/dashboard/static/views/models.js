/** The models: which are in memory, who waits for them, how fast they are; and what swapping them cost. */

import { duration, number, rate, short, size } from "../format.js";
import { loaded, statistics, tags } from "../resources.js";
import { href } from "../router.js";
import { h } from "../ui.js";
import { Command, Empty, Section, State, known } from "../parts/basics.js";
import { memory } from "../parts/target.js";
import { Table } from "../parts/table.js";
import { Ago } from "../parts/time.js";
import { Watching } from "../parts/watching.js";

/** The figures of a model do not depend on the window; the shortest is the least work. */
const figures = () => statistics("1h");

const Name = ({ name }) => h("a", { class: "model", href: href("jobs", { model: name }), title: `Jobs for ${name}` }, name);

const USED = [
  { name: "Model", kind: "main", cell: (row) => h(Name, { name: row.model }) },
  { name: "Memory", kind: "tag", cell: (row) => row.resident && h(State, { state: "resident" }) },
  { name: "Waiting", kind: "number", cell: (row) => number(row.waiting) },
  { name: "Submitted", kind: "number", cell: (row) => short(row.submitted) },
  { name: "Done", kind: "number", cell: (row) => short(row.done) },
  { name: "Failed", kind: "number", cell: (row) => short(row.failed) },
  { name: "Cancelled", kind: "number", cell: (row) => short(row.cancelled) },
  { name: "A load", kind: "number", cell: (row) => duration(row.load_mean_seconds) },
  { name: "A run", kind: "number", cell: (row) => duration(row.run_mean_seconds) },
  { name: "Tokens/s", kind: "number", cell: (row) => rate(row.tokens_per_second) },
  { name: "Tokens", kind: "number", cell: (row) => short(row.generated_tokens) },
];

const RESIDENT = [
  { name: "Model", kind: "main", cell: (row) => h(Name, { name: row.name }) },
  { name: "Memory", kind: "number", cell: (row) => memory(row) },
  { name: "Context", kind: "number", cell: (row) => number(row.context_length) },
  { name: "Unloaded", cell: (row) => h(Until, { at: row.expires_at }) },
];

const HAD = [
  { name: "Model", kind: "main", cell: (row) => h(Name, { name: row.name }) },
  { name: "Size", kind: "number", cell: (row) => size(row.size) },
  { name: "Parameters", kind: "number", cell: (row) => row.details?.parameter_size ?? "–" },
  { name: "Quantization", kind: "quiet", cell: (row) => row.details?.quantization_level ?? "–" },
  { name: "Changed", kind: "quiet", cell: (row) => h(Ago, { at: row.modified_at }) },
];

/** Ollama gives a year far ahead for a model that it keeps for ever, and one long past for others. */
function Until({ at }) {
  const years = at ? new Date(at).getFullYear() - new Date().getFullYear() : 0;
  return !at || Math.abs(years) > 5 ? "not by itself" : h(Ago, { at });
}

export class Models extends Watching {
  watches() {
    return [figures(), loaded, tags];
  }

  render() {
    return h(
      "div",
      { class: "view" },
      h("h1", { tabIndex: -1 }, "Models"),
      h(
        Section,
        { title: "In memory", id: "resident" },
        known(loaded, ({ models }) =>
          models?.length
            ? h(Table, { caption: "Models in the target's memory", columns: RESIDENT, rows: models, keyOf: (row) => row.name })
            : h(Empty, null, "No model is loaded. The next job's is."),
        ),
      ),
      h(Section, { title: "Swaps", id: "swaps" }, known(figures(), ({ totals }) => h(Swaps, { totals }))),
      h(
        Section,
        { title: "Used", id: "used", aside: "since the log began" },
        known(figures(), ({ models }) =>
          models.length
            ? h(Table, { caption: "Models that jobs were for", columns: USED, rows: models, keyOf: (row) => row.model })
            : h(Empty, null, "No job has been submitted yet."),
        ),
      ),
      h(
        Section,
        { title: "On the server", id: "on-the-server" },
        known(tags, ({ models }) =>
          models?.length
            ? h(Table, { caption: "Models that Ollama has", columns: HAD, rows: models, keyOf: (row) => row.name })
            : h(Empty, null, h("p", null, "Ollama has no model yet. On its machine:"), h(Command, null, "ollama pull llama3.2")),
        ),
      ),
    );
  }
}

function Swaps({ totals }) {
  const { swaps, swaps_in_order: inOrder, swaps_avoided: avoided } = totals;
  const saved = inOrder > 0 ? Math.round((100 * avoided) / inOrder) : null;
  return [
    h(
      "dl",
      { key: "figures", class: "strip" },
      [
        ["Models loaded", number(swaps)],
        ["In order of arrival", number(inOrder)],
        ["Avoided", number(avoided)],
        ["Saved", saved === null ? "–" : `${number(saved)} %`],
      ].map(([name, value]) => h("div", { key: name, class: "key-figure" }, h("dt", null, name), h("dd", null, value))),
    ),
    h(
      "p",
      { key: "words", class: "quiet pad" },
      "Serving jobs in the order of their arrival would have loaded a model as often as the second figure says. foreman groups them by model instead.",
    ),
  ];
}
