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

// The decisions that give pictures the names back that a person had given them or their groups.
function asBefore(page, pictures) {
  const { collection } = page;
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

export function nameGroup(page, group, name) {
  const back = asBefore(page, group.pictures);
  const decision = { kind: "name", pictures: group.pictures, value: name, group: Math.max(0, group.label) };
  return page.decide([decision], `“${name}”: ${plural(group.pictures.length, "picture")}.`, back);
}

export function namePictures(page, pictures, name) {
  const back = asBefore(page, pictures);
  const said = `“${name}”: ${plural(pictures.length, "picture")}.`;
  return page.decide([{ kind: "name", pictures, value: name }], said, back);
}

export function unname(page, pictures) {
  const back = asBefore(page, pictures);
  return page.decide([{ kind: "unname", pictures }], `No name: ${plural(pictures.length, "picture")}.`, back);
}

export function merge(page, groups) {
  const sorted = [...groups].sort((a, b) => b.pictures.length - a.pictures.length);
  const pictures = sorted.flatMap((group) => group.pictures);
  const back = sorted.slice(1).map((group) => ({ kind: "split", pictures: group.pictures, value: group.label }));
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
