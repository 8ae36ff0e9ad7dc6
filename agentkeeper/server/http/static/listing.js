// A section that lists something: filters, a table, pages. It asks for the page that is looked at
// and nothing else, and again when an event says that it may have changed.
import { ask } from "./api.js";
import { h, write } from "./dom.js";
import { count } from "./format.js";
import { Table } from "./table.js";
import { change, link, view } from "./view.js";

const LIMIT = 50;
const AGAIN_MS = 5000; // what changes without an event (heartbeats, places in line) is looked at again

/** A text filter: its value goes to the address a moment after the typing. */
export function textFilter(name, label, placeholder, wide = false) {
  let timer = 0;
  const input = h("input", {
    type: "search", name, placeholder, autocomplete: "off", spellcheck: "false", maxlength: 512,
    oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(() => change({ [name]: input.value.trim(), page: "" }, { replace: true }), 250);
    },
  });
  return {
    name,
    element: h("label", { class: wide ? "field wide" : "field" }, h("span", {}, label), input),
    read: (params) => { if (document.activeElement !== input) input.value = params.get(name) ?? ""; },
    leave: () => clearTimeout(timer),
    disable: (off) => { input.disabled = off; },
  };
}

/** Words of which any number can be chosen. */
export function choices(name, label, words) {
  const boxes = words.map((word) => h("input", {
    type: "checkbox", value: word,
    onchange: () => change({ [name]: boxes.filter((b) => b.checked).map((b) => b.value), page: "" }),
  }));
  const element = h("fieldset", { class: "choices" }, h("legend", {}, label),
    boxes.map((box) => h("label", {}, box, h("span", {}, box.value.toLowerCase()))));
  return {
    name,
    element,
    disable: (off) => { element.disabled = off; },
    read: (params) => { for (const box of boxes) box.checked = params.getAll(name).includes(box.value); },
  };
}

/** One word of several, or none. */
export function choice(name, label, words) {
  const select = h("select", { name, onchange: () => change({ [name]: select.value, page: "" }) },
    h("option", { value: "" }, "any"), words.map((word) => h("option", { value: word }, word.toLowerCase())));
  return {
    element: h("label", { class: "field" }, h("span", {}, label), select),
    read: (params) => { select.value = params.get(name) ?? ""; },
  };
}

export class Listing {
  /**
   * `title`; `kinds`: topics' first words after which to look again; `filters`;
   * `request`: params -> {path, params, rows: the answer's field, and where not all filters are
   * asked for, `without`: their names, `note`: why; and where it is a search, `how`: answer ->
   * how it has ranked them}; `table` as in Table;
   * `before`: what stands above the filters; `total`: summary -> how many there are, in words.
   */
  constructor({ title, kinds, filters, request, table, before = [], total }) {
    this.kinds = kinds;
    this.filters = filters;
    this.request = request;
    this.total = total;
    this.table = new Table({ ...table, open: table.open && ((row) => change({ open: table.key(row), of: "" })) });
    this.tokens = []; // of the pages before this one
    this.seen = "";
    this.asked_ms = 0;
    this.asking = null;
    this.loading = false;
    this.due = false; // something has happened to what is listed since it was asked for
    this.status = h("span", { class: "status", role: "status", "aria-live": "polite" });
    this.trouble = h("p", { class: "trouble", role: "alert", hidden: true });
    this.previous = h("button", { type: "button", onclick: () => this.back() }, "Previous");
    this.next = h("button", { type: "button", onclick: () => this.forward() }, "Next");
    this.sum = h("p", { class: "sum" });
    this.note = h("p", { class: "note", role: "status", hidden: true });
    this.how = h("p", { class: "how", role: "status", hidden: true });
    this.element = h("div", { class: "section" },
      h("div", { class: "heading" }, h("h1", {}, title), this.sum), before,
      h("form", { class: "filters", role: "search", "aria-label": `Filter ${title.toLowerCase()}`, onsubmit: (e) => e.preventDefault() },
        filters.map((f) => f.element)),
      this.note, this.how, this.trouble, this.table.element,
      h("div", { class: "pages" }, this.status, h("span", { class: "spacer" }), this.previous, this.next));
  }

  /** Show what the address asks for. */
  route(params) {
    const { without = [], note = "" } = this.request(params);
    for (const filter of this.filters) {
      filter.read(params);
      filter.disable?.(without.includes(filter.name));
    }
    write(this.note, note);
    this.note.hidden = !note;
    const { open, of, ...rest } = Object.fromEntries([...new Set(params.keys())].map((k) => [k, params.getAll(k).join("\n")]));
    const seen = JSON.stringify(rest);
    if (seen !== this.seen) {
      this.seen = seen;
      if (!params.get("page")) this.tokens = [];
      this.load();
    }
  }

  /** Look again if something has happened to what is listed. */
  pulse(pulse, before) {
    write(this.sum, this.total(pulse.summary));
    if (!before) return;
    const changed = this.kinds.some((kind) => pulse.changed[kind] !== before.changed[kind]);
    this.due ||= changed || pulse.restores !== before.restores;
    if (this.loading) return; // the next pulse will do
    if (this.due || Date.now() - this.asked_ms > AGAIN_MS) this.load();
  }

  /** Another section is shown now. */
  leave() {
    this.seen = "";
    for (const filter of this.filters) filter.leave?.();
  }

  async load() {
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    this.asked_ms = Date.now();
    this.due = false;
    this.loading = true;
    const { params } = view();
    const { path, params: wanted, rows, how } = this.request(params);
    const page = params.get("page") ?? "";
    try {
      const answer = await ask(path, { ...wanted, limit: LIMIT, ...(page ? { page_token: page } : {}) }, asking.signal);
      if (asking.signal.aborted) return;
      this.trouble.hidden = true;
      this.show(answer, answer[rows], how);
    } catch (error) {
      if (asking.signal.aborted) return;
      this.trouble.textContent = error.message;
      this.trouble.hidden = false;
    } finally {
      if (this.asking === asking) this.loading = false;
    }
  }

  show(answer, rows, how) {
    rows.forEach((row, i) => { row.names = answer.names; row.score = answer.scores?.[i]; });
    this.table.update(rows);
    write(this.how, how && rows.length ? how(answer) : "");
    this.how.hidden = !this.how.textContent;
    this.token = answer.next_page_token ?? "";
    const page = this.tokens.length + 1;
    const deep = view().params.get("page");
    const where = this.token || deep ? `, page ${deep && page === 1 ? "further on" : page}` : "";
    write(this.status, how && rows.length === LIMIT ? `the best ${LIMIT} shown` : `${count(rows.length)} shown${where}`);
    this.previous.disabled = !deep;
    this.next.disabled = !this.token;
  }

  forward() {
    if (!this.token) return;
    this.tokens.push(view().params.get("page") ?? "");
    change({ page: this.token, open: "" });
    scrollTo({ top: 0 });
  }

  back() {
    if (!view().params.get("page")) return;
    const to = this.tokens.pop() ?? "";
    change({ page: to, open: "" });
    scrollTo({ top: 0 });
  }

  focusFilter() { this.element.querySelector(".filters input")?.focus(); }
  focusRows() { this.table.focus(); }
}

/** An agent by its name, with what tells it from others of that name. */
export function agent(id, names, current) {
  if (!id) return "–";
  const name = names?.[id];
  return link("agents", id, { class: "agent", tabindex: current },
    name ? h("bdi", {}, name) : null, h("code", {}, id.slice(0, 8)));
}
