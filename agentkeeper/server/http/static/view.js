// What is shown is in the address: "#/agents?name_prefix=web&page=…". So it can be shared, and the
// browser's back and forward work.

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
