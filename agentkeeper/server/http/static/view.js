// What is shown is in the address: "#/agents?name_prefix=web&page=…". So it can be shared, and the
// browser's back and forward work.

import { h } from "./dom.js";

export const SECTIONS = ["cluster", "agents", "leases", "elections", "tasks", "policies", "events"];

/** The section and its parameters. */
export function view() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const section = SECTIONS.includes(path) ? path : "cluster";
  return { section, params: new URLSearchParams(query) };
}

/** The address of a section with parameters; empty ones are left out. */
export function address(section, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const one of [value].flat()) {
      if (one !== "" && one !== null && one !== undefined) query.append(name, one);
    }
  }
  const text = query.toString();
  return `#/${section}${text ? `?${text}` : ""}`;
}

/**
 * A link to one thing of a section. Where one is does not change: its details open over what is
 * shown, which only the browser's ways of opening it elsewhere leave.
 */
export function link(section, key, properties, ...children) {
  return h("a", { ...properties, href: address(section, { open: key }), onclick: stay }, children);
}

function stay(event) {
  event.stopPropagation(); // the row it may be in has details of its own
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const [path, query] = event.currentTarget.hash.slice(2).split("?");
  change({ open: new URLSearchParams(query).get("open"), of: path === view().section ? "" : path });
}

/** Change some parameters of what is shown; `replace` leaves no step for the back button. */
export function change(changes, { replace = false } = {}) {
  const { section, params } = view();
  const all = {};
  for (const name of new Set(params.keys())) all[name] = params.getAll(name);
  const target = address(section, { ...all, ...changes });
  if (target === location.hash) return;
  if (replace) {
    history.replaceState(null, "", target);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = target;
  }
}
