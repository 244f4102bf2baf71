/** Moments and spans that go on by themselves, each with the exact time behind it. */

import { beat, now } from "../clock.js";
import { ago, clock, duration, moment } from "../format.js";
import { Component, h } from "../ui.js";

/** Redrawn by the clock, but only when its words have changed. */
class Ticking extends Component {
  #stop = null;
  #shown = "";

  componentDidMount() {
    this.#stop = beat.watch(() => {
      if (this.words() !== this.#shown) this.setState({});
    });
  }

  componentWillUnmount() {
    this.#stop();
  }

  /** Those of now, remembered as shown. */
  draw() {
    this.#shown = this.words();
    return this.#shown;
  }
}

/** `3 min. ago`. Props: `at`, RFC 3339 or absent. */
export class Ago extends Ticking {
  words() {
    return this.props.at ? ago(this.props.at, now()) : "–";
  }

  render({ at }) {
    return at ? h("time", { dateTime: at, title: moment(at) }, this.draw()) : "–";
  }
}

/** How long since then. Props: `since`. */
export class Elapsed extends Ticking {
  words() {
    return duration(Math.max(0, Math.floor((now() - Date.parse(this.props.since)) / 1_000)));
  }

  render({ since }) {
    return h("time", { dateTime: since, title: `since ${moment(since)}` }, this.draw());
  }
}

/** A time of day. Props: `at`. */
export const At = ({ at }) => (at ? h("time", { dateTime: at, title: moment(at) }, clock(at, now())) : "–");
