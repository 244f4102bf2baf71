/** Webhooks that were sent or are to be: how they stand, each attempt, and having them sent once more. */

import { say } from "../announce.js";
import { send } from "../api.js";
import { now } from "../clock.js";
import { count, number } from "../format.js";
import { h } from "../ui.js";
import { JobLink, State } from "./basics.js";
import { Table } from "./table.js";
import { Ago, At } from "./time.js";

/** What is due within this time is not worth a figure. */
const SOON_MS = 5_000;

/**
 * Have webhooks sent once more, and say what came of it.
 * @param {string} path
 * @param {object} body
 * @param {() => void} [then]
 */
export async function redeliver(path, body, then = () => {}) {
  try {
    const { redelivered } = await send("POST", path, { body });
    say(`${count(redelivered, "webhook")} will be sent now.`, { seen: true });
    then();
  } catch (error) {
    say(`Not sent again: ${error.message}.`, { fault: true, seen: true });
  }
}

/**
 * Props: `deliveries`, `caption`, `withJob` (whether each says which job it is of), `onSent`.
 */
export function Deliveries({ deliveries, caption, withJob = false, onSent }) {
  const again = ({ id, job_id: jobId }) => redeliver(`/jobs/${jobId}/deliveries/redeliver`, { id }, onSent);
  const columns = [
    { name: "State", kind: "tag", cell: (one) => h(State, { state: one.state }) },
    ...(withJob ? [{ name: "Job", kind: "main", cell: (one) => h(JobLink, { id: one.job_id }) }] : []),
    { name: "Tells", kind: "quiet", cell: (one) => one.tells },
    { name: "Receiver", kind: "receiver", cell: (one) => one.receiver },
    { name: "Attempts", kind: "wide", cell: (one) => h(Tried, { of: one }) },
    { name: "Next", cell: (one) => h(Next, { of: one }) },
    {
      name: "Again",
      kind: "tag",
      cell: (one) =>
        one.state !== "pending" &&
        h("button", { type: "button", "aria-label": `Redeliver ${one.tells} to ${one.receiver}`, onClick: () => again(one) }, "Redeliver"),
    },
  ].filter(({ name }) => name !== "Again" || deliveries.some((one) => one.state !== "pending"));
  return h(Table, { caption, columns, rows: deliveries, keyOf: (one) => one.id });
}

function Next({ of }) {
  if (of.waits_for) return h("span", { class: "quiet" }, "after the one before it");
  if (!of.next_attempt_at) return "–";
  return Date.parse(of.next_attempt_at) - now() < SOON_MS ? "due" : h(Ago, { at: of.next_attempt_at });
}

function Tried({ of: { attempt_count: times, attempts } }) {
  if (!times) return h("span", { class: "quiet" }, "none yet");
  const last = attempts.at(-1);
  return h(
    "details",
    { class: "tried" },
    h("summary", null, `${number(times)}`, last && h("span", { class: "quiet" }, `, last: ${outcome(last)}`)),
    h(
      "ol",
      null,
      attempts.map((one) =>
        h(
          "li",
          { key: one.at },
          h(At, { at: one.at }),
          ` ${one.address ?? "–"}: ${outcome(one)}, ${number(one.milliseconds)} ms`,
          one.reply && h("pre", { class: "reply", tabIndex: 0, role: "group", "aria-label": "The receiver's reply" }, one.reply),
        ),
      ),
    ),
  );
}

/** @param {any} attempt - how it went, in a few words */
const outcome = (attempt) => [attempt.status && `HTTP ${attempt.status}`, attempt.error].filter(Boolean).join(", ") || "no answer";
