/** What the target does now: each running job with its answer as it is written. */

import { duration, number, rate } from "../format.js";
import { queue } from "../resources.js";
import { h } from "../ui.js";
import { Command, Empty, JobLink, Model, Section, State, exampleSubmit, known } from "./basics.js";
import { LiveText } from "./livetext.js";
import { Elapsed } from "./time.js";
import { Watching } from "./watching.js";

/** Each followed answer holds a connection, and a browser has six for all tabs of a host. */
const FOLLOWED = 2;

export class Running extends Watching {
  watches() {
    return [queue];
  }

  render() {
    return h(
      Section,
      { title: "Running", id: "running", class: "running", aside: queue.data?.mode.reason },
      known(queue, ({ running, count }) =>
        running.length
          ? running.map((job, index) => h(One, { key: job.job_id, job, index }))
          : h(Idle, { waiting: count }),
      ),
    );
  }
}

function Idle({ waiting }) {
  if (waiting) return h(Empty, null, "Nothing runs at this moment.");
  return h(
    Empty,
    null,
    h("p", null, "Nothing runs and nothing waits. Submit a job, or point an Ollama client at this address:"),
    h(Command, null, exampleSubmit()),
  );
}

function One({ job, index }) {
  const loading = job.phase === "loading";
  return h(
    "article",
    { class: "run", "aria-label": `Job ${job.job_id}` },
    h(
      "div",
      { class: "run-head" },
      h(State, { state: job.phase }),
      h(Model, { name: job.model }),
      h(JobLink, { id: job.job_id }),
      job.attempt > 1 && h("span", { class: "quiet" }, `attempt ${job.attempt}`),
    ),
    h(
      "dl",
      { class: "figures-row" },
      h(Figure, { name: loading ? "loading for" : "running for" }, h(Elapsed, { key: job.since, since: job.since })),
      h(Figure, { name: "tokens" }, number(job.tokens)),
      h(Figure, { name: "tokens/s" }, rate(job.tokens_per_second)),
      h(Figure, { name: "ends in" }, h(Eta, { of: job })),
    ),
    index < FOLLOWED &&
      h(LiveText, {
        // Drawn anew for each attempt and phase, so that a load says that it is one.
        key: `${job.attempt} ${job.phase}`,
        id: job.job_id,
        place: index,
        "data-testid": "live-text",
        "aria-label": `The answer to ${job.job_id} so far`,
        waiting: waitingWords(job),
      }),
  );
}

/** What stands where the answer will be. Before its first word nobody can tell whether it comes word by word. */
const waitingWords = ({ phase }) =>
  phase === "loading" ? "The model is being loaded…" : "No word yet: the prompt is being read, or the answer comes in one piece…";

/** A figure and its name. */
export const Figure = ({ name, children }) => h("div", { class: "figure" }, h("dt", null, name), h("dd", null, children));

/** An ETA with its range. Props: `of`, something with `eta_seconds` and its bounds. */
export function Eta({ of: { eta_seconds: eta, eta_low_seconds: low, eta_high_seconds: high } }) {
  if (eta == null) return h("span", { class: "quiet" }, "–");
  const [from, to] = [duration(low), duration(high)];
  return h(
    "span",
    { class: "eta" },
    duration(eta),
    from !== to && h("span", { class: "range", title: "four times out of five it is within this range" }, ` ${from} – ${to}`),
  );
}
