// Which neurons are shown, in which order, and the form in which the reader chooses.
"use strict";

const SHOWN = {
  all: ["All", () => true],
  live: ["Live", (store, neuron) => store.live[neuron] === 1],
  above: ["Above photos", isAbove],
  trouble: ["Silenced or problem", (store, neuron) => isTrouble(store.state[neuron])],
};

/** How to sort: words, the column, and what kind of column it is. */
const SORTS = {
  address: ["Address"],
  ratio: ["Ratio to the best photo", "ratio"],
  worst: ["Ratio at the worst view", "worst"],
  agreement: ["Agreement", "agreement"],
  natural: ["Natural maximum", "natural"],
  activation: ["Activation", "activation"],
  score: ["Score of the word", "wordScore"],
  word: ["Word", "word"],
  class: ["Class", "topClass"],
};

/** Whether a render excites its neuron more than any photo, without having started from one. */
function isAbove(store, neuron) {
  return store.ratio[neuron] > 1 && store.state[neuron] !== State.ACCENTUATED;
}

function isTrouble(state) {
  return state === State.SILENCED || state === State.PROBLEM;
}

/** The neurons to show, in order; `other` is the atlas beside, if there is one. */
function chosen(store, site, route, other) {
  const [first, end] = store.range(site);
  const fits = SHOWN[route.show]?.[1] ?? SHOWN.all[1];
  const words = matching(store.word, route.word);
  const classes = matching(store.topClass, route.class);
  const neurons = new Uint32Array(end - first);
  let count = 0;
  for (let neuron = first; neuron < end; neuron += 1) {
    if (!fits(store, neuron)) continue;
    if (words && !words.has(store.word.numbers[neuron])) continue;
    if (classes && !classes.has(store.topClass.numbers[neuron])) continue;
    neurons[count] = neuron;
    count += 1;
  }
  return sorted(neurons.subarray(0, count), keysFor(store, route.sort, other), route.up !== "");
}

/** Numbers of the texts in a table that hold some letters; null where none are asked for. */
function matching(column, letters) {
  if (!column || !letters) return null;
  const wanted = letters.toLowerCase();
  return new Set(column.table.flatMap((text, number) => (text.toLowerCase().includes(wanted) ? [number] : [])));
}

/** What to sort by, best largest, and NaN for what comes last; null to leave neurons as they are. */
function keysFor(store, sort, other) {
  if (sort === "gain" && other) {
    return Float32Array.from(store.ratio, (ratio, neuron) => ratio - (other.ratio[other.find(store.address(neuron))] ?? NaN));
  }
  const column = store[SORTS[sort]?.[1]];
  if (!column) return null;
  // The table of texts is in alphabetical order; without a text comes last.
  return column.table ? Float32Array.from(column.numbers, (number) => (number ? -number : NaN)) : column;
}

const [LARGEST, SIGN, NEURONS] = [2 ** 32 - 1, 2 ** 31, 2 ** 21];

/** By key and, where keys are equal, by number. Both fit in one float, and browsers sort floats without a callback. */
function sorted(neurons, keys, up) {
  if (!keys) return up ? neurons.reverse() : neurons;
  const single = new Float32Array(1);
  const bits = new Uint32Array(single.buffer);
  const packed = Float64Array.from(neurons, (neuron) => {
    if (Number.isNaN(keys[neuron])) return LARGEST * NEURONS + neuron;
    single[0] = keys[neuron] + 0; // no negative zero
    const rank = bits[0] >= SIGN ? LARGEST - bits[0] : bits[0] + SIGN; // in the order of the numbers
    return (up ? rank : LARGEST - rank) * NEURONS + neuron;
  });
  return Uint32Array.from(packed.sort(), (value) => value % NEURONS);
}

/** The form, which calls back with what was changed of the route. */
class OrderForm {
  constructor(form, store, change) {
    this.form = form;
    this.store = store;
    this.change = change;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => this.changed());
  }

  /** Show what a route says, for the neurons of a site; with another atlas beside, one can sort by what differs. */
  show(route, site, other) {
    const sorts = Object.entries(SORTS).filter(([, [, column]]) => !column || this.store[column]);
    if (other) sorts.push(["gain", ["Gain over the other atlas"]]);
    const options = sorts.map(([value, [words]]) => element("option", { value, selected: value === route.sort }, words));
    const shape = JSON.stringify([site, sorts.map(([value]) => value)]);
    if (this.shape !== shape) {
      this.shape = shape;
      this.form.replaceChildren(this.shownChoice(site), this.sortChoice(options), this.textChoices());
    }
    const { show, sort, up, word, class: label } = this.form.elements;
    show.value = SHOWN[route.show] ? route.show : "all";
    sort.value = sorts.some(([value]) => value === route.sort) ? route.sort : "address";
    up.checked = route.up !== "";
    if (word) word.value = route.word;
    if (label) label.value = route.class;
  }

  shownChoice(site) {
    const [first, end] = this.store.range(site);
    const choices = Object.entries(SHOWN).map(([value, [words, fits]]) => {
      let count = 0;
      for (let neuron = first; neuron < end; neuron += 1) count += fits(this.store, neuron) ? 1 : 0;
      const input = element("input", { type: "radio", name: "show", value });
      const number = element("span", { class: "number" }, count.toLocaleString("en"));
      return element("label", {}, input, element("span", {}, words, " ", number));
    });
    return element("fieldset", { class: "choices" }, element("legend", { class: "unseen" }, "Show"), ...choices);
  }

  sortChoice(options) {
    const select = element("select", { name: "sort" }, ...options);
    const up = element("input", { type: "checkbox", name: "up", value: "1" });
    return element(
      "div",
      { class: "line" },
      element("label", {}, element("span", { class: "faint" }, "Sort"), " ", select),
      element("label", { class: "toggle" }, up, element("span", {}, "Reversed")),
    );
  }

  textChoices() {
    const choice = (name, words, column) => {
      if (!column) return null;
      const list = element("datalist", { id: `${name}-list` });
      const input = element("input", { type: "search", name, list: list.id, autocomplete: "off", spellcheck: "false" });
      // Thousands of words take a while, and few readers want them.
      const fill = () => list.replaceChildren(...column.table.filter(Boolean).map((value) => element("option", { value })));
      input.addEventListener("focus", fill, { once: true });
      return element("label", {}, element("span", { class: "faint" }, words), " ", input, list);
    };
    const { word, topClass } = this.store;
    return element("div", { class: "line" }, choice("word", "Word", word), choice("class", "Class", topClass));
  }

  changed() {
    const { show, sort, up, word, class: label } = this.form.elements;
    this.change({
      show: show.value,
      sort: sort.value,
      up: up.checked ? "1" : "",
      word: word?.value.trim() ?? "",
      class: label?.value.trim() ?? "",
    });
  }
}
