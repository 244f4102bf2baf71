/**
 * A job's answer as it comes: the lines of `GET /jobs/{id}/stream`. A broken connection, a restarted daemon or a new
 * attempt are gone over: it goes on after the line it had, or tells that what came before is void.
 */

import { request, withQuery } from "./api.js";
import { Backoff } from "./backoff.js";
import { text } from "./format.js";

/** @typedef {{thinking: string, content: string}} Piece */

/**
 * @param {string} id
 * @param {object} to
 * @param {(piece: Piece) => void} to.take - some more of the answer
 * @param {() => void} to.voided - the job was begun anew: forget what came before
 * @param {AbortSignal} signal - to stop
 */
export async function follow(id, { take, voided }, signal) {
  const place = { run: 1, offset: 0 };
  const backoff = new Backoff();
  const line = (json) => {
    const parsed = decoded(json);
    if (parsed?.foreman?.event === "run") {
      [place.run, place.offset] = [parsed.foreman.run, 0];
      voided();
    } else if (!parsed?.foreman) {
      place.offset += 1;
      take(piece(parsed));
    }
  };
  while (!signal.aborted) {
    try {
      const response = await request(withQuery(`/jobs/${encodeURIComponent(id)}/stream`, place), { signal });
      await lines(response, line, () => backoff.reset());
      return;
    } catch (error) {
      if (signal.aborted) return;
      if (error.status >= 400 && error.status < 500) return; // it has expired, or the page is locked
      await backoff.wait(signal);
    }
  }
}

/** @param {Response} response @param {(line: string) => void} line @param {() => void} heard */
async function lines(response, line, heard) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    heard();
    // Only what is new is looked through: an answer in one piece is a line of megabytes.
    const [first, ...others] = value.split("\n");
    rest += first;
    for (const next of others) {
      if (rest.trim()) line(rest);
      rest = next;
    }
  }
  if (rest.trim()) line(rest);
}

/** @param {string} json */
function decoded(json) {
  try {
    return JSON.parse(json);
  } catch {
    return null; // a line that the target broke off
  }
}

/**
 * What one line of a chat's or a generation's answer says; also the whole answer of one that came in one piece.
 * @param {any} line
 * @returns {Piece}
 */
export function piece(line) {
  const said = line?.message ?? { content: line?.response, thinking: line?.thinking };
  const calls = Array.isArray(said.tool_calls) ? said.tool_calls.map((call) => call?.function) : [];
  const words = calls.map((called) => `\n[calls ${text(called?.name)}(${JSON.stringify(called?.arguments ?? {})})]\n`);
  return { thinking: text(said.thinking), content: text(said.content) + words.join("") };
}
