/** What a job was asked and what it answered: fetched when it is small, on demand when it is large. */

import { request } from "../api.js";
import { piece } from "../follow.js";
import { count, size, text } from "../format.js";
import { Component, h } from "../ui.js";
import { LongText, save } from "./longtext.js";

/** Bytes that are fetched without being asked for. */
const MODEST = 2_000_000;
/** Messages of a chat that are shown at once: the last ones. */
const MESSAGES = 30;

/** @param {string} id @param {string} name @param {AbortSignal} [signal] */
const artifact = (id, name, signal) => request(`/jobs/${encodeURIComponent(id)}/artifacts/${name}`, { signal });

/** Props: `id`, `name` of the artifact, `bytes`, `known` (its JSON, if it came along), `draw` (of the JSON). */
export class Artifact extends Component {
  #leaving = new AbortController();
  state = { json: this.props.known ?? null, fault: "", loading: false };

  componentDidMount() {
    if (this.state.json === null && this.props.bytes <= MODEST) this.#load();
  }

  componentWillUnmount() {
    this.#leaving.abort();
  }

  #load = async () => {
    this.setState({ loading: true, fault: "" });
    try {
      const json = await (await artifact(this.props.id, this.props.name, this.#leaving.signal)).json();
      this.setState({ json, loading: false });
    } catch (error) {
      if (!this.#leaving.signal.aborted) this.setState({ fault: error.message, loading: false });
    }
  };

  #save = async () => {
    const { id, name } = this.props;
    try {
      save(await (await artifact(id, name, this.#leaving.signal)).blob(), `${id}-${name}.json`);
    } catch (error) {
      if (!this.#leaving.signal.aborted) this.setState({ fault: error.message });
    }
  };

  render({ bytes, name, draw }, { json, fault, loading }) {
    return h(
      "div",
      { class: "artifact" },
      json === null && (loading || bytes <= MODEST) && !fault && h("p", { class: "loading" }, "Loading…"),
      json === null && !loading && bytes > MODEST && h("p", { class: "more" }, `This is ${size(bytes)} long. `, h("button", { type: "button", onClick: this.#load }, "Show it")),
      fault && h("p", { class: "fault", role: "alert" }, `This could not be loaded: ${fault}. `, h("button", { type: "button", onClick: this.#load }, "Try again")),
      json !== null && draw(json),
      h("p", { class: "more" }, h("button", { type: "button", class: "plain", onClick: this.#save }, `Save the ${name} as JSON`), h("span", { class: "quiet" }, ` ${size(bytes)}`)),
    );
  }
}

/** Props: `id`, `json` of a chat's or a generation's answer. */
export function Answer({ id, json }) {
  const { thinking, content } = piece(json);
  return [
    thinking && h(
      "details",
      { key: "thinking", class: "thinking-part" },
      h("summary", null, "Thinking"),
      h(LongText, { text: thinking, file: `${id}-thinking.txt`, label: "Thinking" }),
    ),
    h(LongText, { key: "content", text: content, file: `${id}.txt`, label: "Answer", testid: "answer" }),
  ];
}

/** Props: `id`, `json` of the request. */
export class Prompt extends Component {
  state = { all: false };

  render({ id, json }, { all }) {
    const messages = said(json);
    const shown = all ? messages : messages.slice(-MESSAGES);
    const first = messages.length - shown.length;
    return h(
      "div",
      { "data-testid": "prompt" },
      first > 0 &&
        h("p", { class: "more" }, `The last ${MESSAGES} of ${count(messages.length, "message")}. `, h("button", { type: "button", onClick: () => this.setState({ all: true }) }, "Show all")),
      shown.map(({ role, text, images }, index) =>
        h(
          "div",
          { key: first + index, class: `message message-${role}` },
          h("h3", null, role, images > 0 && h("span", { class: "badge" }, count(images, "image"))),
          h(LongText, { text, file: `${id}-${role}-${first + index + 1}.txt`, label: `What the ${role} said` }),
        ),
      ),
      h(Options, { json }),
    );
  }
}

/**
 * What was said, in order; whatever a caller wrote, it must not break the page.
 * @param {any} json
 * @returns {{role: string, text: string, images: number}[]}
 */
function said(json) {
  const images = (list) => (Array.isArray(list) ? list.length : 0);
  if (Array.isArray(json?.messages)) {
    return json.messages.map((message) => ({
      role: text(message?.role) || "message",
      text: text(message?.content) + (message?.tool_calls ? `\n${JSON.stringify(message.tool_calls)}` : ""),
      images: images(message?.images),
    }));
  }
  const system = json?.system ? [{ role: "system", text: text(json.system), images: 0 }] : [];
  return [...system, { role: "prompt", text: text(json?.prompt), images: images(json?.images) }];
}

/** What was asked for beside the words. */
function Options({ json }) {
  const told = new Set(["model", "messages", "prompt", "system", "images", "context"]);
  const others = Object.entries(json ?? {}).filter(([name]) => !told.has(name));
  if (!others.length) return null;
  const text = JSON.stringify(Object.fromEntries(others), null, 2);
  return h(
    "details",
    { class: "options" },
    h("summary", null, `Options: ${others.map(([name]) => name).join(", ").slice(0, 200)}`),
    h(LongText, { text, file: "options.json", label: "Options" }),
  );
}
