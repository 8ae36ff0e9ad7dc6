// The sections that list things.
import { given, h, show, state } from "./dom.js";
import { ask } from "./api.js";
import { count, left, plural, since } from "./format.js";
import { Listing, agent, choice, choices, textFilter } from "./listing.js";

const CHIPS = 5;

function chips(words, total = words.length) {
  const shown = words.slice(0, CHIPS);
  return h("span", { class: "chips" }, shown.map((word) => given(word, "chip")),
    total > shown.length ? h("span", { class: "chip more" }, `+${total - shown.length}`) : null);
}

const words = (text) => text.split(/[\s,]+/).filter(Boolean);

// As the command line says it (cli/agents.py).
const FOUND = {
  LEXICAL: "Ranked by words: the replica has no model, or it did not answer in time.",
  SEMANTIC: "Ranked by meaning.",
};

function howFound({ mode, pending }) {
  const how = FOUND[mode] ?? "";
  if (!pending) return how;
  if (pending === 1) return `${how} 1 agent still waits for its vector, and is ranked by its words.`;
  return `${how} ${count(pending)} agents still wait for their vectors, and are ranked by their words.`;
}

/** What tells an agent from others of its name; in a search also how well it fits. */
const which = ({ agent_id, score }) => h("span", {}, h("code", {}, agent_id.slice(0, 8)), score === undefined ? null
  : h("small", { class: "score number", title: "How well it fits: higher is better, within this search" }, `score ${score.toFixed(2)}`));

export function agents() {
  return new Listing({
    title: "Agents",
    kinds: ["agent"],
    total: (s) => `${count(s.agents_alive)} alive, ${count(s.agents_unreachable)} unreachable, ${count(s.agents_dead)} dead`,
    filters: [
      textFilter("query", "Search by meaning or name", "e.g. reads invoices", true),
      textFilter("name_prefix", "Name begins with", "web-"),
      textFilter("tools", "Has the tools", "browser, sql"),
      choices("statuses", "State", ["ALIVE", "UNREACHABLE", "DEAD"]),
    ],
    request: (params) => {
      const tools = words(params.get("tools") ?? "");
      const query = params.get("query") ?? "";
      if (query) {
        return {
          path: "find", params: { query, tools }, rows: "agents", without: ["name_prefix", "statuses"],
          how: howFound,
          note: "A search ranks the agents that are ALIVE; it does not go by the beginning of a name or by state.",
        };
      }
      return {
        path: "agents", rows: "agents",
        params: { name_prefix: params.get("name_prefix") ?? "", statuses: params.getAll("statuses"), tools },
      };
    },
    table: {
      caption: "Agents", key: (a) => a.agent_id, open: true,
      empty: "No agent fits. Agents appear here as soon as they register.",
      columns: [
        { title: "Agent", kind: "main", of: (a) => [h("span", { class: "name" }, given(a.card.name)), which(a), h("span", { class: "about" }, given(a.card.description))] },
        { title: "State", of: (a) => [state(a.status), a.reason ? h("small", {}, a.reason.replaceAll("_", " ")) : null] },
        { title: "Heartbeat", kind: "number", of: (a) => since(a.last_heartbeat_at) },
        { title: "Tools", of: (a) => chips(a.card.tools, a.tools_count) },
        { title: "Registered", kind: "number", of: (a) => since(a.registered_at) },
      ],
    },
  });
}

export function leases() {
  return new Listing({
    title: "Leases",
    kinds: ["lease", "agent"],
    total: (s) => `${count(s.leases)} held, ${count(s.lease_waiters)} waiting in line`,
    filters: [
      textFilter("task_id_prefix", "Lease begins with", "invoice-", true),
      textFilter("holder_agent_id", "Held by the agent", "agent id"),
    ],
    request: (params) => ({
      path: "leases", rows: "leases",
      params: { task_id_prefix: params.get("task_id_prefix") ?? "", holder_agent_id: params.get("holder_agent_id") ?? "" },
    }),
    table: {
      caption: "Leases", key: (l) => l.lease.task_id, open: true,
      empty: "No lease is held.",
      columns: [
        { title: "Lease", kind: "main", of: (l) => h("span", { class: "name" }, given(l.lease.task_id)) },
        { title: "Holder", of: (l) => agent(l.lease.holder_agent_id, l.names) },
        { title: "Token", kind: "number", of: (l) => h("code", { class: "plain" }, String(l.lease.token)) },
        { title: "Time left", kind: "number", of: (l) => left(l.remaining_ms, l.lease.ttl_seconds * 1000) },
        { title: "In line", kind: "number", of: (l) => count(l.waiting) },
        { title: "Acquired", kind: "number", of: (l) => since(l.lease.acquired_at) },
      ],
    },
  });
}

export function elections() {
  return new Listing({
    title: "Elections",
    kinds: ["leader", "agent"],
    total: (s) => plural(s.election_groups, "group"),
    filters: [textFilter("group_prefix", "Group begins with", "orchestrator", true)],
    request: (params) => ({ path: "elections", rows: "elections", params: { group_prefix: params.get("group_prefix") ?? "" } }),
    table: {
      caption: "Election groups", key: (e) => e.state.group, open: true,
      empty: "Nobody has campaigned lately.",
      columns: [
        { title: "Group", kind: "main", of: (e) => h("span", { class: "name" }, given(e.state.group)) },
        { title: "Leader", of: (e) => agent(e.state.leader_agent_id, e.names) },
        { title: "Term", kind: "number", of: (e) => count(e.state.term) },
        { title: "Elected", kind: "number", of: (e) => since(e.state.elected_at) },
        { title: "Candidates in order", of: (e) => candidates(e) },
      ],
    },
  });
}

function candidates(election) {
  const ids = election.candidate_agent_ids.slice(0, CHIPS);
  return h("ol", { class: "line" }, ids.map((id) => h("li", {}, agent(id, election.names))),
    election.candidates > ids.length ? h("li", { class: "chip more" }, `+${election.candidates - ids.length}`) : null);
}

export function tasks() {
  return new Listing({
    title: "Tasks",
    kinds: ["task"],
    total: (s) => `${count(s.tasks_pending)} pending, ${count(s.tasks_claimed)} claimed, ${count(s.tasks_completed)} completed, ${count(s.tasks_dead)} dead`,
    filters: [
      choice("status", "State", ["PENDING", "CLAIMED", "COMPLETED", "DEAD"]),
      textFilter("type", "Of the type", "summarise", true),
      textFilter("claimed_by_agent_id", "Claimed by the agent", "agent id"),
    ],
    request: (params) => ({
      path: "tasks", rows: "tasks",
      params: {
        ...(params.get("status") ? { status: params.get("status") } : {}),
        type: params.get("type") ?? "", claimed_by_agent_id: params.get("claimed_by_agent_id") ?? "",
      },
    }),
    table: {
      caption: "Tasks by age", key: (t) => t.id, open: true,
      empty: "No task fits.",
      columns: [
        { title: "Task", kind: "main", of: (t) => [h("span", { class: "name" }, given(t.type)), h("code", {}, t.id.slice(0, 8))] },
        { title: "State", of: (t) => state(t.status) },
        { title: "Retries", kind: "number", of: (t) => retries(t) },
        { title: "Claimed by", of: (t) => agent(t.claimed_by_agent_id, t.names) },
        { title: "Reason", of: (t) => (t.failure_reason ? given(t.failure_reason, "reason") : "–") },
        { title: "Priority", kind: "number", of: (t) => count(t.priority) },
        { title: "Created", kind: "number", of: (t) => since(t.created_at) },
      ],
    },
  });
}

function retries(task) {
  const lost = task.expired_claims ? h("small", {}, plural(task.expired_claims, "claim"), " expired") : null;
  return [`${count(task.retry_count)} of ${count(task.max_retries)}`, lost];
}

export function policies() {
  return new Listing({
    title: "Policies",
    kinds: ["policy"],
    total: (s) => plural(s.policies, "policy", "policies"),
    before: [checkBox()],
    filters: [textFilter("subject_prefix", "Subject begins with", "team-", true)],
    request: (params) => ({ path: "policies", rows: "policies", params: { subject_prefix: params.get("subject_prefix") ?? "" } }),
    table: { caption: "Policies by id", key: (p) => p.id, empty: "No policy fits. Without one, every check is refused.", columns: POLICY_COLUMNS },
  });
}

const POLICY_COLUMNS = [
  { title: "Policy", kind: "main", of: (p) => h("span", { class: "name" }, given(p.id)) },
  { title: "Effect", of: (p) => state(p.effect) },
  { title: "Subject", of: (p) => given(p.subject, "pattern") },
  { title: "Action", of: (p) => given(p.action, "pattern") },
  { title: "Resource", of: (p) => given(p.resource, "pattern") },
];

/** The box that asks whether a subject may do an action on a resource, and says why. */
function checkBox() {
  const field = (name, label, placeholder) => h("label", { class: "field" }, h("span", {}, label),
    h("input", { name, placeholder, required: true, autocomplete: "off", spellcheck: "false", maxlength: 512 }));
  const verdict = h("div", { class: "verdict", role: "status", "aria-live": "polite" });
  const form = h("form", { class: "filters", "aria-label": "Check a policy" },
    field("subject", "May", "agent-7"), field("action", "do", "read"), field("resource", "on", "invoices/2031"),
    h("button", { type: "submit", class: "strong" }, "Check"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const asked = Object.fromEntries(new FormData(form));
      const answer = await ask("policies/check", asked);
      show(verdict, explained(answer, asked));
    } catch (error) {
      show(verdict, h("p", { class: "trouble" }, error.message));
    }
  });
  return h("section", { class: "card check", "aria-labelledby": "check-title" },
    h("h2", { id: "check-title" }, "Who may do what"), form, verdict);
}

function explained(answer, asked) {
  const word = answer.allowed ? "ALLOWED" : "DENIED";
  const mark = h("span", { class: "mark", "aria-hidden": "true" }, answer.allowed ? "●" : "✕");
  const line = h("p", { class: `answer ${word.toLowerCase()}` }, mark, h("b", {}, word), " ", given(answer.reason),
    h("span", { class: "asked" }, given(asked.subject), " · ", given(asked.action), " · ", given(asked.resource)));
  if (answer.matches === 0) return [line, h("p", { class: "note" }, "No policy matches, and what no policy allows is denied.")];
  const why = answer.matching.some((p) => p.effect === "DENY") && answer.matching.some((p) => p.effect === "ALLOW")
    ? " A DENY that matches overrides every ALLOW." : "";
  return [line,
    h("p", { class: "note" }, `${plural(answer.matches, "policy matches", "policies match")}.${why}`),
    h("ul", { class: "matching" }, answer.matching.map((p) => h("li", { class: p.id === answer.policy_id ? "decided" : undefined },
      state(p.effect), " ", given(p.id), " ", h("span", { class: "asked" }, given(p.subject), " · ", given(p.action), " · ", given(p.resource)),
      p.id === answer.policy_id ? h("small", {}, "decided") : null)))];
}
