// The stream from this replica. When it breaks or falls silent, it is opened again, later each time.
import { setServerTime } from "./format.js";

const SILENCE_MS = 4000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
const FULL_WAIT_MS = 30_000;

/**
 * Calls `on.history`, `on.pulse`, `on.events` with whether it is the first batch after a break, and
 * `on.link` with "live", "lost" or "full", a wait, and the replica's reason if it gave one.
 * `on.since` tells the time of the last point that is known.
 */
export class Live {
  #source = null;
  #params = {};
  #last = "";
  #wait_ms = FIRST_WAIT_MS;
  #again = 0;
  #broken = false; // since the last batch of events
  #silence = 0;

  constructor(on) {
    this.on = on;
    // A page in the background needs no stream, of which a browser allows few.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) { this.#close(); this.#broken = true; } else if (!this.#source) this.now();
    });
  }

  /** Follow with these parameters; `after` is the last event that is known, for events. */
  follow(params, after = "") {
    this.#params = params;
    this.#last = after;
    this.#broken = false;
    this.now();
  }

  /** Open the stream now. */
  now() {
    this.#close();
    if (document.hidden) return;
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(this.#params)) {
      for (const one of [value].flat()) if (one !== "") query.append(name, one);
    }
    if (this.#last !== "") query.set("after", this.#last);
    const since_ms = this.on.since();
    if (since_ms) query.set("since", since_ms);
    const source = new EventSource(`/api/live?${query}`);
    this.#source = source;
    source.addEventListener("history", (e) => this.on.history(JSON.parse(e.data).points));
    source.addEventListener("pulse", (e) => this.#pulse(JSON.parse(e.data)));
    source.addEventListener("events", (e) => {
      this.#last = e.lastEventId;
      const again = this.#broken;
      this.#broken = false;
      this.on.events(JSON.parse(e.data), again);
    });
    source.addEventListener("end", (e) => this.#ended(JSON.parse(e.data)));
    source.addEventListener("error", () => this.#lost());
    this.#listen();
  }

  #pulse(pulse) {
    this.#wait_ms = FIRST_WAIT_MS;
    this.#listen();
    setServerTime(pulse.as_of.wall_ms);
    this.on.link("live", 0);
    this.on.pulse(pulse);
  }

  #listen() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#lost(), SILENCE_MS);
  }

  /** The replica says why it sends no more. */
  #ended({ reason, full }) {
    if (!full) { this.#lost(reason); return; }
    this.#close();
    this.#broken = true;
    const wait_ms = FULL_WAIT_MS * (0.75 + Math.random() / 2);
    this.#again = setTimeout(() => this.now(), wait_ms);
    this.on.link("full", wait_ms, reason);
  }

  #lost(reason = "") {
    this.#close();
    this.#broken = true;
    const wait_ms = this.#wait_ms * (0.75 + Math.random() / 2);
    this.#wait_ms = Math.min(LONGEST_WAIT_MS, this.#wait_ms * 2);
    this.#again = setTimeout(() => this.now(), wait_ms);
    this.on.link("lost", wait_ms, reason);
  }

  #close() {
    clearTimeout(this.#again);
    clearTimeout(this.#silence);
    this.#source?.close();
    this.#source = null;
  }
}
