/** All jobs, newest first: by state and model, a page at a time. There may be a hundred thousand. */

import { count, text } from "../format.js";
import { tags } from "../resources.js";
import { go } from "../router.js";
import { h } from "../ui.js";
import { Command, Empty, Section, exampleSubmit, known } from "../parts/basics.js";
import { JobTable } from "../parts/joblist.js";
import { ListEnd, Newest } from "../parts/newest.js";
import { Watching } from "../parts/watching.js";

const STATES = ["queued", "loading", "working", "done", "failed", "cancelled", "expired"];

/** Props: `route`; drawn anew for each filter. */
export class Jobs extends Watching {
  #filter = {
    state: this.props.route.query.get("state") ?? "",
    model: this.props.route.query.get("model") ?? "",
  };
  #newest = new Newest("/jobs", this.#filter);

  watches() {
    return [this.#newest, tags];
  }

  render() {
    return h(
      "div",
      { class: "view" },
      h("h1", { tabIndex: -1 }, "Jobs"),
      h(Filter, { ...this.#filter, models: (tags.data?.models ?? []).map(({ name }) => text(name)) }),
      h(Section, { title: this.#title(), id: "jobs" }, known(this.#newest, (data) => this.#list(data))),
    );
  }

  #title() {
    const { state, model } = this.#filter;
    return [state ? `Jobs that are ${state.replaceAll(",", ", ")}` : "All jobs", model && `for ${model}`].filter(Boolean).join(" ");
  }

  #list({ jobs, next }) {
    if (!jobs.length) return h(Nothing, { filtered: Boolean(this.#filter.state || this.#filter.model) });
    return [
      h(JobTable, { key: "table", jobs, caption: this.#title() }),
      h(ListEnd, { key: "end", list: this.#newest, shown: jobs.length, words: `${count(jobs.length, "job")} shown`, next }),
    ];
  }
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
