/** Jobs as a table: their outcome and how long it took. */

import { duration, number, rate } from "../format.js";
import { h } from "../ui.js";
import { JobLink, Model, State } from "./basics.js";
import { Table } from "./table.js";
import { Ago } from "./time.js";

/** @param {string | null} from @param {string | null} to - seconds between two moments; null without one of them */
export const seconds = (from, to) => (from && to ? (Date.parse(to) - Date.parse(from)) / 1_000 : null);

/** @param {any} job - how fast it wrote, if it did */
export function speed({ result }) {
  const time = result?.eval_seconds || result?.run_seconds;
  return result?.generated_tokens && time ? result.generated_tokens / time : null;
}

const COLUMNS = [
  { name: "State", kind: "tag", cell: (job) => h(State, { state: job.state }) },
  { name: "Job", kind: "main", cell: (job) => h(JobLink, { id: job.job_id }) },
  { name: "Model", kind: "model-cell", cell: (job) => h(Model, { name: job.model }) },
  { name: "Queued", kind: "quiet", cell: (job) => h(Ago, { at: job.created_at }) },
  { name: "Waited", kind: "number", cell: (job) => duration(seconds(job.created_at, job.started_at)) },
  { name: "Ran", kind: "number", cell: (job) => duration(seconds(job.started_at, job.completed_at)) },
  { name: "Tokens", kind: "number", cell: (job) => number(job.result?.generated_tokens) },
  { name: "Tokens/s", kind: "number", cell: (job) => rate(speed(job)) },
];

/** Props: `jobs`, `caption`. */
export const JobTable = ({ jobs, caption }) =>
  h(Table, { caption, columns: COLUMNS, rows: jobs, keyOf: (job) => job.job_id });
