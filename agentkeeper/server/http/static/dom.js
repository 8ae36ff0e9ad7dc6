// Elements from data. Text is only ever set as text, so nothing that comes from the cluster is
// read as markup.

/** An element: properties beginning with "on" are listeners, all others attributes. */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The same in SVG. */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** A name or text that somebody gave: kept apart from the direction of what is around it. */
export function given(text, kind = "given") {
  return h("bdi", { class: kind, title: text.length > 40 ? text.slice(0, 1000) : undefined }, text);
}

/** A word for a state, with a shape, so that it is not told by colour alone. */
export function state(word) {
  return h("span", { class: `state state-${word.toLowerCase()}` },
    h("span", { class: "mark", "aria-hidden": "true" }, MARKS[word] ?? "·"), word);
}

const MARKS = {
  ALIVE: "●", UNREACHABLE: "◐", DEAD: "✕",
  PENDING: "○", CLAIMED: "◐", COMPLETED: "●", FAILED: "✕",
  LEADER: "◆", FOLLOWER: "◇", CANDIDATE: "△",
  ALLOW: "●", DENY: "✕",
};

/** Replace what is in an element, unless it is there already. */
export function show(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

export const byId = (id) => document.getElementById(id);
