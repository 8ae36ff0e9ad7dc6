// Numbers and times as people read them. Ages tick by the server's clock, not by this machine's.
import { h } from "./dom.js";

const NUMBERS = new Intl.NumberFormat("en");
const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

let ahead_ms = 0; // how far the server's wall clock is ahead of ours
let standing = false; // the cluster's clock stands still while nobody leads

export const setServerTime = (wall_ms) => { ahead_ms = wall_ms - Date.now(); };
export const setStanding = (stands) => { standing = stands; };
export const serverNow = () => Date.now() + ahead_ms;

export const count = (n) => NUMBERS.format(n);

/** A figure of a plot: three digits that matter. */
export function figure(n) {
  if (n === null || n === undefined) return "–";
  if (n >= 100 || Number.isInteger(n)) return NUMBERS.format(Math.round(n));
  return n >= 10 ? n.toFixed(1) : n.toFixed(2);
}

export function bytes(n) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (n >= 1024 && unit < 3) { n /= 1024; unit += 1; }
  return `${unit ? n.toFixed(1) : count(n)} ${units[unit]}`;
}

export function duration(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** "12 s ago", which goes on counting. */
export function since(iso) {
  if (!iso) return "–";
  const at_ms = Date.parse(iso);
  const text = h("time", { datetime: iso, title: EXACT.format(at_ms), "data-since": at_ms });
  tick(text);
  return text;
}

/** The moment itself, to the second. */
export function clock(iso) {
  const at = new Date(iso);
  return h("time", { datetime: iso, title: EXACT.format(at), class: "number" }, at.toLocaleTimeString("en-GB"));
}

/** "12 s", which counts down: `remaining_ms` are left now, of `whole_ms`. */
export function left(remaining_ms, whole_ms) {
  const text = h("span", { class: "left-text number" });
  const meter = h("span", { class: "meter", "aria-hidden": "true" }, h("i"));
  const both = h("span", {
    class: "left", "data-until": Date.now() + remaining_ms, "data-whole": whole_ms,
  }, meter, text);
  tick(both);
  return both;
}

function tick(element) {
  const { since: from, until, whole } = element.dataset;
  if (from !== undefined) {
    element.textContent = `${duration(serverNow() - Number(from))} ago`;
    return;
  }
  const remaining_ms = Math.max(0, Number(until) - Date.now());
  element.lastChild.textContent = remaining_ms > 0 ? duration(remaining_ms) : "due";
  element.firstChild.firstChild.style.width = `${Math.min(100, (100 * remaining_ms) / Number(whole))}%`;
}

/** Once a second: everything that counts; if `lost`, all stands as it was last known. */
export function tickAll(lost) {
  if (lost) {
    for (const element of document.querySelectorAll("[data-until]")) hold(element);
    return;
  }
  for (const element of document.querySelectorAll("[data-since]")) tick(element);
  for (const element of document.querySelectorAll("[data-until]")) {
    if (standing) hold(element);
    else tick(element);
  }
}

function hold(element) {
  element.dataset.until = String(Number(element.dataset.until) + 1000);
}
