// The page: which view is shown, the search, the keys that hold everywhere.
import { Files, Server } from "./backend.js";
import { Collection } from "./data.js";
import { button, element, number, plural, tell } from "./dom.js";
import { groupsView, groupView } from "./groups.js";
import { duplicatesView, foundView, oddView, unreadView } from "./lists.js";
import { mapView } from "./map.js";
import { refuse } from "./naming.js";
import { PictureDialog } from "./picture.js";
import { Tiled } from "./tiled.js";

const VIEWS = { groups: groupsView, group: groupView, map: mapView, duplicates: duplicatesView, odd: oddView, unread: unreadView, found: foundView };
const THEMES = ["auto", "light", "dark"];

class Page {
  constructor(collection, backend) {
    Object.assign(this, { collection, backend, memory: {}, list: [], found: null, view: null });
    this.firstLayer = collection.layer;
    this.main = document.getElementById("view");
    this.dialog = new PictureDialog(this);
    this.header();
    this.names();
    window.addEventListener("hashchange", () => this.show());
    document.addEventListener("keydown", (event) => this.key(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    if (backend.can.pictures) this.dropping();
    this.show();
  }

  // Merges and splits are of the layer that the collection is grouped by.
  editable() {
    return this.collection.layer === this.firstLayer && this.collection.layers.length > 0;
  }

  header() {
    const { collection, backend } = this;
    document.title = `${collection.title} · ${plural(collection.size, "picture")}`;
    document.getElementById("title").textContent = collection.title;
    document.getElementById("count").textContent = plural(collection.size, "picture");
    this.search = document.getElementById("search");
    this.search.placeholder = backend.can.words ? "Search words, names, files" : "Search names, files";
    document.getElementById("searching").addEventListener("submit", (event) => {
      event.preventDefault();
      this.find(this.search.value.trim());
    });
    const layers = document.getElementById("layers");
    layers.hidden = collection.layers.length < 2;
    layers.append(...collection.layers.map((layer, i) => element("option", { value: String(i) }, layer.name)));
    layers.value = String(collection.layer);
    layers.addEventListener("change", () => {
      collection.layer = Number(layers.value);
      collection.regroup();
      this.memory = {};
      if (location.hash.startsWith("#/group/")) this.go("#/groups");
      else this.redraw();
    });
    const theme = document.getElementById("theme");
    theme.addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(themeNow()) + 1) % 3]));
    document.getElementById("table").addEventListener("click", () => this.save());
    document.getElementById("keys").addEventListener("click", () => this.help());
    this.tabs();
  }

  tabs() {
    const { collection } = this;
    const counts = {
      groups: collection.groups.filter((group) => group.label >= 0).length,
      ...collection.counts,
    };
    for (const [view, count] of Object.entries(counts)) {
      document.querySelector(`nav a[href="#/${view}"] .count`).textContent = number(count);
    }
  }

  names() {
    const list = document.getElementById("names");
    list.replaceChildren(...this.collection.names.map((name) => element("option", { value: name })));
  }

  // To another address. What it shows is there when this returns: the browser tells of a new address
  // later, and a key that is pressed before would go to the old view.
  go(where) {
    location.hash = where;
    this.show();
  }

  // The address is #/view/argument!picture.
  show() {
    const [where, picture] = location.hash.slice(2).split("!");
    const [view, argument] = where.split("/");
    const shown = VIEWS[view] ? where : "groups";
    if (this.shown !== shown || this.stale) this.draw(shown, VIEWS[view] ? view : "groups", argument);
    const i = Number(picture);
    if (picture && Number.isInteger(i) && i >= 0 && i < this.collection.size) {
      if (!this.dialog.dialog.open || this.dialog.picture !== i) this.dialog.show(i);
    } else if (this.dialog.dialog.open) this.dialog.dialog.close();
    else this.dialog.picture = undefined; // nor is one waited for
  }

  // Draw the view anew, for what it shows has changed;
  // who types into a field, or is in a place by keyboard, stays there.
  redraw(fromTop = false) {
    const before = document.activeElement;
    const nameOf = (e) => e.dataset.key ?? e.getAttribute("aria-label") ?? e.textContent;
    const name = this.main.contains(before) && nameOf(before);
    const { scrollTop } = this.main;
    this.stale = true;
    this.show();
    this.main.scrollTop = fromTop ? 0 : scrollTop;
    if (!name) return;
    const same = [...this.main.querySelectorAll(before.tagName)].find((e) => nameOf(e) === name);
    if (same && before.tagName === "INPUT" && before.type === "text") same.value = before.value;
    same?.focus({ preventScroll: true });
  }

  draw(shown, view, argument) {
    this.view?.stop();
    this.main.replaceChildren();
    this.main.className = "";
    this.main.scrollTop = 0;
    this.shown = shown;
    this.stale = false;
    for (const link of document.querySelectorAll("nav a")) {
      const current = link.getAttribute("href") === `#/${view === "group" ? "groups" : view}`;
      if (current) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    const waiting = this.collection.lacking(view, argument);
    this.view = waiting ? this.waited(waiting) : VIEWS[view](this, this.main, argument);
  }

  // A view that is shown as soon as what it lacks is here.
  waited(waiting) {
    const text = element("p", { class: "empty" }, "Reading…");
    const view = { help: "", key: () => false, stop() {} };
    this.main.append(text);
    waiting.then(
      () => {
        if (this.view !== view) return;
        this.stale = true;
        this.show();
      },
      (error) => (text.textContent = error.message),
    );
    return view;
  }

  open(i, list) {
    this.list = list;
    this.before ??= document.activeElement;
    this.go(`#/${this.shown}!${i}`);
  }

  closed() {
    const { picture } = this.dialog;
    if (location.hash.includes("!")) history.replaceState(null, "", `#/${this.shown}`);
    if (this.stale) this.show();
    if (this.view.focus?.(picture)) this.before = null;
    if (this.before?.isConnected) this.before.focus({ preventScroll: true });
    this.before = null;
  }

  // Has decisions written down; then the page shows what follows from them.
  async decide(decisions, said, back) {
    document.body.setAttribute("aria-busy", "true");
    try {
      const changed = await this.backend.decide(decisions);
      await this.take(changed);
      if (!changed.settled) this.settle();
    } catch (error) {
      refuse(error);
      return;
    } finally {
      document.body.removeAttribute("aria-busy");
    }
    this.tabs();
    this.names();
    if (this.dialog.dialog.open) this.stale = true;
    else this.redraw();
    tell(said, back && (() => this.decide(back, "Taken back.", null)));
  }

  // Take over what has changed, and have what the view lacks of it.
  async take(changed) {
    await this.collection.change(changed);
    await this.collection.lacking(...this.shown.split("/"));
  }

  // Names spread to what is like the named, which takes a while where there are many pictures.
  async settle() {
    if (this.settling) return;
    this.settling = true;
    try {
      let changed;
      do {
        changed = await this.backend.changed();
      } while (!changed.settled);
      await this.take(changed);
      this.tabs();
      this.names();
      if (this.dialog.dialog.open) this.stale = true;
      else this.redraw();
    } catch (error) {
      refuse(error);
    } finally {
      this.settling = false;
    }
  }

  async find(text) {
    if (!text) return;
    const pictures = await this.collection.matching(text);
    this.found = { title: `“${text}”`, pictures, note: `${plural(pictures.length, "picture")} by name or path` };
    if (this.backend.can.words) {
      try {
        const found = await this.backend.findWords(text);
        const known = new Set(pictures);
        const more = found.filter(([i]) => !known.has(i));
        this.found.note = `${plural(pictures.length, "picture")} by name or path, then those that show it`;
        this.found.pictures = [...pictures, ...more.map(([i]) => i)];
      } catch (error) {
        refuse(error);
      }
    }
    this.showFound();
  }

  showFound() {
    this.stale = true;
    this.go("#/found");
  }

  async findLike(file) {
    try {
      const found = await this.backend.findPicture(file);
      this.found = {
        title: `Most alike to ${file.name}`,
        pictures: found.map(([i]) => i),
        similarities: found.map(([, similarity]) => similarity),
      };
      this.showFound();
    } catch (error) {
      refuse(error);
    }
  }

  // A picture that is dropped anywhere, pasted or chosen is searched for.
  dropping() {
    const chooser = document.getElementById("chooser");
    const choose = document.getElementById("choose");
    choose.hidden = false;
    choose.addEventListener("click", () => chooser.click());
    chooser.addEventListener("change", () => chooser.files.length && this.findLike(chooser.files[0]));
    const over = (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      document.body.classList.toggle("dropping", event.type === "dragover");
    };
    document.addEventListener("dragover", over);
    document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
    document.addEventListener("drop", (event) => {
      over(event);
      if (event.dataTransfer.files.length) this.findLike(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => {
      const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
      if (file) this.findLike(file);
    });
  }

  async save() {
    const url = URL.createObjectURL(new Blob(await this.collection.table(), { type: "text/csv" }));
    element("a", { href: url, download: `${this.collection.title}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    tell("The table has a row for every picture.");
  }

  help() {
    const dialog = element(
      "dialog",
      { class: "small", "aria-label": "Keys" },
      element("h2", {}, "Keys"),
      element("p", {}, "1 groups · 2 map · 3 duplicates · 4 odd ones · 5 unread · / search · ? this help"),
      this.view.help ? element("p", {}, `Here: ${this.view.help}`) : "",
      element("p", {}, "In a picture: ← → others · + - 0 zoom · n names · Escape closes"),
      element("div", { class: "actions" }, button("Close", () => dialog.close(), { class: "main" })),
    );
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }

  key(event) {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox") return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const views = ["groups", "map", "duplicates", "odd", "unread"];
    if (/^[1-5]$/.test(event.key)) this.go(`#/${views[event.key - 1]}`);
    else if (event.key === "/") this.search.focus();
    else if (event.key === "?") this.help();
    else if (!this.view.key(event)) return;
    event.preventDefault();
  }
}

function themeNow() {
  return document.documentElement.dataset.theme ?? "auto";
}

function setTheme(theme, page = window.zooPage) {
  document.documentElement.dataset.theme = theme;
  const text = { auto: "◐", light: "☀", dark: "☾" }[theme];
  const switcher = document.getElementById("theme");
  switcher.textContent = text;
  switcher.setAttribute("aria-label", `Colours: ${theme}`);
  switcher.title = `Colours: ${theme}`;
  try {
    localStorage.setItem("zoo-theme", theme);
  } catch {
    // a browser that keeps nothing for pages from a disk
  }
  if (page) page.redraw();
}

async function start() {
  let theme = "auto";
  try {
    theme = localStorage.getItem("zoo-theme") ?? "auto";
  } catch {
    // as above
  }
  setTheme(THEMES.includes(theme) ? theme : "auto", null);
  const inside = document.getElementById("collection");
  let backend, plain;
  if (inside) {
    backend = new Files();
    plain = JSON.parse(inside.textContent);
  } else {
    backend = new Server({});
    plain = await backend.ask("collection");
    backend.can = plain.can;
  }
  window.zooPage = new Page(plain.paths ? new Collection(plain) : new Tiled(plain, backend), backend);
  document.body.classList.add("ready");
}

start().catch((error) => {
  document.getElementById("view").append(element("p", { class: "empty" }, error.message));
});
