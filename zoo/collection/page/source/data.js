// The collection as the page knows it: columns with an entry a picture, known by its number.

function unpacked(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

// What all collections can say of a picture, whether all is here or only what was looked at.
export class Known {
  title_of(group) {
    if (group.label < 0) return "Few of a kind";
    return group.name || `Group ${group.label}`;
  }

  label(i) {
    return this.layers.length ? this.layers[this.layer].labels[i] : -1;
  }

  sureness(i) {
    return this.layers.length ? this.layers[this.layer].sureness[i] : 0;
  }

  nameAt(i) {
    return this.name[i] < 0 ? "" : this.names[this.name[i]];
  }

  file(i) {
    return this.paths[i].split(/[\\/]/).pop();
  }

  // The file within its folder, which tells copies of one name apart.
  tail(i) {
    return this.paths[i].split(/[\\/]/).slice(-2).join("/");
  }

  describe(i) {
    const name = this.nameAt(i);
    return name ? `${name}, ${this.file(i)}` : this.file(i);
  }

  // The largest first and "few of a kind" last.
  sortGroups() {
    this.groups.sort((a, b) => (a.label < 0) - (b.label < 0) || b.size - a.size || a.label - b.label);
    this.byLabel = new Map(this.groups.map((group) => [group.label, group]));
  }

  takeFaults(faults) {
    this.faults = new Map();
    this.byKind = new Map(); // the worst first
    for (const [picture, kind, value] of faults) {
      if (!this.faults.has(picture)) this.faults.set(picture, []);
      this.faults.get(picture).push({ kind, value });
      if (!this.byKind.has(kind)) this.byKind.set(kind, []);
      this.byKind.get(kind).push(picture);
    }
  }

  // A row of the table for each of some pictures.
  lines(from, to) {
    const lines = [];
    for (let i = from; i < to; i++) {
      const name = this.nameAt(i);
      lines.push(line([
        this.paths[i], this.hash(i), this.layers.length ? String(this.label(i)) : "",
        String(this.sureness(i) / 100), name, name ? String(this.probability[i] / 100) : "", "",
      ]));
    }
    return lines.join("");
  }

  unreadLines() {
    return this.unread.map(([path, reason]) => line([path, "", "", "", "", "", reason])).join("");
  }

  // Those of some pictures whose name or path has all of the words.
  having(words, from, to) {
    this.lowered ??= this.names.map((name) => name.toLowerCase());
    const found = [];
    for (let i = from; i < to; i++) {
      const path = this.paths[i].toLowerCase();
      const name = this.name[i] < 0 ? "" : this.lowered[this.name[i]];
      if (words.every((word) => path.includes(word) || name.includes(word))) found.push(i);
    }
    return found;
  }
}

export const COLUMNS = ["path", "hash", "group", "sureness", "name", "probability", "unread"];
export const wordsOf = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
export const line = (cells) => `${cells.map(quoted).join(",")}\r\n`;

export function hexOf(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Collection extends Known {
  constructor(plain) {
    super();
    this.title = plain.title;
    this.paths = plain.paths;
    this.size = plain.paths.length;
    this.widths = unpacked(plain.widths, Uint32Array);
    this.heights = unpacked(plain.heights, Uint32Array);
    this.bytes = unpacked(plain.bytes, Float64Array);
    this.hashBytes = unpacked(plain.hashes, Uint8Array);
    this.hasNeighbours = plain.neighbours;
    this.odd = plain.odd && unpacked(plain.odd, Float32Array);
    this.places = plain.places && unpacked(plain.places, Float32Array);
    this.unread = plain.unread;
    this.layer = plain.default_layer;
    this.change(plain);
  }

  // Take over what a decision has changed.
  change(plain) {
    this.layers = plain.layers.map((layer) => ({
      name: layer.name,
      labels: unpacked(layer.labels, Int32Array),
      sureness: unpacked(layer.sureness, Uint8Array),
    }));
    this.names = plain.names;
    this.name = unpacked(plain.name, Int32Array);
    this.probability = unpacked(plain.probability, Uint8Array);
    this.given = unpacked(plain.given, Int32Array);
    this.member = unpacked(plain.member, Int32Array);
    this.lowered = undefined;
    this.takeFaults(plain.faults);
    this.duplicates = plain.duplicates.map(([band, pictures, keep, why], position) => ({
      band, pictures, keep, why, position,
    }));
    this.regroup();
  }

  // Everything is here: no view and no picture lacks anything.
  lacking() {
    return null;
  }

  ready() {
    return null;
  }

  holds() {
    return true;
  }

  get counts() {
    return { duplicates: this.duplicates.length, unread: this.unread.length };
  }

  countOf(kind) {
    return this.byKind.get(kind)?.length ?? 0;
  }

  get named() {
    let named = 0;
    for (let i = 0; i < this.size; i++) named += this.name[i] >= 0;
    return named;
  }

  // All pictures of a group.
  pictures(group) {
    return group.pictures;
  }

  // use() is called with the first pictures of a group.
  first(group, count, use) {
    use(group.pictures.slice(0, count));
  }

  strangest() {
    if (!this.odd) return [];
    return Array.from({ length: this.size }, (_, i) => i).sort((a, b) => this.odd[b] - this.odd[a]);
  }

  // The points of the map that may be seen: all.
  points() {
    this.whole ??= {
      numbers: Array.from({ length: this.size }, (_, i) => i),
      places: this.places,
      labels: (by) => (by === "group" ? this.layers[this.layer]?.labels : this.name),
    };
    return [this.whole];
  }

  // The groups of the layer that is shown.
  regroup() {
    const layer = this.layers[this.layer];
    const members = new Map();
    for (let i = 0; layer && i < this.size; i++) {
      const label = layer.labels[i];
      if (!members.has(label)) members.set(label, []);
      members.get(label).push(i);
    }
    this.groups = [...members].map(([label, pictures]) => {
      pictures.sort((a, b) => layer.sureness[b] - layer.sureness[a] || a - b);
      const sure = pictures.reduce((sum, i) => sum + layer.sureness[i], 0) / pictures.length;
      return { label, pictures, size: pictures.length, sure, ...this.nameOf(pictures) };
    });
    this.sortGroups();
  }

  // What most of the pictures of a group are called, and how many of them have a name.
  nameOf(pictures) {
    const counts = new Map();
    let named = 0;
    for (const i of pictures) {
      if (this.name[i] < 0) continue;
      named++;
      counts.set(this.name[i], (counts.get(this.name[i]) ?? 0) + 1);
    }
    let [most, best] = [0, -1];
    for (const [name, count] of counts) if (count > most) [most, best] = [count, name];
    return { named, name: 2 * most > pictures.length ? this.names[best] : "" };
  }

  hash(i) {
    return hexOf(this.hashBytes.subarray(32 * i, 32 * i + 32));
  }

  matching(text) {
    return this.having(wordsOf(text), 0, this.size);
  }

  // A table of what is known, a row a picture, as pieces of text.
  table() {
    return [line(COLUMNS), this.lines(0, this.size), this.unreadLines()];
  }
}

export { unpacked };
