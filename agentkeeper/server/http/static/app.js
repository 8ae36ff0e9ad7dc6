// Puts the page together: the address says what is shown, the stream says when it has changed.
import { ask, Failure } from "./api.js";
import { Cluster } from "./cluster.js";
import { details, prepareDetails } from "./details.js";
import { byId, h, patch, show, write } from "./dom.js";
import { Events } from "./events.js";
import { count, duration, setStanding, tickAll } from "./format.js";
import { Live } from "./live.js";
import { agents, elections, leases, policies, tasks } from "./sections.js";
import { SECTIONS, view } from "./view.js";

const HISTORY = 300;
const AGAIN_MS = 5000; // what is open is looked at again, also if no event says that it has changed

let pulse = null; // the latest
let points = []; // of the plots
let again_ms = 0; // when the stream is opened again
let lost = false; // the replica does not answer
let full = ""; // why it has no stream for this page, if it has none
let reason = ""; // what it said when it went
let looked_ms = 0; // when what is open was last looked at
let followed = ""; // what the stream was opened for

const live = new Live({
  since: () => points.at(-1)?.wall_ms,
  history,
  pulse: take,
  events: (batch, again) => sections.events.take(batch, again),
  link: linked,
});

const sections = {
  cluster: new Cluster(),
  agents: agents(),
  leases: leases(),
  elections: elections(),
  tasks: tasks(),
  policies: policies(),
  events: new Events((params, after) => { followed = "events"; live.follow(params, after); }),
};

const tabs = Object.fromEntries(SECTIONS.map((name, i) => [name, h("a", { href: `#/${name}`, "aria-keyshortcuts": String(i + 1) },
  h("span", {}, name[0].toUpperCase() + name.slice(1)), h("span", { class: "number", "data-count": "" }))]));

function route() {
  const { section, params } = view();
  const main = byId("main");
  if (main.firstElementChild !== sections[section].element) {
    for (const name of SECTIONS) {
      if (name === section) tabs[name].setAttribute("aria-current", "page");
      else tabs[name].removeAttribute("aria-current");
    }
    tabs[section].scrollIntoView({ block: "nearest", inline: "center" });
    show(main, sections[section].element);
    document.title = `${section[0].toUpperCase()}${section.slice(1)} · AgentKeeper`;
    for (const name of SECTIONS) if (name !== section) sections[name].leave();
    if (section === "cluster") sections.cluster.history(points);
    if (pulse) sections[section].pulse(pulse, pulse);
  }
  if (followed === "" || (section !== "events" && followed !== "pulse")) {
    followed = "pulse";
    live.follow({});
  }
  sections[section].route(params);
  details();
}

/** Points of the plots that are not known here yet. */
function history(later) {
  points = [...points, ...later].slice(-HISTORY);
  if (view().section === "cluster") sections.cluster.history(points);
}

function take(next) {
  const before = pulse;
  pulse = next;
  if (next.point && next.point.wall_ms > (points.at(-1)?.wall_ms ?? 0)) history([next.point]);
  const { cluster, summary } = next;
  setStanding(!cluster.leader_node_id);
  patch(byId("whose"), "on ", h("b", {}, cluster.node_id));
  const counts = {
    cluster: cluster.replicas.length, agents: summary.agents_alive + summary.agents_unreachable, leases: summary.leases,
    elections: summary.election_groups, tasks: summary.tasks_pending + summary.tasks_claimed,
    policies: summary.policies, events: null,
  };
  for (const [name, n] of Object.entries(counts)) {
    write(tabs[name].querySelector("[data-count]"), n === null ? "" : count(n));
  }
  const { section } = view();
  sections[section].pulse(next, before);
  if (before && !before.cluster.leader_node_id !== !cluster.leader_node_id) sections[section].load();
  const changed = JSON.stringify(next.changed) !== JSON.stringify(before?.changed);
  if (changed || Date.now() - looked_ms > AGAIN_MS) {
    looked_ms = Date.now();
    details(true);
  }
  banner();
}

function linked(what, wait_ms, why = "") {
  const was = lost;
  lost = what === "lost";
  full = what === "full" ? why : "";
  again_ms = Date.now() + wait_ms;
  reason = why || (was && lost ? reason : "");
  document.body.classList.toggle("lost", lost);
  if (full) poll();
  if (what === "live" && was) {
    say("Connected again.");
    sections[view().section].load();
    details(true);
  }
  banner();
}

let polling = 0;

/** Ask for what the stream would tell, while the replica has none for this page. */
async function poll() {
  clearTimeout(polling);
  try {
    const [cluster, summary] = await Promise.all([ask("cluster"), ask("summary")]);
    if (!full) return;
    take({
      cluster, summary, point: null, as_of: cluster.as_of,
      changed: pulse?.changed ?? {}, restores: pulse?.restores ?? 0,
    });
  } catch (error) {
    if (!(error instanceof Failure)) throw error; // the stream will find out
  }
  clearTimeout(polling);
  polling = setTimeout(() => { if (full) poll(); }, AGAIN_MS);
}

/** Tell what is wrong, if anything is. */
function banner() {
  const text = lost ? "" : trouble();
  const leaderless = pulse && !pulse.cluster.leader_node_id;
  const link = byId("link");
  link.className = `link ${lost ? "bad" : text || full ? "fair" : "good"}`;
  write(link.firstElementChild, lost ? "✕" : text || full ? "◐" : "●");
  const word = full ? "every 5 s" : "live";
  write(byId("link-text"), lost ? "not connected" : !text ? word : leaderless ? "no leader" : "not ready");
  const kind = lost ? `lost ${reason}` : full ? `full ${full}` : text;
  const box = byId("banner");
  if (box.dataset.kind !== kind) {
    box.dataset.kind = kind;
    const wait = [h("span", { id: "wait", "aria-hidden": "true" }), " ", h("button", { type: "button", onclick: () => live.now() }, "Try now")];
    if (lost) {
      show(box, h("b", {}, "This replica does not answer."), reason ? ` It said: ${reason}.` : "", " What is shown is from before. ", wait);
    } else if (full) {
      show(box, h("b", {}, "This page is not live."), ` ${full[0].toUpperCase()}${full.slice(1)}, so it asks every 5 s. `, wait);
    } else {
      show(box, h("b", {}, leaderless ? "The cluster has no leader." : "This replica is not ready."),
        leaderless ? " Nothing expires and no write succeeds until one is elected. What is shown is the last state known here. " : ` ${text}. `);
    }
  }
  box.hidden = !kind;
  const wait_ms = Math.max(0, again_ms - Date.now());
  if (lost || full) write(byId("wait"), wait_ms ? `Trying again in ${duration(Math.ceil(wait_ms / 1000) * 1000)}.` : "Trying …");
}

function trouble() {
  if (!pulse) return "";
  return pulse.cluster.not_ready_reason || (pulse.cluster.leader_node_id ? "" : "no leader is known");
}

let toastEnds = 0;

function say(text) {
  const toast = byId("toast");
  toast.textContent = text;
  toast.classList.add("shown");
  clearTimeout(toastEnds);
  toastEnds = setTimeout(() => { toast.classList.remove("shown"); toast.textContent = ""; }, 4000);
}

// ---- theme

const THEMES = ["system", "dark", "light"];

function theme(next) {
  const root = document.documentElement;
  if (next === "system") delete root.dataset.theme;
  else root.dataset.theme = next;
  try {
    if (next === "system") localStorage.removeItem("agentkeeper-theme");
    else localStorage.setItem("agentkeeper-theme", next);
  } catch {
    // Then it holds until the page is left.
  }
  show(byId("theme"), "◑", h("span", {}, ` Theme: ${next}`));
  byId("theme").setAttribute("aria-label", `Theme: ${next}`);
}

function nextTheme() {
  const present = document.documentElement.dataset.theme ?? "system";
  theme(THEMES[(THEMES.indexOf(present) + 1) % THEMES.length]);
}

// ---- keys

const KEYS = [
  ["1 – 7", "go to a section"],
  ["/", "go to the filter"],
  ["r", "go to the rows; then ↑ ↓ and Enter"],
  ["n, p", "next and previous page"],
  ["Space", "in Events: pause and go on"],
  ["t", "change the theme"],
  ["Esc", "close what is open"],
  ["?", "this help"],
];

const KEYS_OFF = "agentkeeper-keys-off";

function keysAreOff() {
  try {
    return localStorage.getItem(KEYS_OFF) !== null;
  } catch {
    return false;
  }
}

function turnKeys(on) {
  try {
    if (on) localStorage.removeItem(KEYS_OFF);
    else localStorage.setItem(KEYS_OFF, "1");
  } catch {
    // Then they stay on.
  }
}

function help() {
  const dialog = byId("keys");
  const on = h("input", { type: "checkbox", checked: !keysAreOff(), onchange: () => turnKeys(on.checked) });
  show(dialog, h("header", {}, h("h2", { id: "keys-title" }, "Keys"),
    h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close ", h("kbd", {}, "Esc"))),
  h("dl", { class: "keys" }, KEYS.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
  h("label", { class: "turn" }, on, " Single keys do this"));
  dialog.showModal();
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape" && event.target.matches("input, select")) {
    event.preventDefault(); // or the browser empties the field without telling
    event.target.blur();
    return;
  }
  if (event.target.matches("input, select, textarea")) return;
  if (keysAreOff()) return;
  const section = sections[view().section];
  const number = Number(event.key);
  if (number >= 1 && number <= SECTIONS.length) location.hash = `#/${SECTIONS[number - 1]}`;
  else if (event.key === "/") section.focusFilter();
  else if (event.key === "r") section.focusRows();
  else if (event.key === "n") section.forward?.();
  else if (event.key === "p") section.back?.();
  else if (event.key === " " && section.pause && !event.target.matches("button, a, tr")) section.pause();
  else if (event.key === "t") nextTheme();
  else if (event.key === "?") help();
  else return;
  event.preventDefault();
}

show(byId("tabs"), SECTIONS.map((name) => tabs[name]));
theme(document.documentElement.dataset.theme ?? "system");
byId("theme").addEventListener("click", nextTheme);
byId("help").addEventListener("click", help);
byId("skip").addEventListener("click", (event) => { event.preventDefault(); byId("main").focus(); });
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}
prepareDetails();
document.addEventListener("keydown", key);
addEventListener("hashchange", route);
setInterval(() => { tickAll(lost); if (lost || full) banner(); }, 1000);
route();
