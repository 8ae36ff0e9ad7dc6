// Small plots: a line or two over the last five minutes, with the figure of now, or of the moment
// that is pointed at.
import { h, patch, svg } from "./dom.js";
import { duration, figure, serverNow } from "./format.js";

const WIDTH = 300;
const HEIGHT = 72;
const SPAN_MS = 300_000;

/** A plot of `series` ({name, of: point -> number or null}), in `unit`. */
export class Plot {
  constructor(title, unit, series, note) {
    this.unit = unit;
    this.series = series;
    this.points = [];
    this.pointed = null;
    this.lines = series.map((_, i) => svg("path", { class: `line line-${i}` }));
    this.area = svg("path", { class: "area" });
    this.cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT, x1: -9, x2: -9 });
    this.top = h("span", { class: "plot-top number", "aria-hidden": "true" });
    this.readings = h("div", { class: "readings" });
    this.when = h("span", { class: "plot-when" });
    this.drawing = svg("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
    }, this.area, ...this.lines, this.cursor);
    this.drawing.addEventListener("pointermove", (e) => this.#point(e));
    this.drawing.addEventListener("pointerleave", () => this.#point(null));
    this.title = title;
    this.element = h("section", { class: "card plot" },
      h("h3", {}, title, h("span", { class: "note" }, note)), this.readings,
      h("div", { class: "drawing" }, this.top, this.drawing),
      h("div", { class: "plot-axis" }, h("span", {}, "5 min ago"), this.when, h("span", {}, "now")));
  }

  draw(points) {
    this.points = points;
    const now_ms = serverNow();
    const values = points.flatMap((p) => this.series.map((s) => s.of(p) ?? 0));
    const top = nice(Math.max(...values, 1));
    this.x = (point) => WIDTH - ((now_ms - point.wall_ms) / SPAN_MS) * WIDTH;
    const y = (value) => HEIGHT - 1 - (value / top) * (HEIGHT - 8);
    this.series.forEach((series, i) => {
      const d = path(points, this.x, (p) => series.of(p), y);
      this.lines[i].setAttribute("d", d);
      if (i === 0) this.area.setAttribute("d", fill(points, this.x, series, y));
    });
    this.top.textContent = figure(top);
    this.#read();
  }

  #point(event) {
    if (event === null) {
      this.pointed = null;
    } else {
      const box = this.drawing.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * WIDTH;
      const off = (p) => Math.abs(this.x(p) - at);
      this.pointed = this.points.reduce((best, p) => (best && off(best) <= off(p) ? best : p), null);
    }
    this.#read();
  }

  #read() {
    const point = this.pointed ?? this.points.at(-1);
    const x = this.pointed ? this.x(point) : -9;
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    this.when.textContent = this.pointed ? `${duration(serverNow() - point.wall_ms)} ago` : "";
    const readings = this.series.map((series, i) => [series.name, figure(point ? series.of(point) : null), i]);
    patch(this.readings, readings.map(([name, value, i]) => h("span", { class: "reading" },
      h("b", { class: "number" }, value), h("small", {}, this.unit),
      h("span", { class: `key key-${i}` }, name))));
    const said = readings.map(([name, value]) => `${name} ${value} ${this.unit}`).join(", ");
    this.drawing.setAttribute("aria-label", `${this.title}, the last five minutes. Now: ${said}`);
  }
}

/** The next of 1, 2, 5, 10, 20 … at or above. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999) ?? value;
}

const GAP_MS = 5000; // no sample for longer: the line is broken off, as nothing is known

function path(points, x, of, y) {
  let d = "";
  let last = null;
  for (const point of points) {
    const value = of(point);
    if (value === null || value === undefined) { last = null; continue; }
    const joined = last !== null && point.wall_ms - last < GAP_MS;
    d += `${joined ? "L" : "M"}${x(point).toFixed(1)} ${y(value).toFixed(1)}`;
    last = point.wall_ms;
  }
  return d;
}

function fill(points, x, series, y) {
  const known = points.filter((p) => series.of(p) !== null && series.of(p) !== undefined);
  if (known.length < 2) return "";
  const line = known.map((p) => `L${x(p).toFixed(1)} ${y(series.of(p)).toFixed(1)}`).join("");
  return `M${x(known[0]).toFixed(1)} ${HEIGHT}${line}L${x(known.at(-1)).toFixed(1)} ${HEIGHT}Z`;
}
