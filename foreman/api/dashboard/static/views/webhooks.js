/** Webhook health: how deliveries stand, which receivers do badly, and every delivery, newest first. */

import { count, number, short } from "../format.js";
import { statistics } from "../resources.js";
import { go } from "../router.js";
import { h } from "../ui.js";
import { Command, Empty, Section, known } from "../parts/basics.js";
import { Deliveries, redeliver } from "../parts/deliveries.js";
import { Confirm } from "../parts/dialog.js";
import { ListEnd, Newest } from "../parts/newest.js";
import { Table } from "../parts/table.js";
import { Ago } from "../parts/time.js";
import { Watching } from "../parts/watching.js";

const STATES = ["pending", "delivered", "dead", "gone"];
const health = () => statistics("1h");

/** Props: `route`; drawn anew for each filter. */
export class Webhooks extends Watching {
  #state = STATES.includes(this.props.route.query.get("state")) ? this.props.route.query.get("state") : "";
  #receiver = this.props.route.query.get("receiver") ?? "";
  #newest = new Newest("/deliveries", { state: this.#state, receiver: this.#receiver }, { everyMs: () => 5_000 });
  state = { asking: "" };

  watches() {
    return [health(), this.#newest];
  }

  render(_, { asking }) {
    return h(
      "div",
      { class: "view" },
      h("h1", { tabIndex: -1 }, "Webhooks"),
      h(Section, { title: "Health", id: "health" }, known(health(), ({ webhooks }) => h(Totals, { webhooks }))),
      h(Section, { title: "Receivers", id: "receivers", aside: "those that do worst" }, known(health(), ({ webhooks }) => this.#receivers(webhooks.receivers))),
      this.#filter(),
      h(Section, { title: "Deliveries", id: "deliveries" }, known(this.#newest, (data) => this.#list(data))),
      asking && this.#question(asking),
    );
  }

  #receivers(receivers) {
    if (!receivers.length) return h(Empty, null, "No receiver has anything pending or given up.");
    const columns = [
      { name: "Receiver", kind: "main", cell: (row) => row.receiver },
      { name: "Pending", kind: "number", cell: (row) => number(row.pending) },
      { name: "Oldest", kind: "quiet", cell: (row) => h(Ago, { at: row.oldest_pending_at }) },
      { name: "Given up", kind: "number", cell: (row) => number(row.dead) },
      { name: "Last attempt", kind: "quiet", cell: (row) => h(Ago, { at: row.last_attempt_at }) },
      { name: "Last outcome", kind: "wide", cell: (row) => [row.last_status && `HTTP ${row.last_status}`, row.last_error].filter(Boolean).join(", ") || "–" },
      { name: "Again", kind: "tag", cell: (row) => row.dead > 0 && h("button", { type: "button", onClick: () => this.setState({ asking: row }) }, "Redeliver") },
    ].filter(({ name }) => name !== "Again" || receivers.some((row) => row.dead > 0));
    return h(Table, { caption: "Receivers", columns, rows: receivers, keyOf: (row) => row.receiver });
  }

  #question({ receiver, dead }) {
    const close = () => this.setState({ asking: "" });
    const again = () => {
      close();
      redeliver("/deliveries/redeliver", { state: "dead", receiver }, () => {
        health().refresh();
        this.#newest.refreshNow();
      });
    };
    return h(
      Confirm,
      { title: `Redeliver to ${receiver}?`, yes: "Redeliver", no: "Not now", onYes: again, onNo: close },
      `${count(dead, "webhook")} that foreman has given up will be sent once more.`,
    );
  }

  #filter() {
    const change = (event) => go("webhooks", { state: event.currentTarget.value, receiver: this.#receiver });
    return h(
      "div",
      { class: "filter", role: "search", "aria-label": "Filter deliveries" },
      h("label", null, "State ", h("select", { value: this.#state, onChange: change }, h("option", { value: "" }, "any"), STATES.map((name) => h("option", { key: name, value: name }, name)))),
    );
  }

  #list({ deliveries, next }) {
    if (!deliveries.length) return h(Nothing, { filtered: Boolean(this.#state || this.#receiver) });
    const words = `${count(deliveries.length, "delivery", "deliveries")} shown, each with its last attempt`;
    return [
      h(Deliveries, { key: "table", deliveries, caption: "Deliveries, newest first", withJob: true, onSent: () => this.#newest.refreshNow() }),
      h(ListEnd, { key: "end", list: this.#newest, shown: deliveries.length, words, next }),
    ];
  }
}

function Totals({ webhooks }) {
  const shown = [
    ["Pending", webhooks.pending, false],
    ["Delivered", webhooks.delivered, false],
    ["Attempts that failed", webhooks.failed, false],
    ["Not sent", webhooks.not_sent, webhooks.not_sent > 0],
    ["Gone (410)", webhooks.gone, false],
    ["Given up", webhooks.dead, webhooks.dead > 0],
  ];
  return h(
    "dl",
    { class: "strip" },
    shown.map(([name, value, bad]) => h("div", { key: name, class: bad ? "key-figure bad" : "key-figure" }, h("dt", null, name), h("dd", null, short(value)))),
  );
}

function Nothing({ filtered }) {
  if (filtered) return h(Empty, null, "No delivery is like that.");
  const body = '{"model": "llama3.2", "prompt": "Why?", "state_webhook_url": "http://127.0.0.1:9000/"}';
  return h(Empty, null, h("p", null, "No job has told anybody yet. One that does:"), h(Command, null, `curl ${location.origin}/jobs -d '${body}'`));
}
