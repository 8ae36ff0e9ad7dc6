// One thing in full, in a dialog: what /api says of it, by its own names.
import { ask, Failure } from "./api.js";
import { byId, given, h, patch, show, state } from "./dom.js";
import { bytes, count, left, plural, since } from "./format.js";
import { agent } from "./listing.js";
import { change, link, view } from "./view.js";

const KINDS = {
  agents: { path: "agent", by: "agent_id", title: (a) => a.agent.card.name, body: agentBody },
  leases: { path: "lease", by: "task_id", title: (a) => a.lease.lease.task_id, body: leaseBody },
  elections: { path: "election", by: "group", title: (a) => a.election.state.group, body: electionBody },
  tasks: { path: "task", by: "task_id", title: (a) => a.task.type, body: taskBody },
  events: { path: "event", by: "sequence", title: (a) => a.event.topic, body: eventBody },
};

const SHOWN = 20; // of what an agent holds

let wanted = ""; // the thing that is asked for
let shown = ""; // the thing that the dialog shows
let told = ""; // what was said of it

/** Open or close the dialog as the address says; `again`: look again at what it shows. */
export async function details(again = false) {
  const dialog = byId("details");
  const { section, params } = view();
  const open = params.get("open") ?? "";
  const what = params.get("of") ?? section;
  const kind = KINDS[what];
  const thing = open && kind ? `${what} ${open}` : "";
  const known = thing === wanted;
  wanted = thing;
  if (!thing) {
    shown = "";
    if (dialog.open) dialog.close();
    return;
  }
  if (known && !again) return;
  let title = open;
  let body;
  let text;
  try {
    const { as_of, ...answer } = await ask(kind.path, { [kind.by]: open });
    text = JSON.stringify(answer);
    title = kind.title(answer);
    body = kind.body(answer);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    if (error.status !== 404 && shown === thing) return; // what is shown is from before, as the banner says
    text = error.message;
    body = [h("p", { class: "nothing" }, error.status === 404 ? "It is not there any more." : text)];
  }
  if (wanted !== thing || (shown === thing && text === told)) return;
  told = text;
  if (shown === thing) {
    // In place, so that focus and scrolling stay where they are.
    patch(dialog.querySelector(".details"), body);
    return;
  }
  shown = thing;
  show(dialog,
    h("header", {}, h("h2", { id: "details-title" }, given(title)),
      h("button", { type: "button", class: "quiet", onclick: () => dialog.close(), "aria-label": "Close" }, "Close ", h("kbd", {}, "Esc"))),
    h("div", { class: "details", tabindex: "0" }, body));
  if (!dialog.open) dialog.showModal();
  dialog.querySelector("button").focus();
}

export function prepareDetails() {
  const dialog = byId("details");
  dialog.addEventListener("close", () => { if (view().params.get("open")) change({ open: "", of: "" }); });
}

function facts(pairs) {
  return h("dl", {}, pairs.filter(([, value]) => value !== null && value !== "" && value !== undefined)
    .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

const id = (text) => h("code", { class: "plain whole" }, text);

function agentBody({ agent: a, holds, names }) {
  const list = (what) => plural(holds[what].count, what.slice(0, -1));
  const first = (what) => {
    const keys = holds[what].first.slice(0, SHOWN);
    const more = holds[what].count - keys.length;
    return keys.length ? h("span", { class: "held" }, keys.map((key) => link(what, key, { class: "chip" }, given(key))),
      more ? h("small", {}, `and ${count(more)} more`) : null) : null;
  };
  return [
    facts([
      ["Agent id", id(a.agent_id)],
      ["State", [state(a.status), a.reason ? ` ${a.reason.replaceAll("_", " ")}` : ""]],
      ["Heartbeat", [since(a.last_heartbeat_at), `, due every ${count(a.ttl_seconds)} s`]],
      ["Registered", since(a.registered_at)],
      ["Version", a.card.version && given(a.card.version)],
      ["Description", a.card.description && given(a.card.description, "long")],
      ["Tools", a.card.tools.length ? h("span", { class: "held" }, a.card.tools.map((tool) => given(tool, "chip"))) : null],
      ["Holds", [list("leases"), " ", first("leases")]],
      ["Works on", [list("tasks"), " ", first("tasks")]],
      ["Candidate in", [list("elections"), " ", first("elections")]],
    ]),
    a.card.capabilities.length ? [h("h3", {}, "Capabilities"), facts(a.card.capabilities.map((c) => [given(c.name), given(c.description || "–", "long")]))] : null,
    Object.keys(a.card.metadata).length ? [h("h3", {}, "Metadata"), facts(Object.entries(a.card.metadata).map(([key, value]) => [given(key), given(value || "–", "long")]))] : null,
  ].flat();
}

function leaseBody({ lease: info, names }) {
  const { lease } = info;
  return [facts([
    ["Lease", id(lease.task_id)],
    ["Holder", agent(lease.holder_agent_id, names)],
    ["Fencing token", id(String(lease.token))],
    ["Time left", left(info.remaining_ms, lease.ttl_seconds * 1000)],
    ["Time to live", `${count(lease.ttl_seconds)} s`],
    ["Acquired", since(lease.acquired_at)],
    ["In line", info.waiting ? inOrder(info.waiting_agent_ids, info.waiting, names) : "nobody"],
  ])];
}

function electionBody({ election: e, names }) {
  return [facts([
    ["Group", id(e.state.group)],
    ["Leader", e.state.leader_agent_id ? agent(e.state.leader_agent_id, names) : "nobody"],
    ["Term", count(e.state.term)],
    ["Elected", since(e.state.elected_at)],
    ["Candidates", e.candidates ? inOrder(e.candidate_agent_ids, e.candidates, names) : "none"],
  ])];
}

function inOrder(ids, total, names) {
  return [h("ol", { class: "order" }, ids.map((one) => h("li", {}, agent(one, names)))),
    total > ids.length ? h("small", {}, `and ${count(total - ids.length)} more`) : null];
}

function taskBody({ task: t, names }) {
  return [facts([
    ["Task id", id(t.id)],
    ["Type", given(t.type)],
    ["State", state(t.status)],
    ["Claimed by", t.claimed_by_agent_id && [agent(t.claimed_by_agent_id, names), ` token ${t.claim_token}`]],
    ["Retries", `${count(t.retry_count)} of ${count(t.max_retries)}`],
    ["Expired claims", t.expired_claims ? count(t.expired_claims) : null],
    ["Reason", t.failure_reason && given(t.failure_reason, "long")],
    ["Priority", count(t.priority)],
    ["A claim lasts", `${count(t.ttl_seconds)} s`],
    ["Needs the tools", t.required_tools.length ? h("span", { class: "held" }, t.required_tools.map((tool) => given(tool, "chip"))) : null],
    ["Idempotency key", t.idempotency_key && given(t.idempotency_key)],
    ["Created", since(t.created_at)],
    ["Claimed", t.claimed_at && since(t.claimed_at)],
    ["Completed", t.completed_at && since(t.completed_at)],
  ]), ...blob("Input", t.input), ...blob("Output", t.output)];
}

function blob(title, { size_bytes, text }) {
  if (!size_bytes) return [];
  return [h("h3", {}, title, h("small", {}, bytes(size_bytes))), h("pre", { tabindex: "0", dir: "auto" }, text)];
}

function eventBody({ event: e }) {
  return [facts([
    ["Number", count(e.sequence_number)],
    ["Happened", since(e.occurred_at)],
    ["About", id(e.subject)],
    ["Reason", e.reason && e.reason.replaceAll("_", " ")],
  ]), h("h3", {}, "What it carries"), h("pre", { tabindex: "0" }, JSON.stringify(e.payload, null, 2))];
}
