// Puts the page together: the address says what is shown, the stream says when it has changed.
import { Cluster } from "./cluster.js";
import { details, prepareDetails } from "./details.js";
import { byId, h, show } from "./dom.js";
import { Events } from "./events.js";
import { count, duration, setStanding, tickAll } from "./format.js";
import { Live } from "./live.js";
import { agents, elections, leases, policies, tasks } from "./sections.js";
import { SECTIONS, view } from "./view.js";

const HISTORY = 300;
const AGAIN_MS = 5000; // what is open is looked at again, also if no event says that it has changed

let pulse = null; // the latest
let points = []; // of the plots
let lost_until_ms = 0;
let lost = false;
let looked_ms = 0; // when what is open was last looked at
let followed = ""; // what the stream was opened for

const live = new Live({
  history: (all) => { points = all; sections.cluster.history(points); },
  pulse: take,
  events: (batch) => sections.events.take(batch),
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

function take(next) {
  const before = pulse;
  pulse = next;
  points.push(next.point);
  if (points.length > HISTORY) points.shift();
  const { cluster, summary } = next;
  setStanding(!cluster.leader_node_id);
  show(byId("whose"), "on ", h("b", {}, cluster.node_id));
  const counts = {
    cluster: cluster.replicas.length, agents: summary.agents_alive + summary.agents_unreachable, leases: summary.leases,
    elections: summary.election_groups, tasks: summary.tasks_pending + summary.tasks_claimed,
    policies: summary.policies, events: null,
  };
  for (const [name, n] of Object.entries(counts)) {
    tabs[name].querySelector("[data-count]").textContent = n === null ? "" : count(n);
  }
  const { section } = view();
  sections[section].pulse(next, before);
  if (before && !before.cluster.leader_node_id !== !cluster.leader_node_id) sections[section].load();
  if (section === "cluster") sections.cluster.history(points);
  const changed = JSON.stringify(next.changed) !== JSON.stringify(before?.changed);
  if (changed || Date.now() - looked_ms > AGAIN_MS) {
    looked_ms = Date.now();
    details(true);
  }
  banner();
}

function linked(what, wait_ms) {
  const was = lost;
  lost = what === "lost";
  if (lost) lost_until_ms = Date.now() + wait_ms;
  else if (was) {
    say("Connected again.");
    sections[view().section].load();
    details(true);
  }
  banner();
}

/** Tell what is wrong, if anything is. */
function banner() {
  const text = lost ? null : trouble();
  const link = byId("link");
  link.className = `link ${lost ? "bad" : text ? "fair" : "good"}`;
  link.firstElementChild.textContent = lost ? "✕" : text ? "◐" : "●";
  const word = lost ? "not connected" : text ? "no leader" : "live";
  const shown = !lost && text && pulse.cluster.leader_node_id ? "not ready" : word;
  if (byId("link-text").textContent !== shown) byId("link-text").textContent = shown;
  const box = byId("banner");
  if (!lost && !text) {
    box.hidden = true;
    box.replaceChildren();
    return;
  }
  if (lost) {
    const wait_s = Math.max(0, Math.ceil((lost_until_ms - Date.now()) / 1000));
    if (box.dataset.kind !== "lost" || box.hidden) {
      show(box, h("b", {}, "This replica does not answer."), " What is shown is from before. ",
        h("span", { id: "wait", "aria-hidden": "true" }), " ",
        h("button", { type: "button", onclick: () => live.now() }, "Try now"));
    }
    byId("wait").textContent = wait_s ? `Trying again in ${duration(wait_s * 1000)}.` : "Trying …";
    box.dataset.kind = "lost";
  } else if (box.dataset.kind !== text || box.hidden) {
    const leaderless = !pulse.cluster.leader_node_id;
    show(box, h("b", {}, leaderless ? "The cluster has no leader." : "This replica is not ready."),
      leaderless ? " Nothing expires and no write succeeds until one is elected. What is shown is the last state known here. " : ` ${text}. `);
    box.dataset.kind = text;
  }
  box.hidden = false;
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

function help() {
  const dialog = byId("keys");
  show(dialog, h("header", {}, h("h2", { id: "keys-title" }, "Keys"),
    h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close ", h("kbd", {}, "Esc"))),
  h("dl", { class: "keys" }, KEYS.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])));
  dialog.showModal();
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape" && event.target.matches("input, select")) { event.target.blur(); return; }
  if (event.target.matches("input, select, textarea")) return;
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
setInterval(() => { tickAll(); if (lost) banner(); }, 1000);
route();
