/** What there is to be shown, and which events make it stale. */

import { get } from "./api.js";
import { now } from "./clock.js";
import { Resource } from "./resource.js";

const ofJobs = (event) => event.type.startsWith("job.");
const ofTarget = (event) => event.type.startsWith("target.") || event.type.startsWith("daemon.");
const ofModels = (event) => event.type === "model.swapped" || ofTarget(event);

/** How the daemon and its target are; also what changes without an event is seen in time. */
export const health = new Resource({
  load: async (signal) => {
    const data = await get("/healthz", {}, signal);
    return { ...data, up_since: new Date(now() - data.uptime_seconds * 1_000).toISOString() };
  },
  concerns: (event) => ofTarget(event) || ofJobs(event),
  restMs: () => 1_000,
  everyMs: () => 10_000,
});

/** What runs and what waits. While something runs its tokens and ETAs change without an event. */
export const queue = new Resource({
  load: (signal) => get("/queue", { limit: 10 }, signal),
  concerns: (event) => ofJobs(event) || ofModels(event),
  everyMs: (data) => (data?.running.length ? 2_000 : data?.count ? 5_000 : 30_000),
});

/** What is in the target's memory. */
export const loaded = new Resource({
  load: (signal) => get("/api/ps", {}, signal),
  concerns: ofModels,
  restMs: () => 1_000,
  everyMs: () => 15_000,
});

/** Every model that the target has. */
export const tags = new Resource({
  load: (signal) => get("/api/tags", {}, signal),
  concerns: ofTarget,
  restMs: () => 2_000,
  everyMs: () => 60_000,
});

/** The latest jobs that are over. */
export const recent = new Resource({
  load: (signal) => get("/jobs", { state: "done,failed,cancelled", limit: 12 }, signal),
  concerns: (event) => ["job.done", "job.failed", "job.cancelled", "job.expired"].includes(event.type),
});

/** The windows that statistics are given for. */
export const WINDOWS = ["1h", "6h", "24h", "7d", "30d"];

const byWindow = new Map();

/**
 * Counts and charts over a window that ends now.
 * @param {string} window - one of WINDOWS
 */
export function statistics(window) {
  if (!byWindow.has(window)) {
    const load = (signal) => get("/statistics", { window }, signal);
    const concerns = (event) => ofJobs(event) || ofModels(event);
    byWindow.set(window, new Resource({ load, concerns, restMs: () => 5_000, everyMs: () => 30_000 }));
  }
  return byWindow.get(window);
}

/**
 * One job: its `events`, and the `job` itself unless its contents have expired.
 * @param {string} id
 */
export const job = (id) =>
  new Resource({
    load: async (signal) => {
      const path = `/jobs/${encodeURIComponent(id)}`;
      const { events } = await get(`${path}/events`, {}, signal);
      return { events, job: events.at(-1).type === "job.expired" ? null : await get(path, {}, signal) };
    },
    concerns: (event) => event.stream === id.toUpperCase(),
    // Its place in the queue changes without an event of its own.
    everyMs: (data) => (data?.job?.state === "queued" ? 3_000 : 0),
  });

/** @param {string} id - what became of a job's webhooks; attempts are no events, so they are looked for */
export const deliveriesOf = (id) =>
  new Resource({
    load: async (signal) => (await get(`/jobs/${encodeURIComponent(id)}/deliveries`, {}, signal)).deliveries,
    concerns: (event) => event.stream === id.toUpperCase(),
    everyMs: (data) => (data?.some((item) => item.state === "pending") ? 3_000 : 0),
  });
