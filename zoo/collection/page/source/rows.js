// Rows of one height, of which only those that can be seen exist.

const AROUND = 3; // rows above and below what is seen

export class Rows {
  // draw(row) gives an element. scroller is the element that scrolls; the rows go into `into`.
  // ready(row) gives null if it can be drawn now, else what to wait for; drawn(row) is told of that.
  constructor(scroller, into, { count, height, draw, ready = () => null, drawn }) {
    Object.assign(this, { scroller, into, count, height, draw, ready, drawn, shown: new Map() });
    into.classList.add("rows");
    into.style.height = `${count * height}px`;
    this.onscroll = () => this.later();
    scroller.addEventListener("scroll", this.onscroll, { passive: true });
    this.update();
  }

  later() {
    this.asked ??= requestAnimationFrame(() => {
      this.asked = undefined;
      this.update();
    });
  }

  // The first row that is seen, and the one behind the last.
  seen() {
    const above = this.scroller.scrollTop - this.into.offsetTop;
    const first = Math.floor(above / this.height);
    const end = Math.ceil((above + this.scroller.clientHeight) / this.height);
    return [Math.max(0, first), Math.min(this.count, end)];
  }

  update() {
    const [first, end] = this.seen();
    const from = Math.max(0, first - AROUND);
    const to = Math.min(this.count, end + AROUND);
    for (const [row, element] of this.shown) {
      if ((row < from || row >= to) && !element.contains(document.activeElement)) {
        element.remove();
        this.shown.delete(row);
      }
    }
    for (let row = from; row < to; row++) this.at(row);
  }

  // The element of a row, made if it is not there.
  at(row) {
    let element = this.shown.get(row);
    if (!element) {
      const waiting = this.ready(row);
      if (waiting) waiting.then(() => this.again(row, element), () => {});
      element = waiting ? document.createElement("div") : this.draw(row);
      element.classList.add("row");
      element.style.transform = `translateY(${row * this.height}px)`;
      element.style.height = `${this.height}px`;
      this.shown.set(row, element);
      // In the order in which they are read, whichever was made first.
      const next = [...this.shown.keys()].filter((other) => other > row);
      this.into.insertBefore(element, next.length ? this.shown.get(Math.min(...next)) : null);
    }
    return element;
  }

  // Draw a row that could not be drawn before, if it is still to be seen.
  again(row, before) {
    if (this.shown.get(row) !== before) return;
    before.remove();
    this.shown.delete(row);
    this.at(row);
    this.drawn?.(row);
  }

  show(row) {
    const top = this.into.offsetTop + row * this.height;
    const margin = this.scroller.querySelector(".bar")?.offsetHeight ?? 0;
    if (top < this.scroller.scrollTop + margin) this.scroller.scrollTop = top - margin;
    else if (top + this.height > this.scroller.scrollTop + this.scroller.clientHeight) {
      this.scroller.scrollTop = top + this.height - this.scroller.clientHeight;
    }
    this.update();
    return this.at(row);
  }

  resize(count, height = this.height) {
    Object.assign(this, { count, height });
    this.into.style.height = `${count * height}px`;
    this.redraw();
  }

  redraw() {
    for (const element of this.shown.values()) element.remove();
    this.shown.clear();
    this.update();
  }

  stop() {
    this.scroller.removeEventListener("scroll", this.onscroll);
    cancelAnimationFrame(this.asked);
  }
}
