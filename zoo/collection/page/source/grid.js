// Pictures in rows and columns: by mouse, by finger and by keyboard.
import { announce, element } from "./dom.js";
import { Rows } from "./rows.js";

const AT_ONCE = 12; // thumbnails that are asked for before one of them has come
const waiting = []; // images, and what each is to show
let loading = 0;

// A browser loads all that it was ever asked for, in that order: after a quick scroll hundreds before
// what is seen. So few are asked for at once, and none whose place has left the page meanwhile.
function load() {
  while (loading < AT_ONCE && waiting.length) {
    const [image, url] = waiting.shift();
    if (!image.isConnected) continue;
    loading++;
    for (const end of ["load", "error"]) image.addEventListener(end, loaded, { once: true });
    image.src = url;
  }
}

function loaded() {
  loading--;
  load();
}

// A thumbnail, which comes when it comes.
export function thumbnail(page, i, properties = {}) {
  const image = element("img", { alt: "", decoding: "async", draggable: "false", ...properties });
  image.addEventListener("error", () => image.classList.add("missing"));
  page.backend.thumbnail(i).then(
    (url) => {
      if (!url) return image.classList.add("missing");
      waiting.push([image, url]);
      load();
    },
    () => image.classList.add("missing"),
  );
  return image;
}

export class Grid {
  // numbers: of the pictures. caption(i, position): a short text for each, or nothing.
  constructor(page, scroller, into, { numbers, label, selectable = false, caption, onselect }) {
    Object.assign(this, { page, scroller, into, numbers, selectable, caption, onselect });
    this.selected = new Set();
    this.active = 0;
    into.setAttribute("role", "grid");
    into.setAttribute("aria-label", label);
    into.setAttribute("aria-multiselectable", String(selectable));
    into.classList.add("grid");
    this.measure();
    this.rows = new Rows(scroller, into, {
      count: this.count(),
      height: this.height,
      draw: (row) => this.draw(row),
      ready: (row) => page.collection.ready(numbers.slice(row * this.columns, (row + 1) * this.columns)),
      drawn: () => this.wanted !== undefined && this.at(this.wanted) && this.go(this.wanted),
    });
    this.tell();
    into.addEventListener("keydown", (event) => this.key(event));
    into.addEventListener("click", (event) => this.click(event));
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(scroller);
  }

  count() {
    return Math.ceil(this.numbers.length / this.columns);
  }

  measure() {
    const width = this.into.clientWidth || this.scroller.clientWidth;
    this.width = width;
    this.columns = Math.max(width < 600 ? 3 : 4, Math.floor(width / 148));
    this.height = Math.floor(width / this.columns) + (this.caption ? 22 : 0);
    this.into.style.setProperty("--columns", this.columns);
  }

  fit() {
    if (!this.into.clientWidth || this.into.clientWidth === this.width) return;
    this.measure();
    this.rows.resize(this.count(), this.height);
    this.tell();
  }

  tell() {
    this.into.setAttribute("aria-rowcount", this.count());
    this.into.setAttribute("aria-colcount", this.columns);
  }

  draw(row) {
    const line = element("div", { role: "row", "aria-rowindex": row + 1, class: "line" });
    const start = row * this.columns;
    for (let at = start; at < Math.min(start + this.columns, this.numbers.length); at++) {
      line.append(this.cell(at, at - start));
    }
    return line;
  }

  cell(at, column) {
    const i = this.numbers[at];
    const caption = this.caption?.(i, at);
    const cell = element(
      "div",
      {
        role: "gridcell",
        class: "cell",
        tabindex: at === this.active ? "0" : "-1",
        "aria-colindex": column + 1,
        "aria-label": this.page.collection.describe(i) + (caption ? `, ${caption}` : ""),
        "aria-selected": this.selectable ? String(this.selected.has(i)) : null,
        title: this.page.collection.describe(i),
        "data-at": at,
      },
      element("span", { class: "frame" }, thumbnail(this.page, i)),
    );
    if (this.selectable) cell.append(element("span", { class: "tick", "aria-hidden": "true" }));
    if (caption) cell.append(element("span", { class: "caption", "aria-hidden": "true" }, caption));
    return cell;
  }

  click(event) {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    const at = Number(cell.dataset.at);
    const several = event.ctrlKey || event.metaKey || event.target.closest(".tick");
    if (this.selectable && event.shiftKey) this.select(this.active, at);
    else if (this.selectable && several) this.toggle(at);
    else this.page.open(this.numbers[at], this.numbers);
    this.go(at);
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.height)) * this.columns;
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns,
      PageUp: -page, PageDown: page, Home: -this.active, End: this.numbers.length,
    };
    if (event.key in steps && !event.altKey) {
      const before = this.active;
      this.go(Math.min(this.numbers.length - 1, Math.max(0, before + steps[event.key])));
      if (event.shiftKey && this.selectable) this.select(before, this.active);
    } else if (event.key === "Enter") this.page.open(this.numbers[this.active], this.numbers);
    else if (event.key === " " && this.selectable) this.toggle(this.active);
    else if (event.key === "a" && (event.ctrlKey || event.metaKey) && this.selectable) {
      this.select(0, this.numbers.length - 1);
    } else if (event.key === "Escape" && this.selected.size) this.clear();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  at(position) {
    return this.into.querySelector(`.cell[data-at="${position}"]`);
  }

  go(at) {
    this.at(this.active)?.setAttribute("tabindex", "-1");
    this.active = at;
    this.rows.show(Math.floor(at / this.columns));
    const cell = this.at(at);
    this.wanted = cell ? undefined : at; // it is not drawn yet
    cell?.setAttribute("tabindex", "0");
    cell?.focus({ preventScroll: true });
  }

  // A key that was pressed elsewhere on the page; false if it is none of the grid's.
  enter(event) {
    if (this.into.contains(document.activeElement)) return false;
    if (event.key.startsWith("Arrow")) this.go(this.active);
    else if (/^(Home|End|Page(Up|Down))$/.test(event.key)) this.key(event);
    else return false;
    return true;
  }

  // The cell of a picture; false if it is not one of these.
  focus(i) {
    const at = this.numbers.indexOf(i);
    if (at >= 0) this.go(at);
    return at >= 0;
  }

  toggle(at) {
    const i = this.numbers[at];
    if (!this.selected.delete(i)) this.selected.add(i);
    this.changed();
  }

  select(from, to) {
    for (let at = Math.min(from, to); at <= Math.max(from, to); at++) this.selected.add(this.numbers[at]);
    this.changed();
  }

  clear() {
    this.selected.clear();
    this.changed();
  }

  changed() {
    for (const cell of this.into.querySelectorAll(".cell")) {
      cell.setAttribute("aria-selected", String(this.selected.has(this.numbers[cell.dataset.at])));
    }
    announce(`${this.selected.size} selected`);
    this.onselect?.([...this.selected]);
  }

  stop() {
    this.rows.stop();
    this.observer.disconnect();
  }
}
