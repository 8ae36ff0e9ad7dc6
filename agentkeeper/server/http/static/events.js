// The stream of events, newest first. What comes faster than it can be read is left out, and counted.
import { ask } from "./api.js";
import { given, h, write } from "./dom.js";
import { clock, count, plural } from "./format.js";
import { agent, choices, textFilter } from "./listing.js";
import { Table } from "./table.js";
import { change, view } from "./view.js";

const ROWS = 200;
const KINDS = ["agent", "lease", "leader", "task", "policy"];

export class Events {
  /** `follow(params, after)` opens the stream with a filter. */
  constructor(follow) {
    this.follow = follow;
    this.rows = [];
    this.failed = false; // to load
    this.loading_more = false;
    this.paused = false;
    this.held = [];
    this.seen = null;
    this.kinds = choices("topics", "Topics", KINDS);
    this.contains = textFilter("contains", "About (id, lease, group, policy)", "part of an id", true);
    this.status = h("span", { class: "status", role: "status", "aria-live": "off" });
    this.trouble = h("p", { class: "trouble", role: "alert", hidden: true });
    this.pauser = h("button", { type: "button", id: "pause", "aria-pressed": "false", onclick: () => this.pause() }, "Pause");
    this.older = h("button", { type: "button", onclick: () => this.more() }, "Older");
    this.table = new Table({
      caption: "Events, newest first", key: (e) => e.sequence_number, empty: "Nothing has happened yet.",
      open: (e) => change({ open: e.sequence_number, of: "" }),
      columns: [
        { title: "Number", kind: "number", of: (e) => count(e.sequence_number) },
        { title: "Time", kind: "number", of: (e) => clock(e.occurred_at) },
        { title: "Event", of: (e) => h("span", { class: `topic topic-${e.topic.split(".")[0]}` }, e.topic) },
        { title: "About", kind: "main", of: (e) => about(e) },
        { title: "Detail", of: (e) => detail(e) },
      ],
    });
    this.sum = h("p", { class: "sum" });
    this.element = h("div", { class: "section" },
      h("div", { class: "heading" }, h("h1", {}, "Events"), this.sum),
      h("form", { class: "filters", role: "search", "aria-label": "Filter events", onsubmit: (e) => e.preventDefault() },
        this.kinds.element, this.contains.element, this.pauser),
      this.trouble, this.table.element,
      h("div", { class: "pages" }, this.status, h("span", { class: "spacer" }), this.older));
  }

  route(params) {
    this.kinds.read(params);
    this.contains.read(params);
    const filter = { topics: params.getAll("topics").map((kind) => `${kind}.`), contains: params.get("contains") ?? "" };
    if (JSON.stringify(filter) === JSON.stringify(this.filter) && this.seen === "shown") return;
    this.filter = filter;
    this.seen = "shown";
    this.load();
  }

  leave() {
    this.seen = null;
    this.contains.leave();
  }

  async load() {
    const filter = this.filter;
    try {
      const answer = await ask("events", filter);
      if (filter !== this.filter || !this.seen) return;
      this.failed = false;
      this.trouble.hidden = true;
      this.rows = answer.events;
      this.next_before = answer.next_before;
      this.held = [];
      this.draw();
      this.follow({ events: 1, ...filter }, answer.last_sequence);
    } catch (error) {
      this.failed = true;
      this.#trouble(error);
    }
  }

  #trouble(error) {
    write(this.trouble, error.message);
    this.trouble.hidden = false;
  }

  pulse(pulse, before) {
    const { first_sequence: first, last_sequence: last } = pulse.summary;
    write(this.sum, `${plural(last - first + 1, "event")} kept, the last is number ${count(last)}`);
    if (this.failed || (before && pulse.restores !== before.restores)) this.load();
  }

  /** A batch of the stream; `again`: the first one after a break. */
  take({ events, left_out, missed }, again) {
    // Where it is not known what is between, or much has passed meanwhile, all is asked for anew.
    if (missed === null || (again && left_out + missed > 0)) {
      this.load();
      return;
    }
    const into = this.paused ? this.held : this.rows;
    const hole = left_out + missed;
    if (hole) into.unshift({ sequence_number: `before ${events[0]?.sequence_number}`, note: `${plural(hole, "event")} left out: more came at once than can be shown` });
    into.unshift(...events.reverse());
    this.#trim(into);
    this.draw();
  }

  /** Of more rows than are kept the oldest go; they can be asked for again. */
  #trim(rows) {
    if (rows.length <= ROWS) return;
    rows.splice(ROWS);
    this.next_before = oldest(rows);
  }

  draw() {
    if (view().section !== "events") return;
    this.table.update(this.rows);
    const events = (rows) => rows.filter((row) => !row.note).length;
    const held = this.held.length ? `, ${count(events(this.held))}${this.held.length >= ROWS ? " or more" : ""} held back` : "";
    write(this.status, `${count(events(this.rows))} shown${held}`);
    this.older.disabled = !this.next_before || this.loading_more;
  }

  pause() {
    this.paused = !this.paused;
    this.pauser.setAttribute("aria-pressed", String(this.paused));
    this.pauser.textContent = this.paused ? "Go on" : "Pause";
    if (!this.paused) {
      this.rows = [...this.held, ...this.rows];
      this.#trim(this.rows);
      this.held = [];
    }
    this.draw();
  }

  /** Go on into the past, from the oldest shown; the stream is held back meanwhile. */
  async more() {
    if (!this.next_before || this.loading_more) return;
    if (!this.paused) this.pause();
    const { filter } = this;
    this.loading_more = true;
    this.draw();
    try {
      const answer = await ask("events", { ...filter, before: this.next_before });
      if (filter !== this.filter) return;
      this.rows = [...this.rows, ...answer.events];
      this.next_before = answer.next_before;
      this.trouble.hidden = true;
    } catch (error) {
      this.#trouble(error);
    } finally {
      this.loading_more = false;
      this.draw();
    }
  }

  focusFilter() { this.element.querySelector("input[type=search]").focus(); }
  focusRows() { this.table.focus(); }
}

const oldest = (rows) => rows.findLast((row) => !row.note)?.sequence_number ?? 0;

function about(event) {
  if (event.topic.startsWith("agent.")) return [agent(event.subject, { [event.subject]: event.detail.name }, "-1")];
  return given(event.subject);
}

function detail(event) {
  const { detail: d, reason } = event;
  const parts = [];
  if (d.holder_agent_id) parts.push("holder ", agent(d.holder_agent_id, {}, "-1"), ` token ${d.token}`);
  if (d.leader_agent_id !== undefined) parts.push(...(d.leader_agent_id ? ["leader ", agent(d.leader_agent_id, {}, "-1")] : ["nobody leads"]), ` term ${d.term}`);
  if (d.type !== undefined) parts.push(given(d.type));
  if (d.claimed_by_agent_id) parts.push(" by ", agent(d.claimed_by_agent_id, {}, "-1"));
  if (d.effect) parts.push(`${d.effect} `, given(d.subject), " · ", given(d.action), " · ", given(d.resource));
  const why = reason || d.reason;
  if (why) parts.push(" ", h("small", {}, why.replaceAll("_", " ")));
  return h("span", { class: "detail" }, parts);
}

