/**
 * The answer of a job while it is written. Its text goes straight into the page, outside what Preact draws, at most once
 * a frame; what is far up is let go. It is no live region: nobody wants every token read out.
 */

import * as live from "../live.js";
import { follow } from "../follow.js";
import { locked } from "../token.js";
import { Component, createRef, h } from "../ui.js";
import { followable, windows } from "../windows.js";

/** Characters that stay in the page unless the caller says otherwise. */
const KEPT = 8_000;

const crowded = () =>
  `Not followed here: ${windows.get()} windows show the dashboard, and a browser has six connections for all of them.`;

/**
 * Props: `id` of the job, `kept`, `waiting` (what to say before the first word), `place` (how many are followed before
 * this one), and others for the element.
 */
export class LiveText extends Component {
  #box = createRef();
  #following = null;
  #pieces = [];
  #frame = 0;
  #length = 0;
  #stops = [];

  componentDidMount() {
    const attend = () => {
      const room = (this.props.place ?? 0) < followable();
      this.#box.current.dataset.waiting = room ? this.props.waiting : crowded();
      if (live.awake() && room) this.#start();
      else this.#stop();
      if (!room) this.#clear();
    };
    document.addEventListener("visibilitychange", attend);
    this.#stops = [locked, windows].map((value) => value.watch(attend));
    this.#stops.push(() => document.removeEventListener("visibilitychange", attend));
    attend();
  }

  componentWillUnmount() {
    for (const stop of this.#stops) stop();
    this.#stop();
  }

  /** Drawn once; from then on the text is written by hand. */
  shouldComponentUpdate() {
    return false;
  }

  render({ id, kept, waiting, place, ...rest }) {
    return h("div", { ...rest, ref: this.#box, class: "live-text", tabIndex: 0, role: "group", "data-waiting": waiting });
  }

  #start() {
    if (this.#following) return;
    this.#following = new AbortController();
    this.#clear();
    const to = {
      take: (piece) => this.#take(piece),
      voided: () => this.#clear(),
    };
    follow(this.props.id, to, this.#following.signal);
  }

  #stop() {
    this.#following?.abort();
    this.#following = null;
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#pieces = [];
  }

  #clear() {
    this.#pieces = [];
    this.#length = 0;
    this.#box.current.replaceChildren();
  }

  #take({ thinking, content }) {
    if (thinking) this.#pieces.push(["thinking", thinking]);
    if (content) this.#pieces.push(["content", content]);
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#write());
  }

  #write() {
    this.#frame = 0;
    const box = this.#box.current;
    if (!box) return;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    const kept = this.props.kept ?? KEPT;
    for (const [kind, all] of this.#pieces) {
      const text = all.slice(-kept);
      let last = box.lastChild;
      // A new node now and then, so that old text can be let go without copying the rest.
      if (last?.className !== kind || last.textContent.length > KEPT / 8) {
        last = document.createElement("span");
        last.className = kind;
        box.append(last);
      }
      last.append(text);
      last.normalize();
      this.#length += text.length;
    }
    this.#pieces = [];
    while (this.#length > kept && box.childNodes.length > 1) {
      this.#length -= box.firstChild.textContent.length;
      box.firstChild.remove();
    }
    if (atEnd) box.scrollTop = box.scrollHeight;
  }
}
