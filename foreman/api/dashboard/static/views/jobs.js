/** All jobs, newest first: by state and model, a page at a time. There may be a hundred thousand. */

import { get } from "../api.js";
import { count } from "../format.js";
import { onEvent } from "../live.js";
import { Resource } from "../resource.js";
import { tags } from "../resources.js";
import { go } from "../router.js";
import { h } from "../ui.js";
import { Command, Empty, Section, exampleSubmit, known } from "../parts/basics.js";
import { JobTable } from "../parts/joblist.js";
import { Watching } from "../parts/watching.js";

const PAGE = 50;
const STATES = ["queued", "loading", "working", "done", "failed", "cancelled", "expired"];
/** What an event makes of a job that is too far down to be asked for again. */
const STATE_AFTER = {
  "job.loading": "loading",
  "job.working": "working",
  "job.requeued": "queued",
  "job.done": "done",
  "job.failed": "failed",
  "job.cancelled": "cancelled",
  "job.expired": "expired",
};

/** Props: `route`; drawn anew for each filter. */
export class Jobs extends Watching {
  #filter = {
    state: this.props.route.query.get("state") ?? "",
    model: this.props.route.query.get("model") ?? "",
  };
  #first = new Resource({
    load: async (signal) => this.#pushed(await get("/jobs", { ...this.#filter, limit: PAGE }, signal)),
    concerns: (event) => event.type.startsWith("job."),
  });
  #stop = null;
  state = { older: [], next: undefined, loading: false, fault: "" };

  watches() {
    return [this.#first, tags];
  }

  componentDidMount() {
    super.componentDidMount();
    this.#stop = onEvent((event) => this.#age(event));
  }

  componentWillUnmount() {
    super.componentWillUnmount();
    this.#stop();
  }

  render(_, { fault }) {
    return h(
      "div",
      { class: "view" },
      h("h1", { tabIndex: -1 }, "Jobs"),
      h(Filter, { ...this.#filter, models: (tags.data?.models ?? []).map(({ name }) => name) }),
      h(
        Section,
        { title: this.#title(), id: "jobs" },
        known(this.#first, (data) => this.#list(data)),
        fault && h("p", { class: "fault", role: "alert" }, fault),
      ),
    );
  }

  #title() {
    const { state, model } = this.#filter;
    return [state ? `Jobs that are ${state.replaceAll(",", ", ")}` : "All jobs", model && `for ${model}`].filter(Boolean).join(" ");
  }

  #list({ jobs, next }) {
    const { older, loading } = this.state;
    const all = merged(jobs, older);
    if (!all.length) return h(Nothing, { filtered: Boolean(this.#filter.state || this.#filter.model) });
    const following = this.state.next === undefined ? next : this.state.next;
    return [
      h(JobTable, { key: "table", jobs: all, caption: this.#title() }),
      h(
        "p",
        { key: "more", class: "more" },
        `${count(all.length, "job")} shown${following ? "" : ": these are all"}. `,
        following &&
          h("button", { type: "button", disabled: loading, onClick: () => this.#more(jobs, following) }, loading ? "Loading…" : "Load more"),
      ),
    ];
  }

  /** What newer jobs push off the first page stays in a list that has been made longer. */
  #pushed(page) {
    const before = this.#first.data?.jobs ?? [];
    if (this.state.older.length) {
      const known = new Set(before.map((job) => job.job_id));
      // More have come than a page holds: between the two there is a gap, so the list begins anew.
      const gap = !page.jobs.some((job) => known.has(job.job_id));
      this.setState(({ older }) => (gap ? { older: [], next: undefined } : { older: merged(before, older) }));
    }
    return page;
  }

  /** @param {any[]} jobs - those of the first page */
  async #more(jobs, cursor) {
    this.setState({ loading: true, fault: "" });
    try {
      const page = await get("/jobs", { ...this.#filter, limit: PAGE, cursor });
      this.setState(({ older }) => ({ older: merged(merged(jobs, older), page.jobs), next: page.next }));
    } catch (error) {
      this.setState({ fault: `More could not be loaded: ${error.message}.` });
    }
    this.setState({ loading: false });
  }

  #age(event) {
    const after = STATE_AFTER[event.type];
    if (!after || !this.state.older.some((job) => job.job_id === event.stream)) return;
    const over = { done: event.at, failed: event.at, cancelled: event.at }[after];
    this.setState(({ older }) => ({
      older: older.map((job) =>
        job.job_id === event.stream
          ? {
              ...job,
              state: after,
              started_at: after === "working" ? event.at : job.started_at,
              completed_at: over ?? job.completed_at,
            }
          : job,
      ),
    }));
  }
}

/** @param {any[]} newer @param {any[]} older - of a job that is in both the first is right */
function merged(newer, older) {
  const ids = new Set(newer.map((job) => job.job_id));
  return [...newer, ...older.filter((job) => !ids.has(job.job_id))];
}

function Filter({ state, model, models }) {
  const change = (name) => (event) => go("jobs", { state, model, [name]: event.currentTarget.value });
  const options = (names, all) => [
    h("option", { key: "", value: "" }, all),
    ...names.map((name) => h("option", { key: name, value: name }, name)),
  ];
  return h(
    "div",
    { class: "filter", role: "search", "aria-label": "Filter jobs" },
    h("label", null, "State ", h("select", { value: state, onChange: change("state") }, options(withOwn(STATES, state), "any"))),
    h("label", null, "Model ", h("select", { value: model, onChange: change("model") }, options(withOwn(models, model), "any"))),
    (state || model) && h("button", { type: "button", onClick: () => go("jobs") }, "Clear"),
  );
}

/** @param {string[]} names @param {string} own - one that the address asks for belongs to the choice, too */
const withOwn = (names, own) => (own && !names.includes(own) ? [...names, own] : names);

function Nothing({ filtered }) {
  if (filtered) return h(Empty, null, "No job is like that.");
  return h(Empty, null, h("p", null, "There is no job yet. Submit one:"), h(Command, null, exampleSubmit()));
}
