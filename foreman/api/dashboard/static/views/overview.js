/** The first page: what runs, what waits, what has been, and how it goes. */

import { duration, number, short } from "../format.js";
import { href } from "../router.js";
import { health, queue, recent, statistics } from "../resources.js";
import { h } from "../ui.js";
import { Empty, Section, known } from "../parts/basics.js";
import { Charts, sum, windowOf } from "../parts/charts.js";
import { JobTable } from "../parts/joblist.js";
import { Running } from "../parts/running.js";
import { Target } from "../parts/target.js";
import { Waiting } from "../parts/waiting.js";
import { Watching } from "../parts/watching.js";

/** Props: `route`. */
export function Overview({ route }) {
  const window = windowOf(route.query);
  return h(
    "div",
    { class: "view overview" },
    h("h1", { tabIndex: -1 }, "Overview"),
    h(Strip, { key: window, window }),
    h("div", { class: "columns" }, h("div", { class: "column" }, h(Running), h(Waiting)), h("div", { class: "column side" }, h(Target))),
    h(Charts, { key: `charts ${window}`, window }),
    h(Recent),
  );
}

/** The figures that are looked at first. Props: `window`. */
class Strip extends Watching {
  watches() {
    return [queue, health, statistics(this.props.window)];
  }

  render({ window }) {
    const known = statistics(window).data;
    const within = (name) => (known ? short(sum(known.points, name)) : "–");
    const oldest = known && longest(known.points);
    return h(
      "dl",
      { class: "strip" },
      h(Key, { name: "Running", value: number(queue.data?.running.length ?? health.data?.queue.running) }),
      h(Key, { name: "Waiting", value: number(queue.data?.count ?? health.data?.queue.waiting) }),
      h(Key, { name: "Done", note: window, value: within("done") }),
      h(Key, { name: "Failed", note: window, value: within("failed"), bad: known && sum(known.points, "failed") > 0 }),
      h(Key, { name: "Longest wait", note: window, value: duration(oldest) }),
      h(Key, { name: "Tokens", note: window, value: within("generated_tokens") }),
      h(Key, { name: "Swaps", note: window, value: within("swaps") }),
      h(Key, { name: "Swaps avoided", note: "ever", value: short(known?.totals.swaps_avoided) }),
    );
  }
}

/** @param {any[]} points */
function longest(points) {
  const waits = points.map((point) => point.wait_longest_seconds).filter((wait) => wait != null);
  return waits.length ? Math.max(...waits) : null;
}

const Key = ({ name, note, value, bad }) =>
  h("div", { class: bad ? "key-figure bad" : "key-figure" }, h("dt", null, name, note && h("span", { class: "note" }, ` ${note}`)), h("dd", null, value));

class Recent extends Watching {
  watches() {
    return [recent];
  }

  render() {
    return h(
      Section,
      { title: "Recent jobs", id: "recent", aside: h("a", { href: href("jobs") }, "All jobs") },
      known(recent, ({ jobs }) =>
        jobs.length ? h(JobTable, { jobs, caption: "The latest jobs that are over" }) : h(Empty, null, "No job is over yet."),
      ),
    );
  }
}
