// A collection of very many pictures, of which the page has only what was looked at.
import { Kept } from "./backend.js";
import { COLUMNS, hexOf, Known, line, unpacked, wordsOf } from "./data.js";

const DETAILS = 4096; // pictures of a file; as in tiles.py
const ORDER = 16384;
const BLOCKS = 48; // of pictures, in memory
const AGAIN = 4; // of those, which are had again at once when a decision has changed them
const TILES = 256;
const LARGE = 400; // pixels of a square of the map from which on its quarters are looked at

export class Tiled extends Known {
  constructor(plain, backend) {
    super();
    Object.assign(this, {
      backend, title: plain.title, size: plain.size, hasNeighbours: plain.neighbours, layer: plain.default_layer,
      blocks: new Map(), changes: 0, tiles: new Set(plain.tiles),
    });
    this.places = this.tiles.size > 0;
    this.paths = this.column((block) => block.paths);
    this.widths = this.column((block) => block.widths);
    this.heights = this.column((block) => block.heights);
    this.bytes = this.column((block) => block.bytes);
    this.odd = plain.odd ? this.column((block) => block.odd) : null;
    this.name = this.column((block) => block.name);
    this.given = this.column((block) => block.given);
    this.member = this.column((block) => block.member);
    this.probability = this.column((block) => block.probability);
    this.change(plain);
  }

  // Take over what a decision has changed: when this resolves, also of what was looked at last.
  async change(plain) {
    this.changes++;
    this.backend.coming.clear(); // what is on its way is from before
    Object.assign(this, {
      names: plain.names, named: plain.named, kinds: plain.kinds, ordered: plain.ordered, lowered: undefined,
      counts: { duplicates: plain.duplicates, unread: plain.unread }, duplicates: undefined, squares: new Map(),
    });
    this.layers = plain.layers.map((layer, at) => ({
      ...layer,
      labels: this.column((block) => block.layers[at].labels),
      sureness: this.column((block) => block.layers[at].sureness),
    }));
    this.takeFaults(plain.faults);
    this.orders = new Kept((name) => this.part(name).then((text) => unpacked(text, Int32Array)), BLOCKS);
    this.regroup();
    const last = [...this.blocks.keys()].slice(-AGAIN);
    for (const number of this.blocks.keys()) if (!last.includes(number)) this.blocks.delete(number);
    await Promise.all(last.map((number) => this.block(number)));
  }

  // A part of what is known now.
  async part(name) {
    const { changes } = this;
    const found = await this.backend.part(name);
    return changes === this.changes ? found : this.part(name);
  }

  // A column that has an entry of each picture that is here: see ready().
  column(of) {
    return new Proxy({}, { get: (_, i) => {
      const block = this.blocks.get(Math.floor(i / DETAILS));
      return block && of(block)[i % DETAILS];
    } });
  }

  // Null if all that is known of some pictures is here, else what to wait for until it is.
  ready(numbers) {
    const wanted = new Set(Array.from(numbers, (i) => Math.floor(i / DETAILS)));
    const missing = [];
    for (const number of wanted) {
      const block = this.blocks.get(number);
      if (!block) missing.push(this.block(number));
      else {
        this.blocks.delete(number); // the last one used is the last to go
        this.blocks.set(number, block);
      }
    }
    return missing.length ? Promise.all(missing) : null;
  }

  // Whether all that is known of some pictures can be here at once.
  holds(numbers) {
    return new Set(Array.from(numbers, (i) => Math.floor(i / DETAILS))).size <= BLOCKS;
  }

  async block(number) {
    const plain = await this.part(`details-${number}`);
    const block = {
      paths: plain.paths,
      widths: unpacked(plain.widths, Uint32Array),
      heights: unpacked(plain.heights, Uint32Array),
      bytes: unpacked(plain.bytes, Float64Array),
      hashes: unpacked(plain.hashes, Uint8Array),
      odd: plain.odd && unpacked(plain.odd, Float32Array),
      name: unpacked(plain.name, Int32Array),
      given: unpacked(plain.given, Int32Array),
      member: unpacked(plain.member, Int32Array),
      probability: unpacked(plain.probability, Uint8Array),
      layers: plain.layers.map(({ labels, sureness }) => ({
        labels: unpacked(labels, Int32Array), sureness: unpacked(sureness, Uint8Array),
      })),
    };
    this.blocks.set(number, block);
    if (this.blocks.size > BLOCKS) this.blocks.delete(this.blocks.keys().next().value);
  }

  // Null if a view can be shown, else what to wait for until it can.
  lacking(view, argument) {
    if (view === "group") {
      const group = this.byLabel.get(Number(argument));
      if (!group || group.pictures) return null;
      return this.pictures(group);
    }
    const get = {
      duplicates: (sets) => (this.duplicates = sets.map(([band, pictures, keep, why], position) => ({ band, pictures, keep, why, position }))),
      odd: (text) => (this.strange = [...unpacked(text, Int32Array)]),
      unread: (rows) => (this.unread = rows),
    };
    const here = { duplicates: this.duplicates, odd: this.strange ?? (this.odd ? null : []), unread: this.unread };
    return get[view] && !here[view] ? this.part(view).then(get[view]) : null;
  }

  countOf(kind) {
    return this.kinds[kind];
  }

  strangest() {
    return this.strange ?? [];
  }

  regroup() {
    const layer = this.layers[this.layer];
    this.groups = [];
    if (layer) {
      const labels = unpacked(layer.groups.labels, Int32Array);
      const counts = unpacked(layer.groups.counts, Uint32Array);
      const sure = unpacked(layer.groups.sure, Float32Array);
      const named = unpacked(layer.groups.named, Uint32Array);
      const called = unpacked(layer.groups.called, Int32Array);
      const middles = unpacked(layer.groups.middles, Float32Array);
      let start = 0;
      labels.forEach((label, at) => {
        const name = called[at] < 0 ? "" : this.names[called[at]];
        const middle = [middles[2 * at], middles[2 * at + 1]];
        this.groups.push({ label, size: counts[at], start, sure: sure[at], named: named[at], name, middle });
        start += counts[at];
      });
    }
    this.sortGroups();
  }

  // The first pictures of a group.
  async members(group, count) {
    const end = group.start + Math.min(count, group.size);
    if (this.layer === this.ordered) return Array.from({ length: end - group.start }, (_, i) => group.start + i);
    const found = [];
    for (let at = Math.floor(group.start / ORDER); at * ORDER < end; at++) {
      const order = await this.orders.at(`order-${this.layer}-${at}`);
      const [from, to] = [Math.max(0, group.start - at * ORDER), Math.min(ORDER, end - at * ORDER)];
      for (let i = from; i < to; i++) found.push(order[i]);
    }
    return found;
  }

  // All pictures of a group.
  async pictures(group) {
    group.pictures ??= await this.members(group, group.size);
    return group.pictures;
  }

  first(group, count, use) {
    this.members(group, count).then(use, () => {});
  }

  hash(i) {
    const at = 32 * (i % DETAILS);
    return hexOf(this.blocks.get(Math.floor(i / DETAILS)).hashes.subarray(at, at + 32));
  }

  // What look(from, to) gives of all pictures, block by block.
  async all(look) {
    const found = [];
    for (let from = 0; from < this.size; from += DETAILS) {
      await this.ready([from]);
      found.push(look(from, Math.min(this.size, from + DETAILS)));
    }
    return found;
  }

  async matching(text) {
    const words = wordsOf(text);
    return (await this.all((from, to) => this.having(words, from, to))).flat();
  }

  async table() {
    await this.lacking("unread");
    return [line(COLUMNS), ...(await this.all((from, to) => this.lines(from, to))), this.unreadLines()];
  }

  // The points of the map that may be seen in a box of it, at so many pixels a side of the whole:
  // those that are here. more() is called when others are.
  points([left, top, right, bottom], pixels, more) {
    const found = [];
    const waiting = [[0, 0, 0]];
    while (waiting.length) {
      const [zoom, x, y] = waiting.pop();
      const side = 2 ** -zoom;
      if (!this.tiles.has(`map-${zoom}-${x}-${y}`)) continue;
      if (x * side > right || y * side > bottom || (x + 1) * side < left || (y + 1) * side < top) continue;
      const tile = this.tile(`map-${zoom}-${x}-${y}`, more);
      if (tile) found.push(tile);
      if (pixels * side < LARGE) continue;
      for (const [a, b] of [[0, 0], [0, 1], [1, 0], [1, 1]]) waiting.push([zoom + 1, 2 * x + a, 2 * y + b]);
    }
    return found;
  }

  tile(name, more) {
    let tile = this.squares.get(name);
    this.squares.delete(name);
    if (!tile) {
      tile = {};
      this.part(name).then((plain) => {
        const layers = plain.layers.map((labels) => unpacked(labels, Int32Array));
        const called = unpacked(plain.name, Int32Array);
        tile.points = {
          numbers: unpacked(plain.numbers, Int32Array),
          places: unpacked(plain.places, Float32Array),
          labels: (by) => (by === "group" ? layers[this.layer] : called),
        };
        more();
      }, () => {});
    }
    this.squares.set(name, tile);
    if (this.squares.size > TILES) this.squares.delete(this.squares.keys().next().value);
    return tile.points;
  }
}
