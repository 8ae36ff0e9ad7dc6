// A table whose rows are kept by their key: what has not changed is left alone, so focus and
// selection stay where they are. Rows are walked with the arrow keys and opened with Enter.
import { h, patch } from "./dom.js";

export class Table {
  /**
   * `columns`: {title, of: row -> content, kind}; `key`: row -> what it is known by;
   * `open`: what to do with a row that is chosen, if anything. A row with a `note` is only that.
   */
  constructor({ caption, columns, key, open = null, empty }) {
    this.columns = columns;
    this.key = key;
    this.open = open;
    this.kept = new Map();
    this.body = h("tbody", {});
    this.nothing = h("p", { class: "nothing", hidden: true }, empty);
    const heads = columns.map((c) => h("th", { scope: "col", class: c.kind }, c.title));
    this.element = h("div", { class: "table" },
      h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, heads)), this.body),
      this.nothing);
    if (open) this.body.addEventListener("keydown", (e) => this.#keys(e));
  }

  update(rows) {
    const kept = new Map();
    const wanted = rows.map((row) => {
      const key = this.key(row);
      const text = JSON.stringify(row);
      let known = this.kept.get(key);
      if (!known || known.text !== text) {
        const cells = row.note ? [h("td", { class: "gap", colspan: this.columns.length }, row.note)]
          : this.columns.map((c) => h("td", { class: c.kind, "data-label": c.title }, c.of(row)));
        if (known) { patch(known.tr, cells); known.text = text; known.row = row; }
        else known = { text, row, tr: row.note ? h("tr", { class: "gap" }, cells) : this.#row(key, cells) };
      }
      kept.set(key, known);
      return known.tr;
    });
    for (const [key, { tr }] of this.kept) if (!kept.has(key)) tr.remove();
    wanted.forEach((tr, i) => { if (this.body.children[i] !== tr) this.body.insertBefore(tr, this.body.children[i] ?? null); });
    this.kept = kept;
    this.nothing.hidden = rows.length > 0;
    if (this.open && !this.body.querySelector('tr[tabindex="0"]')) this.body.querySelector("tr.opens")?.setAttribute("tabindex", "0");
  }

  /** Move the keyboard to the rows. */
  focus() {
    this.body.querySelector('tr[tabindex="0"]')?.focus();
  }

  #row(key, cells) {
    if (!this.open) return h("tr", {}, cells);
    return h("tr", {
      tabindex: "-1", class: "opens", "aria-haspopup": "dialog",
      onclick: () => { if (getSelection().isCollapsed) this.open(this.kept.get(key).row); },
      onfocus: (e) => this.#current(e.currentTarget),
    }, cells);
  }

  #of(tr) {
    return [...this.kept.values()].find((known) => known.tr === tr).row;
  }

  #current(tr) {
    for (const other of this.body.querySelectorAll('tr[tabindex="0"]')) other.setAttribute("tabindex", "-1");
    tr.setAttribute("tabindex", "0");
  }

  #keys(event) {
    const tr = event.target.closest("tr");
    const rows = [...this.body.querySelectorAll("tr.opens")];
    const at = rows.indexOf(tr);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, j: at + 1, k: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (rows[to]) rows[to].focus();
    else if ((event.key === "Enter" || event.key === " ") && event.target === tr) this.open(this.#of(tr));
    else return; // a link in the row is followed
    event.preventDefault();
  }
}
