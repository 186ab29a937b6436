// An atlas' data. It lies in scripts, as a page from a disk may load those: each calls `receive` with one value.
"use strict";

const VERSION = 2;
const FILES_OF_CARDS_KEPT = 8;
const State = { RENDERED: 0, SILENCED: 1, PROBLEM: 2, MISSING: 3, ACCENTUATED: 4 };
const received = new Map();

/** Called by every script with data. */
function receive(value) {
  received.get(document.currentScript)?.(value);
}

/** A path as part of an address. It stays relative, whatever is in it. */
function urlOf(path) {
  return path.split("/").filter(Boolean).map(encodeURIComponent).join("/");
}

/** The value in a script. */
function load(url) {
  return new Promise((resolve, reject) => {
    const script = element("script", { src: url });
    const done = () => {
      received.delete(script);
      script.remove();
    };
    received.set(script, resolve);
    script.addEventListener("load", () => {
      done();
      reject(new Error(`${decodeURI(url)} holds no data of an atlas`)); // of no effect where it did
    });
    script.addEventListener("error", () => {
      done();
      reject(new Error(`${decodeURI(url)} is not there`));
    });
    document.head.append(script);
  });
}

const TYPES = { Float32Array, Uint8Array, Uint16Array, Uint32Array };

/** A typed array that was written as base64, little-endian as all machines with a browser are. */
function decoded({ type, base64 }) {
  return new TYPES[type](bytesOf(base64).buffer);
}

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place += 1) bytes[place] = text.charCodeAt(place);
  return bytes;
}

/** A value that was written as JSON and compressed. */
function unpacked({ deflate }) {
  const bytes = new Blob([bytesOf(deflate)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(bytes).json();
}

class Store {
  /** The atlas in a folder, given from that of the page: "" for its own. */
  static async open(folder) {
    const base = folder && `${urlOf(folder)}/`;
    const data = `${base}site/data/`;
    const [atlas, columns] = await Promise.all([load(`${data}atlas.js`), load(`${data}neurons.js`)]);
    if (atlas.version !== VERSION) {
      const words = `The page of ${atlas.title} has version ${atlas.version}, and this one ${VERSION}`;
      throw new Error(`${words}; write the older one again`);
    }
    return new Store(base, atlas, columns);
  }

  constructor(base, atlas, { starts, word, topClass, ...columns }) {
    Object.assign(this, atlas, { base, starts });
    for (const [name, column] of Object.entries(columns)) this[name] = decoded(column);
    this.colours = bytesOf(atlas.colours);
    this.word = word && { table: word.table, numbers: decoded(word.numbers) };
    this.topClass = topClass && { table: topClass.table, numbers: decoded(topClass.numbers) };
    this.count = this.unit.length;
    this.pictures = new Pictures(base);
    this.files = new Map(); // of cards, the least recently used first
  }

  /** Number of a neuron's site. */
  siteOf(neuron) {
    let site = 0;
    while (this.starts[site + 1] <= neuron) site += 1;
    return site;
  }

  address(neuron) {
    return `${this.sites[this.siteOf(neuron)].name}:${this.unit[neuron]}`;
  }

  /** Number of the site with a name, or -1. */
  siteNamed(name) {
    return this.sites.findIndex((site) => site.name === name);
  }

  /** Number of the neuron with an address, or -1. */
  find(address) {
    const colon = address.lastIndexOf(":");
    const site = this.siteNamed(address.slice(0, colon));
    const unit = address.slice(colon + 1);
    if (site < 0 || !/^\d+$/.test(unit)) return -1;
    const within = this.unit.subarray(this.starts[site], this.starts[site + 1]).indexOf(Number(unit));
    return within < 0 ? -1 : this.starts[site] + within;
  }

  /** First neuron of a site, and the first after it; of all sites without one. */
  range(site) {
    return site === null ? [0, this.count] : [this.starts[site], this.starts[site + 1]];
  }

  text(column, neuron) {
    return this[column] ? this[column].table[this[column].numbers[neuron]] : "";
  }

  /** A canvas with a neuron's render; null where there is none. */
  render(neuron, label) {
    const sheet = this.sheet[neuron];
    return sheet && this.pictures.tile(this.sheets[sheet - 1], this.tile[neuron], this.renderAspect, label);
  }

  /** What a card shows beyond the columns, and the sheets of its photos. */
  async card(neuron) {
    const number = Math.floor(neuron / this.cardsInAFile);
    const loading = this.files.get(number) ?? load(`${this.base}site/data/cards/${number}.js`).then(unpacked);
    this.files.delete(number);
    this.files.set(number, loading);
    loading.catch(() => this.files.delete(number)); // may be there when asked for again
    if (this.files.size > FILES_OF_CARDS_KEPT) this.files.delete(this.files.keys().next().value);
    const file = await loading;
    return { photos: [], relevant: [], words: [], classes: [], settings: [], ...file.cards[neuron - file.first], sheets: file.sheets };
  }
}
