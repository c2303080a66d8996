// Where pictures and answers are had from: files beside the page, or the server that sent it.
import { unpacked } from "./data.js";

const SHARD = 256; // pictures; as in static.py and serving.py
const KEPT = 64; // shards in memory
const policy = globalThis.trustedTypes?.createPolicy("zoo", {
  createScriptURL: (url) => {
    if (!/^(thumbnails|details|order|map|odd|duplicates|unread)[-\d]*\.js$/.test(url)) throw new Error("not a shard");
    return url;
  },
});

const urlOf = (number) => `thumbnails-${String(number).padStart(5, "0")}.js`;

// The last few of what was asked for, by number.
export class Kept {
  constructor(get, most) {
    Object.assign(this, { get, most, all: new Map() });
  }

  at(key) {
    const found = this.all.get(key) ?? this.get(key);
    this.all.delete(key);
    this.all.set(key, found);
    if (this.all.size > this.most) this.all.delete(this.all.keys().next().value);
    found.catch(() => this.all.delete(key));
    return found;
  }
}

function nearest(shard, i) {
  if (!shard.numbers) {
    shard.numbers = unpacked(shard.neighbours, Int32Array);
    shard.values = unpacked(shard.similarities, Float32Array);
  }
  const start = (i % SHARD) * shard.k;
  const found = [];
  for (let j = start; j < start + shard.k; j++) {
    if (shard.numbers[j] >= 0) found.push({ picture: shard.numbers[j], similarity: shard.values[j] });
  }
  return found;
}

// What a question is answered with, also to several who ask at the same time.
function once(coming, key, ask) {
  if (!coming.has(key)) {
    const forget = () => coming.delete(key);
    const answer = ask();
    coming.set(key, answer);
    answer.then(forget, forget);
  }
  return coming.get(key);
}

// A page on the disk: its shards are scripts, since a page from a disk may read nothing else.
export class Files {
  constructor() {
    this.live = false;
    this.can = { words: false, pictures: false };
    this.shards = new Kept((number) => this.load(number), KEPT);
    this.waiting = new Map();
    this.coming = new Map();
    globalThis.zooShard = (number, shard) => this.waiting.get(urlOf(number))?.(shard);
    globalThis.zooPart = (name, part) => this.waiting.get(`${name}.js`)?.(part);
  }

  load(number) {
    const inside = document.getElementById(`shard-${number}`);
    if (inside) return Promise.resolve(JSON.parse(inside.textContent));
    return this.script(urlOf(number));
  }

  // A part of what is known of very many pictures.
  part(name) {
    return this.script(`${name}.js`);
  }

  // What a script beside the page gives.
  script(url) {
    return once(this.coming, url, () => this.read(url));
  }

  read(url) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      this.waiting.set(url, resolve);
      script.src = policy ? policy.createScriptURL(url) : url;
      const end = (what) => () => {
        script.remove();
        this.waiting.delete(url);
        reject(new Error(`${url} ${what}`)); // which says nothing if it gave something
      };
      script.onload = end("is damaged");
      script.onerror = end("is not beside the page");
      document.head.append(script);
    });
  }

  async thumbnail(i) {
    const shard = await this.shards.at(Math.floor(i / SHARD));
    const data = shard.thumbnails[i % SHARD];
    return data ? `data:image/webp;base64,${data}` : "";
  }

  large(i) {
    return this.thumbnail(i);
  }

  async neighbours(i) {
    return nearest(await this.shards.at(Math.floor(i / SHARD)), i);
  }
}

// A page from a server on this machine, which writes down what is decided.
export class Server {
  constructor(can) {
    this.live = true;
    this.can = can;
    this.chunks = new Kept((number) => this.ask(`neighbours/${number}`), 4 * KEPT);
    this.coming = new Map();
  }

  // A part of what is known of very many pictures.
  part(name) {
    return once(this.coming, name, () => this.ask(`part/${name}`));
  }

  async ask(path, options = {}) {
    let answer;
    try {
      answer = await fetch(path, { credentials: "omit", ...options });
    } catch {
      throw new Error("zoo browse does not answer any more. Was it stopped?");
    }
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(said.detail ?? `the server refused (${answer.status})`);
    return said;
  }

  post(path, value) {
    return this.ask(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(value),
    });
  }

  async thumbnail(i) {
    return `thumbnail/${i}`;
  }

  async large(i) {
    return `picture/${i}`;
  }

  async neighbours(i) {
    return nearest(await this.chunks.at(Math.floor(i / SHARD)), i);
  }

  // The sets of pictures that are at least so similar, and how many there are.
  alike(threshold) {
    return this.ask(`alike?threshold=${threshold}`);
  }

  // What has followed from decisions since.
  changed() {
    return this.ask("changed");
  }

  decide(decisions) {
    return this.post("decide", { decisions });
  }

  async findWords(words) {
    return (await this.post("find/words", { words })).found;
  }

  async findPicture(file) {
    const options = { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file };
    return (await this.ask("find/picture", options)).found;
  }
}
