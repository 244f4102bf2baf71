/** The small things that every view is made of. */

import { model as modelName } from "../format.js";
import { href } from "../router.js";
import { Fragment, h } from "../ui.js";

/** A named region with its heading. Props: `title`, `id`, `aside` for the heading's far end, `children`. */
export function Section({ title, id, aside, class: name = "", children }) {
  return h(
    "section",
    { class: `card ${name}`, "aria-labelledby": id },
    h("div", { class: "card-head" }, h("h2", { id }, title), aside && h("div", { class: "card-aside" }, aside)),
    children,
  );
}

/** A state as a word with a colour of its own. Props: `state`. */
export const State = ({ state, ...rest }) => h("span", { class: `state state-${state}`, ...rest }, state);

/** A link to a job, by its id. */
export const JobLink = ({ id }) => h("a", { class: "id", href: href(`jobs/${id}`) }, id);

/** A model's name, which may be long. */
export const Model = ({ name }) => h("span", { class: "model", title: name }, modelName(name));

/** A fact and its name, for `dl`. Nothing if there is no such fact. */
export const Fact = ({ name, children }) =>
  children == null || children === "" || children === "–"
    ? null
    : h("div", { class: "fact" }, h("dt", null, name), h("dd", null, children));

/** What stands in the place of things that are not there. */
export const Empty = ({ children }) => h("div", { class: "empty" }, children);

/** A command to copy. */
export const Command = ({ children }) =>
  h("pre", { class: "command", tabIndex: 0, role: "group", "aria-label": "Command" }, children);

/**
 * A resource's data drawn, or why there is none. What is known stays on show when a later question fails, and says so;
 * but not while foreman is not reached at all, which the top of the page tells.
 * @param {import("../resource.js").Resource} resource
 * @param {(data: any) => any} draw
 */
export function known(resource, draw) {
  const { data, error } = resource;
  if (data !== null) {
    const old = error && error.status !== 0 && h("p", { class: "fault" }, `This is as it was: ${error.message}.`);
    return h(Fragment, null, old, draw(data));
  }
  if (error) return h("p", { class: "fault" }, `This could not be loaded: ${error.message}.`);
  return h("p", { class: "loading" }, "Loading…");
}

/** How a job is submitted, at this page's own address. */
export const exampleSubmit = () =>
  `curl ${location.origin}/jobs -d '{"model": "llama3.2", "prompt": "Why is the sky blue?"}'`;
