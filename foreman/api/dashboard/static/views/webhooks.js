/** Webhook health: how deliveries stand, which receivers do badly, and every delivery, newest first. */

import { get } from "../api.js";
import { count, number, short } from "../format.js";
import { Resource } from "../resource.js";
import { statistics } from "../resources.js";
import { go } from "../router.js";
import { h } from "../ui.js";
import { Command, Empty, Section, known } from "../parts/basics.js";
import { Deliveries, redeliver } from "../parts/deliveries.js";
import { Confirm } from "../parts/dialog.js";
import { Table } from "../parts/table.js";
import { Ago } from "../parts/time.js";
import { Watching } from "../parts/watching.js";

const PAGE = 50;
const STATES = ["pending", "delivered", "dead", "gone"];
const health = () => statistics("1h");

/** Props: `route`; drawn anew for each filter. */
export class Webhooks extends Watching {
  #state = STATES.includes(this.props.route.query.get("state")) ? this.props.route.query.get("state") : "";
  #receiver = this.props.route.query.get("receiver") ?? "";
  #first = new Resource({
    load: (signal) => get("/deliveries", this.#query(), signal),
    concerns: (event) => event.type.startsWith("job."),
    restMs: 1_000,
    everyMs: () => 5_000,
  });
  state = { older: [], next: undefined, loading: false, fault: "", asking: "" };

  watches() {
    return [health(), this.#first];
  }

  #query() {
    return { state: this.#state, receiver: this.#receiver, limit: PAGE };
  }

  render(_, { asking, fault }) {
    return h(
      "div",
      { class: "view" },
      h("h1", { tabIndex: -1 }, "Webhooks"),
      h(Section, { title: "Health", id: "health" }, known(health(), ({ webhooks }) => h(Totals, { webhooks }))),
      h(Section, { title: "Receivers", id: "receivers", aside: "those that do worst" }, known(health(), ({ webhooks }) => this.#receivers(webhooks.receivers))),
      this.#filter(),
      h(Section, { title: "Deliveries", id: "deliveries" }, known(this.#first, (data) => this.#list(data)), fault && h("p", { class: "fault", role: "alert" }, fault)),
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
        this.#first.refresh();
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
    const { older, loading } = this.state;
    const newest = new Set(deliveries.map((one) => one.id));
    const all = [...deliveries, ...older.filter((one) => !newest.has(one.id))];
    if (!all.length) return h(Nothing, { filtered: Boolean(this.#state || this.#receiver) });
    const following = this.state.next === undefined ? next : this.state.next;
    const more = () => this.#more(deliveries, following);
    return [
      h(Deliveries, { key: "table", deliveries: all, caption: "Deliveries, newest first", withJob: true, onSent: () => this.#first.refresh() }),
      h("p", { key: "more", class: "more" }, `${count(all.length, "delivery", "deliveries")} shown, each with its last attempt. `, following && h("button", { type: "button", disabled: loading, onClick: more }, "Load more")),
    ];
  }

  async #more(deliveries, cursor) {
    this.setState({ loading: true, fault: "" });
    try {
      const page = await get("/deliveries", { ...this.#query(), cursor });
      this.setState(({ older }) => ({ older: [...(older.length ? older : deliveries), ...page.deliveries], next: page.next }));
    } catch (error) {
      this.setState({ fault: `More could not be loaded: ${error.message}.` });
    }
    this.setState({ loading: false });
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
