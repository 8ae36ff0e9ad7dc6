// The stream from this replica. When it breaks or falls silent, it is opened again, later each time.
import { setServerTime } from "./format.js";

const SILENCE_MS = 4000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;

/** Calls `on.history`, `on.pulse`, `on.events`, and `on.link` with "live" or "lost" and a wait. */
export class Live {
  #source = null;
  #params = {};
  #last = "";
  #wait_ms = FIRST_WAIT_MS;
  #again = 0;
  #silence = 0;

  constructor(on) {
    this.on = on;
    // A page in the background needs no stream, of which a browser allows few.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#close();
      else if (!this.#source) this.now();
    });
  }

  /** Follow with these parameters; `after` is the last event that is known, for events. */
  follow(params, after = "") {
    this.#params = params;
    this.#last = after;
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
    const source = new EventSource(`/api/live?${query}`);
    this.#source = source;
    source.addEventListener("history", (e) => this.on.history(JSON.parse(e.data).points));
    source.addEventListener("pulse", (e) => this.#pulse(JSON.parse(e.data)));
    source.addEventListener("events", (e) => {
      this.#last = e.lastEventId;
      this.on.events(JSON.parse(e.data));
    });
    source.addEventListener("end", () => this.#lost());
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

  #lost() {
    this.#close();
    const wait_ms = this.#wait_ms * (0.75 + Math.random() / 2);
    this.#wait_ms = Math.min(LONGEST_WAIT_MS, this.#wait_ms * 2);
    this.#again = setTimeout(() => this.now(), wait_ms);
    this.on.link("lost", wait_ms);
  }

  #close() {
    clearTimeout(this.#again);
    clearTimeout(this.#silence);
    this.#source?.close();
    this.#source = null;
  }
}
