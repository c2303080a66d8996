// One picture, what is known of it, and its neighbours.
import { select } from "d3-selection";
import { zoom, zoomIdentity } from "d3-zoom";
import { button, element, number, size } from "./dom.js";
import { thumbnail } from "./grid.js";
import { nameField, namePictures, unname } from "./naming.js";

export class PictureDialog {
  constructor(page) {
    this.page = page;
    this.image = element("img", { class: "large", alt: "" });
    this.sheet = element("div", { class: "sheet" }, this.image);
    this.stage = element("div", { class: "stage" }, this.sheet);
    this.side = element("div", { class: "side" });
    this.dialog = element(
      "dialog",
      { class: "picture", "aria-labelledby": "picture-title", tabindex: "-1" },
      this.stage,
      this.side,
      button("×", () => this.dialog.close(), { class: "close", "aria-label": "Close", title: "Close (Escape)" }),
      button("‹", () => this.step(-1), { class: "before", "aria-label": "Previous picture" }),
      button("›", () => this.step(1), { class: "after", "aria-label": "Next picture" }),
    );
    this.zoom = zoom().scaleExtent([1, 12]).on("zoom", ({ transform }) => {
      this.sheet.style.transform = `translate(${transform.x}px, ${transform.y}px) scale(${transform.k})`;
    });
    select(this.stage).call(this.zoom);
    this.dialog.addEventListener("close", () => page.closed());
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.picture !== undefined && this.fit()).observe(this.stage);
    document.body.append(this.dialog);
  }

  show(i) {
    this.picture = i;
    const waiting = this.page.collection.ready([i]);
    if (waiting) {
      waiting.then(() => this.picture === i && this.show(i), () => {});
      return;
    }
    select(this.stage).call(this.zoom.transform, zoomIdentity);
    const { collection, backend } = this.page;
    this.image.alt = collection.describe(i);
    this.image.removeAttribute("src");
    // The small one at once, the large one when it is here.
    backend.thumbnail(i).then((url) => {
      if (this.picture === i && url && !this.image.src) this.image.src = url;
    }, () => {});
    backend.large(i).then((url) => {
      if (!url) return;
      const loading = new Image();
      loading.onload = () => this.picture === i && (this.image.src = url);
      loading.src = url;
    }, () => {});
    this.fill(i);
    if (!this.dialog.open) {
      this.dialog.showModal();
      this.dialog.focus();
    }
    this.fit();
    this.listen();
  }

  // As large as there is room, but not so large that only pixels are seen.
  fit() {
    const { widths, heights } = this.page.collection;
    const [w, h] = [widths[this.picture], heights[this.picture]];
    const least = Math.max(1, 600 / Math.max(w, h));
    const scale = Math.min(this.stage.clientWidth / w, this.stage.clientHeight / h, 3 * least);
    Object.assign(this.image.style, { width: `${w * scale}px`, height: `${h * scale}px` });
  }

  // What had the focus may be gone; the keys are heard all the same.
  listen() {
    if (!this.dialog.contains(document.activeElement)) this.dialog.focus();
  }

  fill(i) {
    const { collection, backend } = this.page;
    const facts = [
      ["Path", collection.paths[i]],
      ["Size", `${number(collection.widths[i])} × ${number(collection.heights[i])}, ${size(collection.bytes[i])}`],
    ];
    const name = collection.nameAt(i);
    const told = collection.given[i] >= 0 || collection.member[i] >= 0;
    let how = `${collection.probability[i]}% probable`;
    if (collection.given[i] === collection.name[i]) how = "named by a person";
    else if (collection.member[i] === collection.name[i]) how += ", its group was named";
    if (name) facts.unshift(["Name", `${name} (${how})`]);
    for (const { kind, value } of collection.faults.get(i) ?? []) {
      facts.push(["Odd", `${kind} (${Number(value.toPrecision(3))})`]);
    }
    if (collection.odd) facts.push(["Oddness", collection.odd[i].toFixed(3)]);
    const group = collection.byLabel.get(collection.label(i));
    const inGroup = group
      ? element(
          "p",
          {},
          "In ",
          element("a", { href: `#/group/${group.label}`, onclick: () => this.dialog.close() }, collection.title_of(group)),
          `, ${collection.sureness(i)}% sure`,
        )
      : null;
    const near = element("div", { class: "near", role: "list", "aria-label": "The most alike" });
    this.side.replaceChildren(
      element("h2", { id: "picture-title" }, collection.file(i)),
      inGroup ?? "",
      element("dl", {}, facts.map(([key, value]) => [element("dt", {}, key), element("dd", {}, value)])),
      backend.live
        ? element(
            "p",
            { class: "naming" },
            nameField(this.page, { label: "Name of this picture", placeholder: "Name this picture…", save: (typed) => this.named(typed) }),
            told ? button("Take name away", () => unname(this.page, [i]).then(() => (this.fill(i), this.listen()))) : null,
          )
        : "",
      collection.hasNeighbours ? element("h3", {}, "Most alike") : "",
      near,
    );
    if (collection.hasNeighbours) this.neighbours(i, near);
  }

  async neighbours(i, near) {
    const { collection, backend } = this.page;
    const found = await backend.neighbours(i).catch(() => []);
    await collection.ready(found.slice(0, 12).map(({ picture }) => picture));
    if (this.picture !== i) return;
    for (const { picture, similarity } of found.slice(0, 12)) {
      const text = `${collection.describe(picture)}, ${Math.round(100 * similarity)}% alike`;
      near.append(
        element(
          "span",
          { role: "listitem" },
          element(
            "button",
            { type: "button", "aria-label": text, title: text, onclick: () => this.page.open(picture, this.page.list) },
            thumbnail(this.page, picture),
            element("span", { class: "caption", "aria-hidden": "true" }, `${Math.round(100 * similarity)}%`),
          ),
        ),
      );
    }
  }

  async named(name) {
    const i = this.picture;
    await namePictures(this.page, [i], name);
    this.fill(i);
    this.listen();
  }

  step(by) {
    const { list } = this.page;
    const at = list.indexOf(this.picture);
    const next = at < 0 ? list[0] : list[at + by];
    if (next !== undefined) this.page.open(next, list);
  }

  key(event) {
    if (event.target.tagName === "INPUT") return;
    if (event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "ArrowRight") this.step(1);
    else if (event.key === "+" || event.key === "=") select(this.stage).call(this.zoom.scaleBy, 1.5);
    else if (event.key === "-") select(this.stage).call(this.zoom.scaleBy, 1 / 1.5);
    else if (event.key === "0") select(this.stage).call(this.zoom.transform, zoomIdentity);
    else if (event.key === "n") this.side.querySelector("input.name")?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
