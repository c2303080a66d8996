// Elements, made of tags, properties and texts. What comes from files is only ever a text: nothing
// here, or anywhere on the page, reads HTML (the page's policy forbids it to the browser, too).

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "class") made.className = value;
    else if (key === "value" || key === "checked" || key === "disabled") made[key] = value;
    else if (key === "style") Object.assign(made.style, value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(3).filter((child) => child !== null && child !== undefined));
  return made;
}

export function button(text, onclick, properties = {}) {
  return element("button", { type: "button", onclick, ...properties }, text);
}

// Said to those who do not see what has changed.
export function announce(text) {
  document.getElementById("said").textContent = text;
}

let hiding;

// A message that goes away, with a way to take back what it tells of.
export function tell(text, undo = null, bad = false) {
  const toast = document.getElementById("toast");
  toast.replaceChildren(element("span", {}, text));
  if (undo) {
    toast.append(
      button("Undo", () => {
        toast.hidden = true;
        undo();
      }),
    );
  }
  toast.classList.toggle("bad", bad);
  toast.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (toast.hidden = true), bad ? 12000 : 7000);
  announce(text);
}

// Whether the page is dark now: as it was told, or else as the system is.
export function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
}

export const number = (value) => value.toLocaleString("en");

export const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(0)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}
