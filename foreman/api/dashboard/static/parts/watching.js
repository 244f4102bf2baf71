/** A component that is drawn anew whenever one of the things it shows has changed. */

import { Component } from "../ui.js";

export class Watching extends Component {
  #stops = [];

  /** @returns {Array<{watch(watcher: () => void): () => void}>} values and resources; the same for the component's life */
  watches() {
    return [];
  }

  componentDidMount() {
    this.#stops = this.watches().map((watched) => watched.watch(() => this.setState({})));
  }

  componentWillUnmount() {
    for (const stop of this.#stops) stop();
  }
}
