// All groups as rows of thumbnails, and one group as a grid.
import { announce, button, element, number, plural } from "./dom.js";
import { Grid, thumbnail } from "./grid.js";
import { askName, merge, nameField, nameGroup, namePictures, split, unname } from "./naming.js";
import { Rows } from "./rows.js";

const FILTERS = { all: "All", unnamed: "Not named yet", named: "Named" };

function share({ collection }) {
  return collection.size ? collection.named / collection.size : 0;
}

export function groupsView(page, main) {
  const { collection } = page;
  const state = (page.memory.groups ??= { filter: "all", active: 0, chosen: new Set(), top: 0 });
  const narrow = matchMedia("(max-width: 640px)").matches;
  const height = narrow ? 150 : 178;
  const shown = collection.groups.filter(
    (group) => state.filter === "all" || (state.filter === "named") === Boolean(group.name),
  );
  state.active = Math.min(state.active, Math.max(0, shown.length - 1));
  const editable = page.backend.live && page.editable();

  const status = element("span", { class: "quiet" });
  const merging = button("Merge", mergeChosen, { class: "main", title: "Make one group of the chosen (m)" });
  const bar = element(
    "div",
    { class: "bar" },
    element("h1", {}, plural(collection.groups.filter((group) => group.label >= 0).length, "group")),
    element(
      "div",
      { class: "choices", role: "group", "aria-label": "Which groups" },
      Object.entries(FILTERS).map(([key, text]) =>
        button(text, () => {
          state.filter = key;
          state.active = 0;
          page.redraw(true);
        }, { "aria-pressed": String(state.filter === key) }),
      ),
    ),
    status,
    editable ? merging : null,
  );
  const list = element("div", { role: "list", "aria-label": "Groups" });
  main.append(bar, list);
  if (!collection.layers.length) {
    main.append(element("p", { class: "empty" }, "These pictures have no groups yet. Type: zoo group FOLDER"));
  } else if (!shown.length) main.append(element("p", { class: "empty" }, "There is no such group."));
  const rows = new Rows(main, list, { count: shown.length, height, draw });
  main.scrollTop = state.top;
  rows.update();
  tellState();

  function draw(at) {
    const group = shown[at];
    const title = collection.title_of(group);
    const count = Math.ceil((main.clientWidth - 24) / (height - 62));
    const facts = narrow ? number(group.size) : `${plural(group.size, "picture")}, ${Math.round(group.sure)}% sure`;
    const head = element(
      "div",
      { class: "head" },
      editable && group.label >= 0
        ? element("input", {
            type: "checkbox", "aria-label": `Choose ${title}`, "data-key": `choose ${group.label}`, checked: state.chosen.has(group.label),
            onchange: () => choose(at),
          })
        : null,
      element(
        "a",
        { href: `#/group/${group.label}`, class: "title", "data-key": `title ${group.label}`, onfocus: () => (state.active = at) },
        title,
      ),
      element("span", { class: "quiet" }, facts),
      editable && group.label >= 0
        ? nameField(page, { label: `Name of ${title}`, key: `name ${group.label}`, save: (name) => named(at, name) })
        : null,
    );
    const strip = element(
      "a",
      { class: "strip", href: `#/group/${group.label}`, tabindex: "-1", "aria-hidden": "true" },
    );
    collection.first(group, count, (pictures) => strip.append(...pictures.map((i) => thumbnail(page, i))));
    return element(
      "div",
      { role: "listitem", class: "group", "aria-setsize": shown.length, "aria-posinset": at + 1 },
      head,
      strip,
    );
  }

  async function named(at, name) {
    const { label } = shown[at];
    const after = shown[at + 1]?.label;
    await nameGroup(page, shown[at], name);
    page.view.name?.(after ?? label);
  }

  function tellState() {
    const chosen = state.chosen.size;
    const percent = Math.floor(100 * share(page));
    status.textContent = chosen ? `${plural(chosen, "group")} chosen` : `${percent}% of pictures have a name`;
    merging.hidden = chosen < 2;
  }

  function choose(at) {
    const { label } = shown[at];
    if (label < 0) return;
    if (!state.chosen.delete(label)) state.chosen.add(label);
    const box = rows.at(at).querySelector("input[type=checkbox]");
    if (box) box.checked = state.chosen.has(label);
    tellState();
    announce(`${plural(state.chosen.size, "group")} chosen`);
  }

  function mergeChosen() {
    const groups = collection.groups.filter((group) => state.chosen.has(group.label));
    if (groups.length < 2) return;
    state.chosen.clear();
    merge(page, groups);
  }

  function go(at) {
    state.active = Math.max(0, Math.min(shown.length - 1, at));
    rows.show(state.active).querySelector("a.title")?.focus({ preventScroll: true });
  }

  return {
    help: "↑ ↓ move · Enter opens · n names · x chooses · m merges the chosen",
    key(event) {
      if (!shown.length) return false;
      const inside = main.contains(document.activeElement) && document.activeElement !== main;
      if (event.key === "ArrowDown" || event.key === "j") go(inside ? state.active + 1 : state.active);
      else if (event.key === "ArrowUp" || event.key === "k") go(state.active - 1);
      else if (event.key === "Home") go(0);
      else if (event.key === "End") go(shown.length - 1);
      else if (event.key === "n" && editable) rows.show(state.active).querySelector("input.name")?.focus();
      else if (event.key === "x" && editable) choose(state.active);
      else if (event.key === "m" && editable) mergeChosen();
      else return false;
      return true;
    },
    stop() {
      state.top = main.scrollTop;
      rows.stop();
    },
    // On to the name of the next group, so that one after the other can be named.
    name(label) {
      const at = shown.findIndex((group) => group.label === label);
      if (at < 0) return;
      state.active = at;
      const row = rows.show(at);
      (row.querySelector("input.name") ?? row.querySelector("a.title")).focus({ preventScroll: true });
    },
  };
}

export function groupView(page, main, label) {
  const { collection } = page;
  const group = collection.byLabel.get(Number(label));
  if (!group) {
    main.append(element("p", { class: "empty" }, "This group is no more. ", element("a", { href: "#/groups" }, "All groups")));
    return { help: "", key: () => false, stop() {} };
  }
  const editable = page.backend.live && page.editable();
  const title = collection.title_of(group);
  const status = element("span", { class: "quiet" });
  const actions = element("div", { class: "actions", hidden: true });
  const nameOfGroup = editable && group.label >= 0
    ? nameField(page, { label: "Name of this group", save: (name) => nameGroup(page, group, name) })
    : null;
  const place = collection.groups.indexOf(group);
  const step = (by) => {
    const other = collection.groups[place + by];
    if (other) page.go(`#/group/${other.label}`);
  };
  main.append(
    element(
      "div",
      { class: "bar" },
      element("a", { href: "#/groups", class: "back", "aria-label": "All groups" }, "‹"),
      element("h1", {}, title),
      status,
      nameOfGroup,
      actions,
      element(
        "span",
        { class: "end" },
        button("‹ Previous", () => step(-1), { disabled: place === 0 }),
        button("Next ›", () => step(1), { disabled: place === collection.groups.length - 1 }),
      ),
    ),
  );
  const into = element("div");
  main.append(into);
  const grid = new Grid(page, main, into, {
    numbers: group.pictures, label: title, selectable: editable, onselect: tellSelected,
  });
  actions.append(
    button("Split off", splitOff, { title: "Make a group of its own of the selected (s)", class: "main" }),
    button("Name…", nameSelected, { title: "Name the selected (n)" }),
    button("Take name away", () => unname(page, [...grid.selected]), { title: "The selected have no name any more" }),
    button("Clear", () => grid.clear(), { title: "Select nothing (Escape)" }),
  );
  tellSelected([]);

  function tellSelected(selected) {
    actions.hidden = !selected.length;
    if (nameOfGroup) nameOfGroup.hidden = Boolean(selected.length);
    status.textContent = selected.length
      ? `${number(selected.length)} of ${number(group.pictures.length)} selected`
      : `${plural(group.pictures.length, "picture")}, ${number(group.named)} named`;
  }

  function splitOff() {
    if (grid.selected.size) split(page, group, [...grid.selected]);
  }

  async function nameSelected() {
    const pictures = [...grid.selected];
    if (!pictures.length) return nameOfGroup?.focus();
    const name = await askName(page, `Name ${plural(pictures.length, "picture")}`);
    if (name) namePictures(page, pictures, name);
  }

  return {
    help: editable
      ? "arrows move · Enter opens · Space selects · Shift+arrows select · n names · s splits off · [ ] other groups"
      : "arrows move · Enter opens · [ ] other groups",
    key(event) {
      if (event.key === "n" && editable) nameSelected();
      else if (event.key === "s" && editable) splitOff();
      else if (event.key === "[") step(-1);
      else if (event.key === "]") step(1);
      else if (event.key === "Escape") page.go("#/groups");
      else return grid.enter(event);
      return true;
    },
    focus: (i) => grid.focus(i),
    stop: () => grid.stop(),
  };
}
