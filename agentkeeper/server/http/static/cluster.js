// The first section: how the cluster is, how much of everything there is, how fast it goes.
import { given, h, patch, state, write } from "./dom.js";
import { count, duration, plural } from "./format.js";
import { Plot } from "./plot.js";
import { Table } from "./table.js";

const LATE_MS = 3000;
const BEHIND_ENTRIES = 1000;

/** How one replica is, in a few words. `behind`: see `Lags`. */
function health(replica, cluster, behind) {
  const { vitals } = replica;
  const own = replica.node_id === cluster.node_id;
  if (!vitals) {
    if (own) return { good: !cluster.not_ready_reason, text: cluster.not_ready_reason || "ready" };
    return replica.connected ? { good: null, text: "connected, says nothing of itself" } : { good: false, text: "not connected" };
  }
  if (!own && !replica.connected) return { good: false, text: "not connected" };
  if (!own && vitals.age_ms > LATE_MS) return { good: false, text: `silent for ${duration(vitals.age_ms)}` };
  if (vitals.not_ready_reason) return { good: false, text: vitals.not_ready_reason };
  if (behind > BEHIND_ENTRIES) return { good: null, text: "ready, catching up" };
  return { good: true, text: "ready" };
}

/**
 * How many committed entries each replica has not applied. What another replica said is a moment
 * old, so it is held against what was committed at that moment.
 */
class Lags {
  #commits = []; // {at_ms, index}, the last ten seconds

  note(cluster, at_ms) {
    this.#commits.push({ at_ms, index: cluster.commit_index });
    if (this.#commits.length > 10) this.#commits.shift();
  }

  of(replica) {
    const { vitals } = replica;
    if (!vitals) return null;
    return Math.max(0, this.#committed(this.#commits.at(-1).at_ms - vitals.age_ms) - vitals.applied_index);
  }

  #committed(at_ms) {
    const after = this.#commits.findIndex((c) => c.at_ms >= at_ms);
    const [a, b] = [this.#commits[after - 1], this.#commits[after]];
    if (!a) return b.index;
    return Math.floor(a.index + ((b.index - a.index) * (at_ms - a.at_ms)) / (b.at_ms - a.at_ms));
  }
}

/** The cluster in a sentence or two, as far as it is known here. */
function sentence(cluster, rows) {
  const ready = rows.filter((row) => row.health.good !== false).length;
  const all = rows.length;
  if (all === 1) return cluster.not_ready_reason ? `The replica can't serve: ${cluster.not_ready_reason}.` : "The replica serves.";
  if (!cluster.leader_node_id) {
    const unseen = cluster.replicas.filter((r) => !r.connected && r.node_id !== cluster.node_id).length;
    return `${cluster.node_id} knows of no leader${unseen ? `, and is not connected to ${unseen} of the ${all - 1} others` : ""}.`;
  }
  const led = `${cluster.leader_node_id} leads in term ${count(cluster.term)}.`;
  return `${ready === all ? `All ${all}` : `${ready} of ${all}`} replicas serve. ${led}`;
}

export class Cluster {
  constructor() {
    this.lags = new Lags();
    this.sentence = h("p", { class: "sentence", role: "status", "aria-live": "polite" });
    this.about = h("p", { class: "sum" });
    this.tiles = h("div", { class: "tiles" });
    this.plots = [
      new Plot("Operations", "/s", [
        { name: "cluster", of: (p) => p.commands_per_s },
        { name: "calls here", of: (p) => p.calls_per_s },
      ], "commands and calls a second"),
      new Plot("Latency", "ms", [
        { name: "p50", of: (p) => p.call_p50_ms },
        { name: "p99", of: (p) => p.call_p99_ms },
      ], "of calls here"),
      new Plot("Commit lag", "entries", [
        { name: "to apply", of: (p) => p.unapplied_entries },
        { name: "to commit", of: (p) => p.uncommitted_entries },
      ], "of this replica"),
    ];
    this.table = new Table({
      caption: "Replicas", key: (r) => r.node_id, empty: "",
      columns: [
        { title: "Replica", kind: "main", of: (r) => [h("span", { class: "name" }, given(r.node_id)), r.own ? h("small", {}, "this one") : null] },
        { title: "Role", of: (r) => (r.role ? state(r.role, r.role.toLowerCase()) : "–") },
        { title: "Health", of: (r) => h("span", { class: `health ${r.health.good === null ? "fair" : r.health.good ? "good" : "bad"}` }, h("span", { class: "mark", "aria-hidden": "true" }, r.health.good === null ? "◐" : r.health.good ? "●" : "✕"), r.health.text) },
        { title: "Term", kind: "number", of: (r) => known(r.term) },
        { title: "Commit", kind: "number", of: (r) => known(r.commit) },
        { title: "Applied", kind: "number", of: (r) => known(r.applied) },
        { title: "Lag", kind: "number", of: (r) => (r.lag === null ? "–" : plural(r.lag, "entry", "entries")) },
        { title: "Version", of: (r) => r.version || "–" },
        { title: "Endpoint", of: (r) => (r.endpoint ? h("code", { class: "plain" }, r.endpoint) : "–") },
      ],
    });
    this.element = h("div", { class: "section" },
      h("div", { class: "heading" }, h("h1", {}, "Cluster"), this.about),
      this.sentence, this.tiles,
      h("div", { class: "plots" }, this.plots.map((p) => p.element)),
      h("h2", {}, "Replicas"), this.table.element);
  }

  route() {}

  load() {}

  leave() {}

  pulse({ cluster, summary, as_of }) {
    this.lags.note(cluster, as_of.wall_ms);
    const rows = cluster.replicas.map((replica) => this.#row(replica, cluster));
    write(this.sentence, sentence(cluster, rows));
    const uptime = cluster.uptime_ms ? `, up ${duration(cluster.uptime_ms)}` : "";
    write(this.about, `Seen from ${cluster.node_id}, version ${cluster.version}${uptime}. Cluster version ${cluster.cluster_version}`);
    this.table.update(rows);
    patch(this.tiles, tiles(summary));
  }

  history(points) {
    for (const plot of this.plots) plot.draw(points);
  }

  focusFilter() {}

  focusRows() { this.tiles.querySelector("a")?.focus(); }

  #row(replica, cluster) {
    const own = replica.node_id === cluster.node_id;
    // What one that has gone said last is no longer so.
    const vitals = own || replica.connected ? replica.vitals : null;
    const behind = vitals ? this.lags.of(replica) : null;
    return {
      node_id: replica.node_id, own, endpoint: replica.endpoint, health: health(replica, cluster, behind),
      role: vitals?.role ?? (own ? cluster.role : replica.node_id === cluster.leader_node_id ? "LEADER" : ""),
      term: vitals?.term ?? (own ? cluster.term : null),
      commit: vitals?.commit_index ?? (own ? cluster.commit_index : null),
      applied: vitals?.applied_index ?? (own ? cluster.applied_index : null),
      lag: behind,
      version: vitals?.version ?? (own ? cluster.version : ""),
    };
  }
}

const known = (n) => (n === null || n === undefined ? "–" : count(n));

function tiles(s) {
  const tile = (section, title, big, small) => h("a", { class: "tile", href: `#/${section}` },
    h("span", {}, title), h("b", { class: "number" }, count(big)), h("small", {}, small));
  return [
    tile("agents", "Agents alive", s.agents_alive, `${count(s.agents_unreachable)} unreachable`),
    tile("leases", "Leases held", s.leases, `${count(s.lease_waiters)} in line`),
    tile("elections", "Election groups", s.election_groups, plural(s.sessions, "session")),
    tile("tasks", "Tasks pending", s.tasks_pending, s.tasks_pending ? `oldest ${duration(s.oldest_pending_ms)}` : `${count(s.tasks_claimed)} claimed`),
    tile("policies", "Policies", s.policies, "who may do what"),
    tile("events", "Events kept", s.last_sequence - s.first_sequence + 1, `the last is ${count(s.last_sequence)}`),
  ];
}
