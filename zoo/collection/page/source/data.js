// The collection as the page knows it: columns with an entry a picture, known by its number.

function unpacked(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

export class Collection {
  constructor(plain) {
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
    this.faults = new Map();
    this.byKind = new Map(); // the worst first
    for (const [picture, kind, value] of plain.faults) {
      if (!this.faults.has(picture)) this.faults.set(picture, []);
      this.faults.get(picture).push({ kind, value });
      if (!this.byKind.has(kind)) this.byKind.set(kind, []);
      this.byKind.get(kind).push(picture);
    }
    this.duplicates = plain.duplicates.map(([band, pictures, keep, why], position) => ({
      band, pictures, keep, why, position,
    }));
    this.regroup();
  }

  // The groups of the layer that is shown, the largest first and "few of a kind" last.
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
      return { label, pictures, sure, ...this.nameOf(pictures) };
    });
    this.groups.sort(
      (a, b) => (a.label < 0) - (b.label < 0) || b.pictures.length - a.pictures.length || a.label - b.label,
    );
    this.byLabel = new Map(this.groups.map((group) => [group.label, group]));
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

  hash(i) {
    const bytes = this.hashBytes.subarray(32 * i, 32 * i + 32);
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  // Pictures whose name or path has all the words of a text.
  matching(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const names = this.names.map((name) => name.toLowerCase());
    const found = [];
    for (let i = 0; i < this.size; i++) {
      const path = this.paths[i].toLowerCase();
      const name = this.name[i] < 0 ? "" : names[this.name[i]];
      if (words.every((word) => path.includes(word) || name.includes(word))) found.push(i);
    }
    return found;
  }

  // A table of what is known, a row a picture, as text.
  table() {
    const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    const rows = [["path", "hash", "group", "sureness", "name", "probability"]];
    for (let i = 0; i < this.size; i++) {
      const name = this.nameAt(i);
      rows.push([
        this.paths[i], this.hash(i), this.layers.length ? String(this.label(i)) : "",
        String(this.sureness(i) / 100), name, name ? String(this.probability[i] / 100) : "",
      ]);
    }
    for (const [path, reason] of this.unread) rows.push([path, "", "", "", "", "", reason]);
    rows[0].push("unread");
    return rows.map((row) => row.concat(row.length < 7 ? [""] : []).map(quoted).join(",")).join("\r\n") + "\r\n";
  }
}

export { unpacked };
