// Another atlas beside this one, neuron against neuron.
"use strict";

class Comparison {
  constructor() {
    this.folder = "";
    this.other = null;
  }

  /** Open the atlas in a folder, or close it where there is none. */
  async choose(folder) {
    if (folder === this.folder) return;
    this.folder = folder;
    this.other = null;
    if (!folder) return;
    const other = await Store.open(folder);
    if (this.folder === folder) this.other = other; // unless another was chosen meanwhile
  }

  /** Number of the other atlas' neuron beside one, by its own address if the reader gave one; -1 without. */
  beside(address, given) {
    return this.other.find(given || address);
  }

  /** The cards of a neuron of this atlas and of one of the other. */
  async cards(store, neuron, given) {
    const address = store.address(neuron);
    const mate = this.beside(address, given);
    const [own, other] = await Promise.all([cardOf(store, neuron), mate < 0 ? null : cardOf(this.other, mate)]);
    return element(
      "div",
      { class: "sides" },
      this.side(store.title, element("p", { class: "address" }, address), own),
      this.side(this.other.title, this.chooser(address, given), other ?? this.absent(given || address)),
    );
  }

  side(title, heading, card) {
    const words = element("h3", { class: "title" }, title);
    return element("section", { class: "side", "aria-label": title }, element("div", { class: "heading" }, words, heading), card);
  }

  /** Where the reader chooses which neuron of the other atlas is shown. */
  chooser(address, given) {
    const label = `Address in ${this.other.title}`;
    const input = element("input", { type: "text", value: given || address, "aria-label": label, autocomplete: "off", spellcheck: "false" });
    const form = element("form", { class: "line" }, input, " ", element("button", { type: "submit" }, "Show"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const wanted = input.value.trim();
      location.hash = linkTo(address, { with: wanted === address ? "" : wanted });
    });
    return form;
  }

  absent(address) {
    return element("p", { class: "absent" }, `no neuron ${address} in ${this.other.title}`);
  }
}
