/** One job: where it stands, what was asked and answered, what happened to it, and whom it told. */

import { say } from "../announce.js";
import { send } from "../api.js";
import { count, duration, number, rate, size } from "../format.js";
import { deliveriesOf, job as jobResource } from "../resources.js";
import { go } from "../router.js";
import { h } from "../ui.js";
import { Empty, Fact, JobLink, Model, Section, State, known } from "../parts/basics.js";
import { Answer, Artifact, Prompt } from "../parts/contents.js";
import { Deliveries, redeliver } from "../parts/deliveries.js";
import { Confirm } from "../parts/dialog.js";
import { Attempts, CANCELLED_BY, Timeline } from "../parts/history.js";
import { seconds, speed } from "../parts/joblist.js";
import { LiveText } from "../parts/livetext.js";
import { Eta } from "../parts/running.js";
import { Ago, At } from "../parts/time.js";
import { Watching } from "../parts/watching.js";

const OPEN = new Set(["queued", "loading", "working"]);
/** Characters of an answer that stay on the page while it is written. */
const KEPT_LIVE = 250_000;

/** Props: `id`, `onTitle`; drawn anew for each job. */
export class JobPage extends Watching {
  #job = jobResource(this.props.id);
  #deliveries = deliveriesOf(this.props.id);
  /** One for each wish to repeat the job: pressed again after a lost answer it makes no second one. */
  #retryKey = crypto.getRandomValues(new Uint32Array(4)).join("-");
  #said = "";
  state = { asking: false, busy: false };

  watches() {
    return [this.#job, this.#deliveries];
  }

  componentDidUpdate() {
    const state = this.#state();
    if (!state || state === this.#said) return;
    if (this.#said) say(`The job is ${state}.`);
    this.#said = state;
    this.props.onTitle(`${state} · ${this.props.id}`);
  }

  render({ id }) {
    const state = this.#state();
    return h(
      "div",
      { class: "view job" },
      h(
        "div",
        { class: "job-head" },
        h("h1", { tabIndex: -1 }, "Job ", h("span", { class: "id" }, id)),
        state && h(State, { state, "data-testid": "job-state" }),
        h("div", { class: "actions" }, state && this.#actions(state)),
      ),
      known(this.#job, ({ job, events }) => (job ? this.#present(job, events) : this.#expired(events))),
      this.state.asking && this.#question(),
    );
  }

  #state() {
    const { data } = this.#job;
    return data && (data.job?.state ?? "expired");
  }

  #actions(state) {
    const { busy } = this.state;
    // Not `disabled`, which would take the keyboard away from it.
    const button = (name, act, more) => h("button", { type: "button", "aria-disabled": busy, onClick: () => busy || act(), ...more }, name);
    if (OPEN.has(state)) return button("Cancel job", () => this.setState({ asking: true }), { class: "danger" });
    return state === "expired" ? null : button("Retry as a new job", () => this.#retry());
  }

  #question() {
    const close = () => this.setState({ asking: false });
    return h(
      Confirm,
      {
        title: "Cancel this job?",
        yes: "Cancel this job",
        no: "Keep it",
        onYes: () => {
          close();
          this.#cancel();
        },
        onNo: close,
      },
      "What it has answered so far is lost. You can retry it as a new job later.",
    );
  }

  async #cancel() {
    await this.#attempt("Not cancelled", () => send("DELETE", `/jobs/${encodeURIComponent(this.props.id)}`));
    this.#job.refresh();
  }

  async #retry() {
    const headers = { "idempotency-key": this.#retryKey };
    const made = await this.#attempt("Not retried", () => send("POST", `/jobs/${encodeURIComponent(this.props.id)}/retry`, { headers }));
    if (!made) return;
    say("A new job is queued; this is its page.", { seen: true });
    go(`jobs/${made.job_id}`);
  }

  /** @param {string} failure @param {() => Promise<any>} act */
  async #attempt(failure, act) {
    this.setState({ busy: true });
    try {
      return await act();
    } catch (error) {
      say(`${failure}: ${error.message}.`, { fault: true, seen: true });
      return null;
    } finally {
      this.setState({ busy: false });
    }
  }

  #present(job, events) {
    const asked = events[0].data.request;
    return [
      h(Summary, { key: "summary", job }),
      h(
        "div",
        { key: "columns", class: "columns" },
        h(
          "div",
          { class: "column" },
          h(AnswerSection, { job }),
          h(Section, { title: "Prompt", id: "prompt" }, h(Artifact, { id: job.job_id, name: "request", bytes: asked.size, draw: (json) => h(Prompt, { id: job.job_id, json }) })),
        ),
        h("div", { class: "column side" }, h(History, { events }), h(Files, { job, asked })),
      ),
      h(Section, { key: "attempts", title: "Attempts", id: "attempts", aside: `${job.attempt} of ${job.max_attempts} spent` }, h(Attempts, { events })),
      this.#webhooks(job),
    ];
  }

  #expired(events) {
    return [
      h("p", { key: "expired", class: "note-box" }, "The job's contents have expired (FOREMAN_JOB_TTL). What happened to it is kept."),
      h(History, { key: "history", events }),
      h(Section, { key: "attempts", title: "Attempts", id: "attempts" }, h(Attempts, { events })),
    ];
  }

  #webhooks(job) {
    const { data } = this.#deliveries;
    const refresh = () => this.#deliveries.refresh();
    const ended = data?.filter((one) => one.state !== "pending").length;
    const again = () => redeliver(`/jobs/${job.job_id}/deliveries/redeliver`, {}, refresh);
    const aside = ended > 0 && h("button", { type: "button", onClick: again }, "Redeliver all");
    return h(
      Section,
      { key: "webhooks", title: "Webhooks", id: "webhooks", aside },
      job.webhook && h("p", { class: "address" }, "To ", h("code", null, job.webhook.url), job.webhook.events && `, for ${job.webhook.events.join(", ") || "its end"}`),
      job.webhook
        ? known(this.#deliveries, (found) => (found.length ? h(Deliveries, { deliveries: found, caption: "Webhooks of this job", onSent: refresh }) : h(Empty, null, "Nothing has been told yet.")))
        : h(Empty, null, "This job tells nobody. One that was submitted with a state_webhook_url would."),
    );
  }
}

const History = ({ events }) =>
  h(Section, { title: "Timeline", id: "timeline", aside: count(events.length, "event") }, h(Timeline, { events }));

function Summary({ job }) {
  const { result, error, queue } = job;
  return h(
    "section",
    { class: "card", "aria-label": "Summary" },
    h(
      "dl",
      { class: "facts wide" },
      h(Fact, { name: "Model" }, h(Model, { name: job.model })),
      h(Fact, { name: "Kind" }, `${job.endpoint}, ${job.class}, ${job.source === "sync" ? "blocking call" : "asynchronous"}`),
      h(Fact, { name: "Queued" }, h(Ago, { at: job.created_at })),
      h(Fact, { name: "Waited" }, duration(seconds(job.created_at, job.started_at))),
      h(Fact, { name: "Ran" }, duration(seconds(job.started_at, job.completed_at))),
      h(Fact, { name: "Ended" }, job.completed_at && h(At, { at: job.completed_at })),
      h(Fact, { name: "First token after" }, duration(result?.first_token_seconds)),
      h(Fact, { name: "Tokens" }, result && `${number(result.prompt_tokens)} in, ${number(result.generated_tokens)} out`),
      h(Fact, { name: "Tokens/s" }, rate(speed(job))),
      h(Fact, { name: "Ended by" }, result?.done_reason),
      h(Fact, { name: "Retry of" }, job.retry_of && h(JobLink, { id: job.retry_of })),
      h(Fact, { name: "Place" }, queue && `${number(queue.position)} of all, ${number(queue.ahead)} ahead`),
      h(Fact, { name: "Starts in" }, queue && h(Eta, { of: queue })),
    ),
    queue && h("p", { class: "note-box" }, `${queue.reason}.`),
    job.last_attempt_error && h("p", { class: "note-box warn" }, `The last attempt ended without an answer: ${job.last_attempt_error}`),
    error && h("p", { class: job.state === "failed" ? "note-box bad" : "note-box" }, job.state === "cancelled" ? `The job was cancelled: ${CANCELLED_BY[error.by] ?? error.by}.` : `${error.message}${error.status ? ` (HTTP ${error.status})` : ""}`),
  );
}

function AnswerSection({ job }) {
  const id = job.job_id;
  const completion = job.artifacts.find(({ name }) => name === "completion");
  if (completion) {
    const draw = (json) => h(Answer, { id, json });
    return h(Section, { title: "Answer", id: "answer" }, h(Artifact, { key: completion.sha256, id, name: "completion", bytes: completion.size, known: completion.data, draw }));
  }
  if (OPEN.has(job.state)) {
    const waiting = job.state === "queued" ? "The answer is written here as it comes." : "No word yet…";
    return h(
      Section,
      { title: "Answer", id: "answer", aside: job.state === "working" ? "as it comes" : null },
      h(LiveText, { key: id, id, kept: KEPT_LIVE, waiting, "data-testid": "live-text", "aria-label": "The answer so far" }),
    );
  }
  return h(Section, { title: "Answer", id: "answer" }, h(Empty, null, "There is none."));
}

function Files({ job, asked }) {
  const files = [{ name: "request", ...asked }, ...job.artifacts];
  return h(
    Section,
    { title: "In the log", id: "in-the-log" },
    h(
      "dl",
      { class: "facts" },
      h(Fact, { name: "Position" }, number(job.log_position)),
      h(Fact, { name: "Hash" }, h("code", { class: "hash" }, job.log_hash)),
      files.map((file) => h(Fact, { key: file.name, name: file.name }, size(file.size), " ", h("code", { class: "hash", title: "SHA-256" }, file.sha256))),
    ),
  );
}
