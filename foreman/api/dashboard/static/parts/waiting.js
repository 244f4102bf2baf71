/** The queue, by model in the order in which it will run, each job with its ETA and why it waits. */

import { count, number } from "../format.js";
import { href } from "../router.js";
import { queue } from "../resources.js";
import { h } from "../ui.js";
import { Empty, JobLink, Section, known } from "./basics.js";
import { Eta } from "./running.js";
import { Table } from "./table.js";
import { Ago } from "./time.js";
import { Watching } from "./watching.js";

const COLUMNS = [
  { name: "#", kind: "number place", cell: (job) => number(job.position) },
  { name: "Job", kind: "main", cell: (job) => h(Who, { job }) },
  { name: "Queued", kind: "quiet", cell: (job) => h(Ago, { at: job.created_at }) },
  { name: "Starts in", kind: "number eta-cell", cell: (job) => h(Eta, { of: job }) },
  { name: "Why it waits", kind: "wide", cell: (job) => job.reason },
];

export class Waiting extends Watching {
  watches() {
    return [queue];
  }

  render() {
    const aside = queue.data?.count ? h("a", { href: href("jobs", { state: "queued" }) }, count(queue.data.count, "job")) : null;
    return h(
      Section,
      { title: "Waiting", id: "waiting", aside },
      known(queue, ({ waiting, other_load_keys: others }) => [
        waiting.length ? waiting.map((line) => h(Line, { key: line.load_key, line })) : h(Nothing, { key: "nothing" }),
        others > 0 && h("p", { key: "others", class: "more" }, `And jobs for ${count(others, "more model")}.`),
      ]),
    );
  }
}

/** Its id, and whether somebody waits at the other end. */
const Who = ({ job }) => [h(JobLink, { id: job.job_id }), job.class === "interactive" && h("span", { class: "badge" }, "interactive")];

function Line({ line }) {
  const more = line.count - line.jobs.length;
  return h(
    "div",
    { class: "group" },
    h(
      "h3",
      null,
      h("span", { class: "model" }, line.model),
      h("span", { class: "badge" }, count(line.count, "job")),
      line.resting > 0 && h("span", { class: "quiet" }, `${number(line.resting)} waiting for a retry`),
    ),
    h(Table, { caption: `Waiting for ${line.model}`, columns: COLUMNS, rows: line.jobs, keyOf: (job) => job.job_id }),
    more > 0 && h("p", { class: "more" }, `and ${number(more)} more`),
  );
}

function Nothing() {
  return h(Empty, null, queue.data.running.length ? "Nothing waits: whoever comes now is next." : "Nothing waits.");
}
