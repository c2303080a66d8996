// Duplicates, odd ones, unread files, and what a search found.
import { button, element, number, plural, size } from "./dom.js";
import { Grid, thumbnail } from "./grid.js";
import { apart, refuse } from "./naming.js";
import { Rows } from "./rows.js";

// A picture to look at more closely, by a click.
function opener(page, i, list, caption) {
  const text = page.collection.describe(i) + (caption ? `, ${caption}` : "");
  return element(
    "button",
    { type: "button", class: "opener", "aria-label": text, title: text, onclick: () => page.open(i, list) },
    thumbnail(page, i),
    caption ? element("span", { class: "caption" }, caption) : null,
  );
}

// Buttons of which one is pressed; choose(key) is called with another.
function choices(label, current, all, choose) {
  return element(
    "div",
    { class: "choices", role: "group", "aria-label": label },
    all.map(([key, text]) => button(text, () => choose(key), { "aria-pressed": String(key === current) })),
  );
}

// Arrow keys and j, k from row to row; each row has a first thing to focus.
function listKeys(rows, counted) {
  let active = -1;
  return (event) => {
    const by = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    const count = counted();
    if (!by || !count) return false;
    active = Math.max(0, Math.min(count - 1, active + by));
    rows.show(active).querySelector("button, a")?.focus({ preventScroll: true });
    return true;
  };
}

const ALIKE = "alike"; // the band that is asked for by a threshold, not known from the start

export function duplicatesView(page, main) {
  const { collection } = page;
  const state = (page.memory.duplicates ??= { band: "all", threshold: 0.95, top: 0 });
  const bands = [...new Set(collection.duplicates.map((set) => set.band))];
  if (page.backend.live && collection.hasNeighbours) bands.push(ALIKE);
  let shown = collection.duplicates.filter((set) => state.band === "all" || set.band === state.band);
  const filters = [["all", "All"], ...bands.map((band) => [band, band[0].toUpperCase() + band.slice(1)])];
  const title = element("h1", {}, `${plural(shown.length, "set")} of duplicates`);
  const taken = element("span", { class: "quiet", role: "status" });
  const least = element("output", {}, state.threshold.toFixed(2));
  const threshold = element("input", {
    type: "range", min: "0.7", max: "0.99", step: "0.01", value: String(state.threshold), "aria-label": "Least similarity",
    oninput: () => {
      state.threshold = Number(threshold.value);
      least.textContent = state.threshold.toFixed(2);
      clearTimeout(asking);
      asking = setTimeout(ask, 150);
    },
  });
  main.append(
    element(
      "div",
      { class: "bar" },
      title,
      choices("How alike", state.band, filters, (band) => {
        state.band = band;
        state.top = 0;
        page.redraw(true);
      }),
      state.band === ALIKE ? element("label", { class: "threshold" }, "At least", threshold, least) : null,
      taken,
      element("span", { class: "quiet" }, "Nothing is deleted here."),
    ),
  );
  const list = element("div", { role: "list", "aria-label": "Sets of duplicates" });
  const empty = element("p", { class: "empty", hidden: true });
  main.append(list, empty);
  const narrow = matchMedia("(max-width: 640px)").matches;
  const rows = new Rows(main, list, {
    count: shown.length, height: narrow ? 300 : 272, draw, ready: (at) => collection.ready(shown[at].pictures),
  });
  let asking;
  let asked = 0;
  if (state.band === ALIKE) ask();
  else {
    empty.textContent = "No duplicates are known here. Copies that were turned, cropped or saved again are looked for by: zoo duplicates FOLDER";
    empty.hidden = Boolean(shown.length);
    main.scrollTop = state.top;
    rows.update();
  }

  // What the threshold takes; of answers that cross, the last counts.
  async function ask() {
    const mine = ++asked;
    try {
      const { sets, count, extra } = await page.backend.alike(state.threshold);
      if (mine !== asked) return;
      shown = sets.map(([band, pictures, keep, why]) => ({ band, pictures, keep, why }));
      title.textContent = `${plural(count, "set")} of alike pictures`;
      taken.textContent = `${plural(extra, "picture")} besides those to keep`;
      if (count > shown.length) taken.textContent += `; the first ${number(shown.length)} sets are shown`;
      empty.textContent = "No pictures are as similar as that, besides known duplicates.";
      empty.hidden = Boolean(count);
      rows.resize(shown.length);
      main.scrollTop = state.top;
    } catch (error) {
      if (mine === asked) refuse(error);
    }
  }

  function draw(at) {
    const set = shown[at];
    const copies = set.pictures.map((i) => {
      const facts = `${number(collection.widths[i])} × ${number(collection.heights[i])}, ${size(collection.bytes[i])}`;
      return element(
        "figure",
        { class: i === set.keep ? "copy keep" : "copy" },
        opener(page, i, set.pictures),
        element("figcaption", {}, element("span", { class: "file tail", title: collection.paths[i] }, element("bdi", {}, collection.tail(i))), element("span", { class: "quiet" }, facts)),
        i === set.keep ? element("span", { class: "badge" }, "keep") : null,
      );
    });
    return element(
      "div",
      { role: "listitem", class: "set", "aria-setsize": shown.length, "aria-posinset": at + 1 },
      element(
        "div",
        { class: "head" },
        element("span", { class: "chip" }, set.band),
        element("span", { class: "quiet why" }, set.why ? `Keep ${collection.file(set.keep)}: ${set.why}` : ""),
        page.backend.live
          ? element(
              "span",
              { class: "end" },
              button(set.pictures.length > 2 ? "Keep all" : "Keep both", () => apart(page, set, "keep_both")),
              button("Not duplicates", () => apart(page, set, "not_duplicate")),
            )
          : null,
      ),
      element("div", { class: "copies" }, copies),
    );
  }

  return {
    help: "↑ ↓ move · Tab to the buttons · Enter opens",
    key: listKeys(rows, () => shown.length),
    stop() {
      asked++;
      clearTimeout(asking);
      state.top = main.scrollTop;
      rows.stop();
    },
  };
}

export function oddView(page, main) {
  const { collection } = page;
  const state = (page.memory.odd ??= { kind: "strangest", top: 0 });
  const kinds = [...collection.byKind.keys()].sort();
  let shown;
  if (state.kind === "strangest") {
    shown = collection.strangest();
  } else shown = collection.byKind.get(state.kind) ?? [];
  main.append(
    element(
      "div",
      { class: "bar" },
      element("h1", {}, "Odd ones"),
      choices("Kind", state.kind, [["strangest", "Strangest"], ...kinds.map((kind) => [kind, kind[0].toUpperCase() + kind.slice(1)])], (kind) => {
        state.kind = kind;
        state.top = 0;
        page.redraw(true);
      }),
      element("span", { class: "quiet" }, state.kind === "strangest" ? "Beside each, what it is most alike." : counted()),
    ),
  );
  const list = element("div", { role: "list", "aria-label": "Odd ones" });
  main.append(list);
  if (!shown.length) main.append(element("p", { class: "empty" }, "No odd ones are known here. Type: zoo odd FOLDER"));
  const rows = new Rows(main, list, { count: shown.length, height: 148, draw, ready: (at) => collection.ready([shown[at]]) });
  main.scrollTop = state.top;
  rows.update();

  function counted() {
    const count = collection.countOf(state.kind);
    return plural(count, "picture") + (count > shown.length ? `; the worst ${number(shown.length)} are shown` : "");
  }

  function draw(at) {
    const i = shown[at];
    const near = element("div", { class: "reasons", "aria-label": "Most alike" });
    const faults = (collection.faults.get(i) ?? []).map(({ kind, value }) => `${kind} (${Number(value.toPrecision(3))})`);
    if (collection.hasNeighbours) {
      page.backend.neighbours(i).then(async (found) => {
        await collection.ready(found.slice(0, 6).map(({ picture }) => picture));
        near.append(...found.slice(0, 6).map(({ picture, similarity }) => opener(page, picture, [picture], `${Math.round(100 * similarity)}%`)));
      }, () => {});
    }
    return element(
      "div",
      { role: "listitem", class: "oddity", "aria-setsize": shown.length, "aria-posinset": at + 1 },
      opener(page, i, shown),
      element(
        "div",
        { class: "facts" },
        element("span", { class: "file", title: collection.paths[i] }, collection.file(i)),
        collection.odd ? element("span", { class: "quiet" }, `oddness ${collection.odd[i].toFixed(3)}`) : null,
        faults.map((text) => element("span", { class: "chip" }, text)),
      ),
      near,
    );
  }

  return {
    help: "↑ ↓ move · Enter opens",
    key: listKeys(rows, () => shown.length),
    stop() {
      state.top = main.scrollTop;
      rows.stop();
    },
  };
}

export function unreadView(page, main) {
  const { unread } = page.collection;
  main.append(element("div", { class: "bar" }, element("h1", {}, plural(unread.length, "unread file"))));
  const list = element("div", { role: "list", "aria-label": "Unread files" });
  main.append(list);
  if (!unread.length) main.append(element("p", { class: "empty" }, "Every file was read."));
  const rows = new Rows(main, list, {
    count: unread.length,
    height: 58,
    draw: (at) =>
      element(
        "div",
        { role: "listitem", class: "unread", "aria-setsize": unread.length, "aria-posinset": at + 1 },
        element("span", { class: "file", title: unread[at][0] }, unread[at][0]),
        element("span", { class: "quiet", title: unread[at][1] }, unread[at][1]),
      ),
  });
  return { help: "", key: () => false, stop: () => rows.stop() };
}

export function foundView(page, main) {
  const { found } = page;
  if (!found) {
    main.append(element("p", { class: "empty" }, "Type into the field above to search."));
    return { help: "", key: () => false, stop() {} };
  }
  main.append(
    element(
      "div",
      { class: "bar" },
      element("h1", {}, found.title),
      element("span", { class: "quiet" }, found.note ?? plural(found.pictures.length, "picture")),
    ),
  );
  if (!found.pictures.length) {
    main.append(element("p", { class: "empty" }, "No picture was found."));
    return { help: "", key: () => false, stop() {} };
  }
  const into = element("div");
  main.append(into);
  const caption = found.similarities ? (i, at) => `${Math.round(100 * found.similarities[at])}%` : undefined;
  const grid = new Grid(page, main, into, { numbers: found.pictures, label: found.title, caption });
  return {
    help: "arrows move · Enter opens",
    key: (event) => grid.enter(event),
    focus: (i) => grid.focus(i),
    stop: () => grid.stop(),
  };
}
