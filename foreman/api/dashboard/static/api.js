/** Requests to foreman: the token goes along, errors come back with foreman's own words. Never builds a URL from one. */

import * as clock from "./clock.js";
import * as token from "./token.js";

/** A request that foreman refused, or that did not reach it (`status` 0). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} code - foreman's own name for it
   * @param {string} message
   */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * One request. Raises ApiError unless the answer is a success; locks the page on a 401.
 * @param {string} path - with its query, from the root on
 * @param {RequestInit} [init]
 * @returns {Promise<Response>}
 */
export async function request(path, init = {}) {
  const headers = new Headers(init.headers);
  const sent = token.current();
  if (sent) headers.set("authorization", `Bearer ${sent}`);
  let response;
  try {
    response = await fetch(path, { ...init, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "foreman cannot be reached");
  }
  clock.adjust(response.headers.get("date"));
  if (response.ok) return response;
  // An answer to a token that has been changed since says nothing of the new one.
  if (response.status === 401 && sent === token.current()) token.locked.set(true);
  throw await refusal(response);
}

/**
 * @param {string} path
 * @param {Record<string, string | number | null | undefined>} [query] - what is empty is left out
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>} the answer's JSON
 */
export async function get(path, query = {}, signal = undefined) {
  return (await request(withQuery(path, query), { signal })).json();
}

/**
 * @param {"POST" | "DELETE"} method
 * @param {string} path
 * @param {{body?: unknown, headers?: Record<string, string>}} [what]
 * @returns {Promise<any>} the answer's JSON
 */
export async function send(method, path, { body, headers = {} } = {}) {
  const init = body === undefined ? { method, headers } : { method, headers, body: JSON.stringify(body) };
  return (await request(path, init)).json();
}

/**
 * @param {string} path
 * @param {Record<string, string | number | null | undefined>} query
 */
export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : path;
}

/** @param {Response} response */
async function refusal(response) {
  try {
    const { error, code } = await response.json();
    return new ApiError(response.status, code ?? "", error ?? response.statusText);
  } catch {
    return new ApiError(response.status, "", `foreman answered ${response.status} ${response.statusText}`);
  }
}
