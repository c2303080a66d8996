// What a person decides, and how it is taken back.
import { button, element, plural, tell } from "./dom.js";

// A field for a name, which Enter keeps. save(name) gets what was typed.
export function nameField(page, { value = "", label, key, placeholder = "Name…", save }) {
  const input = element("input", {
    class: "name", type: "text", value, placeholder, maxlength: "100", "aria-label": label,
    list: "names", "data-key": key, autocomplete: "off", spellcheck: "false",
  });
  input.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter" && input.value.trim()) {
      save(input.value.trim());
    } else if (event.key === "Escape") {
      input.value = value;
      input.blur();
      event.preventDefault();
    }
  });
  return input;
}

// The decisions that give pictures the names back that a person had given them or their groups;
// null of so many that the page cannot have what is known of all at once.
async function asBefore(page, pictures) {
  const { collection } = page;
  if (!collection.holds(pictures)) return null;
  await collection.ready(pictures);
  const decisions = [{ kind: "unname", pictures }];
  for (const column of ["member", "given"]) {
    const named = new Map();
    for (const i of pictures) {
      const name = collection[column][i];
      if (name < 0) continue;
      if (!named.has(name)) named.set(name, []);
      named.get(name).push(i);
    }
    for (const [name, numbers] of named) {
      const group = column === "member" ? Math.max(0, collection.label(numbers[0])) : null;
      decisions.push({ kind: "name", pictures: numbers, value: collection.names[name], group });
    }
  }
  return decisions;
}

export async function nameGroup(page, group, name) {
  const pictures = await page.collection.pictures(group);
  const decision = { kind: "name", pictures, value: name, group: Math.max(0, group.label) };
  return named(page, pictures, `“${name}”`, decision);
}

export function namePictures(page, pictures, name) {
  return named(page, pictures, `“${name}”`, { kind: "name", pictures, value: name });
}

export function unname(page, pictures) {
  return named(page, pictures, "No name", { kind: "unname", pictures });
}

async function named(page, pictures, what, decision) {
  const back = await asBefore(page, pictures);
  const said = `${what}: ${plural(pictures.length, "picture")}.`;
  return page.decide([decision], back ? said : `${said} They are too many to take it back here.`, back);
}

export async function merge(page, groups) {
  const sorted = [...groups].sort((a, b) => b.size - a.size);
  const members = await Promise.all(sorted.map((group) => page.collection.pictures(group)));
  const pictures = members.flat();
  const back = sorted.slice(1).map((group, at) => ({ kind: "split", pictures: members[at + 1], value: group.label }));
  const decision = { kind: "merge", pictures, value: sorted[0].label };
  return page.decide([decision], `${plural(groups.length, "group")} are one now.`, back);
}

export function split(page, group, pictures) {
  const back = group.label < 0 ? null : [{ kind: "merge", pictures: group.pictures, value: group.label }];
  const decision = { kind: "split", pictures };
  return page.decide([decision], `${plural(pictures.length, "picture")} are a group of their own.`, back);
}

export function apart(page, set, kind) {
  const back = [{ kind, pictures: set.pictures, value: false }];
  const said = kind === "keep_both" ? "They all stay." : "They are no duplicates.";
  return page.decide([{ kind, pictures: set.pictures }], said, back);
}

// Asks for a name in a small dialog; null if nothing was typed.
export function askName(page, title) {
  return new Promise((resolve) => {
    let name = null;
    const finish = (typed) => {
      name = typed;
      dialog.close();
    };
    const input = nameField(page, { label: title, save: finish });
    const dialog = element(
      "dialog",
      { class: "small", "aria-label": title },
      element("h2", {}, title),
      input,
      element(
        "div",
        { class: "actions" },
        button("Cancel", () => dialog.close()),
        button("Name", () => (input.value.trim() ? finish(input.value.trim()) : input.focus()), { class: "main" }),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(name);
    });
    document.body.append(dialog);
    dialog.showModal();
    input.focus();
  });
}

export function refuse(error) {
  tell(error.message, null, true);
}
