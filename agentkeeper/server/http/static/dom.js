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
  element.append(...present(children));
  return element;
}

const present = (children) => children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);

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
export function state(word, said = word) {
  return h("span", { class: `state state-${word.toLowerCase()}` },
    h("span", { class: "mark", "aria-hidden": "true" }, MARKS[word] ?? "·"), said);
}

const MARKS = {
  ALIVE: "●", UNREACHABLE: "◐", DEAD: "✕",
  PENDING: "○", CLAIMED: "◐", COMPLETED: "●", FAILED: "✕",
  LEADER: "◆", FOLLOWER: "◇", CANDIDATE: "△",
  ALLOW: "●", DENY: "✕",
};

/** Replace what is in an element. */
export function show(element, ...children) {
  element.replaceChildren(...present(children));
}

/**
 * The same, but what is alike stays, so that focus, selection and scrolling do: only attributes and
 * texts that differ are changed. Listeners stay too, so they must not know what is shown.
 */
export function patch(element, ...children) {
  const wanted = present(children).map((child) => (child instanceof Node ? child : new Text(child)));
  wanted.forEach((child, i) => {
    if (i < element.childNodes.length) liken(element.childNodes[i], child);
    else element.append(child);
  });
  while (element.childNodes.length > wanted.length) element.lastChild.remove();
}

function liken(old, fresh) {
  if (old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
  } else if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
  } else {
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) === value) continue;
      if (name === "style") old.style.cssText = value; // as an attribute the policy forbids it
      else old.setAttribute(name, value);
    }
    patch(old, ...fresh.childNodes);
  }
}

/** Set a text, unless it is that already: what is set is read out. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const byId = (id) => document.getElementById(id);
