// Asks this replica.
import { setServerTime } from "./format.js";

const PATIENCE_MS = 8000;

/** Thrown where the replica refuses or does not answer. */
export class Failure extends Error {
  constructor(message, reason = "", status = 0) {
    super(message);
    this.reason = reason;
    this.status = status;
  }
}

/** The answer of /api/`path`. Parameters that are lists are given several times. */
export async function ask(path, params = {}, signal = undefined) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const one of [value].flat()) if (one !== "" && one !== undefined) query.append(name, one);
  }
  const timeout = AbortSignal.timeout(PATIENCE_MS);
  let response;
  try {
    response = await fetch(`/api/${path}?${query}`, {
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure("This replica does not answer.", "unreachable");
  }
  let body;
  try {
    body = await response.json();
  } catch {
    throw new Failure(`This replica answered with status ${response.status}.`, "", response.status);
  }
  if (!response.ok) throw new Failure(body.error.message, body.error.reason, response.status);
  setServerTime(body.as_of.wall_ms);
  return body;
}
