// All pictures as points, near one another where they are alike.
import { quadtree } from "d3-quadtree";
import { select } from "d3-selection";
import { zoom, zoomIdentity } from "d3-zoom";
import { announce, element, isDark, plural } from "./dom.js";
import { thumbnail } from "./grid.js";

const NEAR = 14; // pixels between the pointer and a point that is meant
const THUMBNAILS = 90; // drawn instead of points when no more are seen
const GREY = [140, 140, 140];

// Colours that differ for the numbers 0, 1, 2, ...: steps of the golden angle.
export function colour(label, dark) {
  if (label < 0) return GREY;
  const hue = (label * 137.508) % 360;
  const [s, l] = dark ? [0.62, 0.64 - 0.12 * (label % 2)] : [0.68, 0.42 + 0.12 * (label % 2)];
  const channel = (n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (l - s * Math.min(l, 1 - l) * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

export function mapView(page, main) {
  const { collection } = page;
  if (!collection.places) {
    main.append(element("p", { class: "empty" }, "There is no map: it takes at least 10 pictures, and umap-learn (pip install umap-learn)."));
    return { help: "", key: () => false, stop() {} };
  }
  const state = (page.memory.map ??= { transform: zoomIdentity, by: "group" });
  const dark = isDark();
  const canvas = element("canvas", {
    class: "map", tabindex: "0", role: "img",
    "aria-label": `Map of ${plural(collection.size, "picture")}: those that are alike lie together. The groups are the same in lists.`,
  });
  const hint = element("div", { class: "hint", hidden: true });
  const by = element(
    "select",
    { "aria-label": "Colours by", onchange: () => ((state.by = by.value), coloured.clear(), draw()) },
    ["group", "name"].map((kind) => element("option", { value: kind }, `Colours by ${kind}`)),
  );
  by.value = state.by;
  main.classList.add("whole");
  main.append(element("h1", { class: "unseen" }, "Map"), canvas, element("div", { class: "over" }, by), hint);

  const context = canvas.getContext("2d");
  const images = new Map();
  const pixel = window.devicePixelRatio || 1;
  let [width, height] = [0, 0];

  // The colours of points that are drawn together, and what finds the nearest of them.
  const coloured = new Map();
  const trees = new Map();

  function coloursOf(points) {
    if (!coloured.has(points)) coloured.set(points, colouring(points));
    return coloured.get(points);
  }

  function colouring({ numbers, labels: labelled }) {
    const labels = labelled(state.by);
    const colours = new Uint32Array(numbers.length);
    const known = new Map();
    for (let i = 0; i < numbers.length; i++) {
      const label = labels ? labels[i] : -1;
      if (!known.has(label)) {
        const [r, g, b] = colour(label, dark);
        known.set(label, (255 << 24) | (b << 16) | (g << 8) | r);
      }
      colours[i] = known.get(label);
    }
    return colours;
  }

  function treeOf(points) {
    if (!trees.has(points)) {
      const { numbers, places } = points;
      trees.set(points, quadtree(numbers.keys(), (i) => places[2 * i], (i) => places[2 * i + 1]));
    }
    return trees.get(points);
  }

  function points() {
    const found = collection.points([...placeAt(0, 0), ...placeAt(width, height)], side() * state.transform.k, later);
    for (const kept of [coloured, trees]) {
      for (const each of kept.keys()) if (!found.includes(each)) kept.delete(each);
    }
    return found;
  }

  // A square in the middle of the canvas holds the whole map, at first.
  const side = () => Math.min(width, height) * 0.92;
  const across = (x) => state.transform.applyX((width - side()) / 2 + x * side());
  const down = (y) => state.transform.applyY((height - side()) / 2 + y * side());
  const placeAt = (x, y) => {
    const [a, b] = state.transform.invert([x, y]);
    return [(a - (width - side()) / 2) / side(), (b - (height - side()) / 2) / side()];
  };

  function draw() {
    if (!width) return;
    const shown = [];
    const w = canvas.width;
    const h = canvas.height;
    const data = context.createImageData(w, h);
    const pixels = new Uint32Array(data.data.buffer);
    const half = Math.round(pixel * Math.min(4, 1.2 + state.transform.k / 3 + 50 / Math.sqrt(collection.size)));
    for (const each of points()) {
      const { numbers, places } = each;
      const colours = coloursOf(each);
      for (let i = 0; i < numbers.length; i++) {
        const x = across(places[2 * i]);
        const y = down(places[2 * i + 1]);
        if (x < 0 || y < 0 || x >= width || y >= height) continue;
        if (shown.length <= THUMBNAILS) shown.push([numbers[i], x, y]);
        const [cx, cy] = [Math.round(x * pixel), Math.round(y * pixel)];
        for (let b = Math.max(0, cy - half); b < Math.min(h, cy + half); b++) {
          for (let a = Math.max(0, cx - half); a < Math.min(w, cx + half); a++) pixels[b * w + a] = colours[i];
        }
      }
    }
    context.putImageData(data, 0, 0);
    context.setTransform(pixel, 0, 0, pixel, 0, 0);
    if (shown.length <= THUMBNAILS) for (const each of shown) picture(...each);
    titles();
    if (document.activeElement === canvas) crosshair();
  }

  function picture(i, x, y) {
    let image = images.get(i);
    if (!image) {
      if (images.size > 500) images.clear();
      image = new Image();
      images.set(i, image);
      image.onload = () => later();
      page.backend.thumbnail(i).then((url) => url && (image.src = url), () => {});
    }
    if (!image.complete || !image.naturalWidth) return;
    const scale = 64 / Math.max(image.naturalWidth, image.naturalHeight);
    const [w, h] = [image.naturalWidth * scale, image.naturalHeight * scale];
    context.drawImage(image, x - w / 2, y - h / 2, w, h);
  }

  // What the largest groups are called, where their middles are and as far as there is room.
  function titles() {
    const taken = [];
    context.font = "600 13px system-ui, sans-serif";
    context.textAlign = "center";
    context.lineWidth = 4;
    context.lineJoin = "round";
    context.strokeStyle = dark ? "#14171c" : "#ffffff";
    context.fillStyle = dark ? "#f2f4f7" : "#14171c";
    for (const { text, x, y } of middles()) {
      const [a, b] = [across(x), down(y)];
      const half = context.measureText(text).width / 2 + 6;
      const box = [a - half, b - 12, a + half, b + 12];
      if (box[0] < 0 || box[1] < 0 || box[2] > width || box[3] > height) continue;
      if (taken.some((o) => box[0] < o[2] && o[0] < box[2] && box[1] < o[3] && o[1] < box[3])) continue;
      taken.push(box);
      context.strokeText(text, a, b);
      context.fillText(text, a, b);
    }
  }

  let known;
  function middles() {
    known ??= collection.groups.filter((group) => group.label >= 0).slice(0, 300).map((group) => {
      const middle = (axis) => {
        if (group.middle) return group.middle[axis];
        const values = group.pictures.map((i) => collection.places[2 * i + axis]).sort((p, q) => p - q);
        return values[values.length >> 1];
      };
      const title = collection.title_of(group);
      return { text: title.length > 28 ? `${title.slice(0, 27)}…` : title, x: middle(0), y: middle(1) };
    });
    return known;
  }

  function crosshair() {
    context.strokeStyle = dark ? "#fff" : "#000";
    context.lineWidth = 1;
    context.strokeRect(width / 2 - NEAR, height / 2 - NEAR, 2 * NEAR, 2 * NEAR);
  }

  let asked;
  function later() {
    asked ??= requestAnimationFrame(() => ((asked = undefined), draw()));
  }

  function nearest(x, y) {
    const [a, b] = placeAt(x, y);
    let [found, least] = [undefined, NEAR / state.transform.k / side()];
    for (const each of points()) {
      const i = treeOf(each).find(a, b, least);
      if (i === undefined) continue;
      found = each.numbers[i];
      least = Math.hypot(each.places[2 * i] - a, each.places[2 * i + 1] - b);
    }
    return found;
  }

  const open = (i) => page.open(i, Array.from({ length: collection.size }, (_, each) => each));

  function point(event) {
    const i = nearest(event.offsetX, event.offsetY);
    hint.hidden = i === undefined;
    canvas.style.cursor = i === undefined ? "grab" : "pointer";
    if (i === undefined || hint.dataset.i === String(i)) return move(event);
    hint.dataset.i = i;
    const text = element("span");
    const describe = () => (text.textContent = collection.describe(i));
    const waiting = collection.ready([i]);
    if (waiting) waiting.then(describe, () => {});
    else describe();
    hint.replaceChildren(thumbnail(page, i), text);
    move(event);
  }

  function move(event) {
    hint.style.left = `${Math.min(event.offsetX + 16, width - 190)}px`;
    hint.style.top = `${Math.min(event.offsetY + 16, height - 210)}px`;
  }

  const zooming = zoom().scaleExtent([0.7, 400]).on("zoom", ({ transform }) => {
    state.transform = transform;
    later();
  });
  select(canvas).call(zooming).on("dblclick.zoom", null);
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerleave", () => (hint.hidden = true));
  canvas.addEventListener("click", (event) => {
    const i = nearest(event.offsetX, event.offsetY);
    if (i !== undefined) open(i);
  });
  canvas.addEventListener("focus", later);
  canvas.addEventListener("blur", later);
  const observer = new ResizeObserver(() => {
    [width, height] = [main.clientWidth, main.clientHeight];
    [canvas.width, canvas.height] = [Math.round(width * pixel), Math.round(height * pixel)];
    draw();
  });
  observer.observe(main);
  select(canvas).property("__zoom", state.transform);

  const steps = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] };
  return {
    help: "drag or arrows move · wheel, + and - zoom · 0 shows all · Enter opens the picture in the middle",
    key(event) {
      const map = select(canvas);
      if (steps[event.key]) {
        map.call(zooming.translateBy, ...steps[event.key].map((by) => by / state.transform.k));
      } else if (event.key === "+" || event.key === "=") map.call(zooming.scaleBy, 1.5);
      else if (event.key === "-") map.call(zooming.scaleBy, 1 / 1.5);
      else if (event.key === "0") map.call(zooming.transform, zoomIdentity);
      else if (event.key === "Enter" && document.activeElement === canvas) {
        const i = nearest(width / 2, height / 2);
        if (i === undefined) announce("no picture in the middle");
        else open(i);
      } else return false;
      return true;
    },
    stop() {
      observer.disconnect();
      main.classList.remove("whole");
    },
  };
}
