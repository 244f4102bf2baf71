/** What happened to a job: its events in a sentence each, and its attempts as they follow from them. */

import { count, duration, number, rate } from "../format.js";
import { h } from "../ui.js";
import { Empty, State } from "./basics.js";
import { seconds } from "./joblist.js";
import { Table } from "./table.js";
import { At } from "./time.js";

const REASONS = {
  connection: "the connection broke",
  unreachable: "Ollama was not reachable; no attempt was spent",
  interrupted: "foreman was stopped; no attempt was spent",
};
export const CANCELLED_BY = {
  caller_left: "its caller left",
  api: "by request",
  shutdown: "foreman shut down and its caller went with it",
  restart: "foreman was restarted and its caller went with it",
};

/** @type {Record<string, (data: any) => string>} */
const WORDS = {
  "job.queued": ({ model, endpoint, source, job_class: jobClass, retry_of: retryOf }) =>
    `${source === "sync" ? "A blocking call" : "A job"} for ${model} (${endpoint}, ${jobClass})${retryOf ? `, repeating ${retryOf}` : ""}`,
  "job.loading": ({ attempt, evicts }) => `Attempt ${attempt}: the model is loaded${evicts ? ` in place of ${evicts}` : ""}`,
  "job.working": ({ attempt, waited_s: waited, swapped, load_s: load }) =>
    `Attempt ${attempt}: sent to Ollama after a wait of ${duration(waited)}${swapped && load != null ? `, with a load of ${duration(load)}` : ""}`,
  "job.requeued": ({ reason, error }) => `Back in the queue, since ${REASONS[reason] ?? reason}: ${error}`,
  "job.done": ({ generated_tokens: tokens, run_s: run, done_reason: reason }) =>
    `Answered${tokens == null ? "" : `, ${count(tokens, "token")}`}${run == null ? "" : ` in ${duration(run)}`}${reason === "length" ? ", cut at its longest" : ""}`,
  "job.failed": ({ error, status }) => `Failed: ${error}${status ? ` (HTTP ${status})` : ""}`,
  "job.cancelled": ({ by }) => `Cancelled: ${CANCELLED_BY[by] ?? by}`,
  "job.expired": ({ removed }) => `Contents removed: ${removed.join(", ")}`,
};

/** Props: `events`. */
export const Timeline = ({ events }) =>
  h(
    "ol",
    { class: "timeline" },
    events.map(({ version, type, at, data }, index) =>
      h(
        "li",
        { key: version, class: `event-${type.replace("job.", "")}` },
        h("span", { class: "when" }, h(At, { at })),
        h("span", { class: "what" }, h("code", null, type), " ", WORDS[type]?.(data) ?? ""),
        index > 0 && h("span", { class: "after quiet" }, `+${duration(seconds(events[index - 1].at, at))}`),
      ),
    ),
  );

/**
 * The attempts, from first to last.
 * @param {any[]} events
 */
export function attempts(events) {
  const found = [];
  let open = null;
  for (const { type, at, data } of events) {
    if (type === "job.loading" || (type === "job.working" && !open)) {
      open = { key: found.length + 1, number: data.attempt, began: at, load: null, ended: null, outcome: "loading", error: "" };
      found.push(open);
    }
    if (!open) continue;
    if (type === "job.working") Object.assign(open, { load: data.load_s, outcome: "working" });
    if (["job.requeued", "job.done", "job.failed", "job.cancelled"].includes(type)) {
      const outcome = type === "job.requeued" ? "broken" : type.replace("job.", "");
      const speed = data.eval_duration ? data.generated_tokens / (data.eval_duration / 1e9) : null;
      Object.assign(open, { ended: at, outcome, error: data.error ?? "", tokens: data.generated_tokens, speed, first: data.first_token_s });
      open = null;
    }
  }
  return found;
}

const COLUMNS = [
  { name: "#", kind: "number place", cell: (one) => number(one.number) },
  { name: "Outcome", kind: "tag", cell: (one) => h(State, { state: one.outcome }) },
  { name: "Began", cell: (one) => h(At, { at: one.began }) },
  { name: "Load", kind: "number", cell: (one) => duration(one.load) },
  { name: "First token", kind: "number", cell: (one) => duration(one.first) },
  { name: "Lasted", kind: "number", cell: (one) => duration(seconds(one.began, one.ended)) },
  { name: "Tokens", kind: "number", cell: (one) => number(one.tokens) },
  { name: "Tokens/s", kind: "number", cell: (one) => rate(one.speed) },
  { name: "Error", kind: "wide", cell: (one) => one.error },
];

/** Props: `events`. */
export function Attempts({ events }) {
  const rows = attempts(events);
  if (!rows.length) return h(Empty, null, "It has not been begun yet.");
  const columns = rows.some((one) => one.error) ? COLUMNS : COLUMNS.slice(0, -1);
  return h(Table, { caption: "Attempts", columns, rows, keyOf: (one) => one.key });
}
