// A wall of neurons of which only the rows in view exist.
"use strict";

const ROWS_BEYOND = 1;
const REST = 80; // milliseconds of calm, after which what a fast scroll passed through is filled

class Wall {
  /** @param fill makes the contents of a neuron's tile, `link` its address, `label` its name */
  constructor(scroller, grid, { fill, link, label }) {
    Object.assign(this, { scroller, grid, fill, link, label });
    this.neurons = new Uint32Array();
    this.rows = new Map();
    this.current = 0; // place in the order of the tile that the keyboard reaches
    this.top = 0;
    new ResizeObserver(() => this.measure()).observe(grid);
    scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
  }

  show(neurons, { pair = false, keep = false } = {}) {
    this.neurons = neurons;
    this.pair = pair;
    this.grid.classList.toggle("pair", pair);
    this.grid.setAttribute("aria-colcount", "1");
    if (!keep) this.current = 0;
    this.columns = 0; // measured anew
    this.measure();
  }

  /** Lay out for the width there is: tiles of one size, rows of one height. */
  measure() {
    if (!this.grid.clientWidth) return; // not shown
    const style = getComputedStyle(this.grid);
    const [least, gap, caption] = ["--tile", "--gap", "--caption"].map((name) => parseFloat(style.getPropertyValue(name)));
    const width = this.grid.clientWidth;
    const columns = Math.max(1, Math.floor((width + gap) / ((this.pair ? 2 * least : least) + gap)));
    const tile = (width - gap * (columns - 1)) / columns;
    const height = tile / (this.aspect * (this.pair ? 2 : 1)) + caption + gap;
    if (columns === this.columns && Math.abs(height - this.height) < 0.01) return;
    const kept = Math.floor((this.scroller.scrollTop - this.grid.offsetTop) / (this.height || height)) * (this.columns || columns);
    const resized = this.columns > 0;
    Object.assign(this, { columns, height });
    const rows = Math.ceil(this.neurons.length / columns);
    this.grid.style.height = `${Math.ceil(rows * height)}px`;
    this.grid.style.setProperty("--columns", columns);
    this.grid.setAttribute("aria-rowcount", rows);
    this.grid.setAttribute("aria-colcount", columns);
    for (const row of this.rows.values()) this.drop(row);
    this.rows.clear();
    if (resized && kept > 0) this.scroller.scrollTop = this.grid.offsetTop + Math.floor(kept / columns) * height;
    this.draw();
    this.fillIn();
  }

  scrolled() {
    if (this.waiting || !this.grid.clientWidth) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      const moved = Math.abs(this.scroller.scrollTop - this.top);
      this.draw();
      clearTimeout(this.resting);
      if (moved < this.scroller.clientHeight / 2) this.fillIn();
      else this.resting = setTimeout(() => this.fillIn(), REST);
    });
  }

  /** Rows in view and a few beyond are there, others are not. */
  draw() {
    this.top = this.scroller.scrollTop;
    const above = this.top - this.grid.offsetTop;
    const last = Math.ceil(this.neurons.length / this.columns) - 1;
    const from = Math.max(0, Math.floor(above / this.height) - ROWS_BEYOND);
    const to = Math.min(last, Math.floor((above + this.scroller.clientHeight) / this.height) + ROWS_BEYOND);
    for (const [number, row] of this.rows) {
      if ((number < from || number > to) && !row.contains(document.activeElement)) {
        this.drop(row);
        this.rows.delete(number);
      }
    }
    for (let number = from; number <= to; number += 1) if (!this.rows.has(number)) this.add(number);
    this.makeReachable();
  }

  /** Take a row away, and tell its pictures that nobody waits for them any more. */
  drop(row) {
    for (const canvas of row.querySelectorAll("canvas")) canvas.gone = true;
    row.remove();
  }

  add(number) {
    const row = element("div", { role: "row", class: "row", "aria-rowindex": number + 1 });
    row.style.top = `${number * this.height}px`;
    const first = number * this.columns;
    for (let place = first; place < Math.min(first + this.columns, this.neurons.length); place += 1) {
      const neuron = this.neurons[place];
      const link = element("a", { class: "tile", href: this.link(neuron), "aria-label": this.label(neuron), tabindex: "-1" });
      link.dataset.place = place;
      row.append(element("div", { role: "gridcell", "aria-colindex": place - first + 1 }, link));
    }
    this.rows.set(number, row);
    const after = [...this.rows.keys()].filter((other) => other > number).sort((a, b) => a - b)[0];
    this.grid.insertBefore(row, this.rows.get(after) ?? null); // in reading order
  }

  /** What is in the tiles, once the scrolling has come to them. */
  fillIn() {
    for (const row of this.rows.values()) {
      if (row.dataset.filled) continue;
      row.dataset.filled = "yes";
      for (const link of row.querySelectorAll("a")) link.append(...this.fill(this.neurons[link.dataset.place]));
    }
  }

  /** One tile is a stop for the tabulator: the current one, or else the first in view. */
  makeReachable() {
    const reachable = this.grid.querySelector("a[tabindex='0']");
    const wanted = this.tileAt(this.current) ?? this.grid.querySelector("a");
    if (reachable === wanted) return;
    reachable?.setAttribute("tabindex", "-1");
    wanted?.setAttribute("tabindex", "0");
  }

  tileAt(place) {
    return this.rows.get(Math.floor(place / this.columns))?.querySelector(`a[data-place="${place}"]`) ?? null;
  }

  /** Bring a place into view and give it the keyboard. */
  focus(place) {
    if (!this.neurons.length) return;
    this.current = Math.max(0, Math.min(place, this.neurons.length - 1));
    const top = this.grid.offsetTop + Math.floor(this.current / this.columns) * this.height;
    const { scrollTop, clientHeight } = this.scroller;
    if (top < scrollTop) this.scroller.scrollTop = top - 8;
    else if (top + this.height > scrollTop + clientHeight) this.scroller.scrollTop = top + this.height - clientHeight + 8;
    this.draw();
    this.fillIn();
    this.tileAt(this.current)?.focus({ preventScroll: true });
  }

  /** Move by a key; false if it is none that moves. */
  move(key) {
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.height)) * this.columns;
    const steps = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -this.columns,
      ArrowDown: this.columns,
      PageUp: -page,
      PageDown: page,
      Home: -this.current,
      End: this.neurons.length - 1 - this.current,
    };
    if (!(key in steps)) return false;
    const place = this.current + steps[key];
    if (place >= 0 && place < this.neurons.length) this.focus(place);
    else if (key.startsWith("Page") || key === "ArrowDown") this.focus(place < 0 ? 0 : this.neurons.length - 1);
    return true;
  }
}
