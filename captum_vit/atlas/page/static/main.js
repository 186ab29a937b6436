// The page: what the address says is shown, and what the reader does changes the address.
"use strict";

class Atlas {
  constructor(store) {
    this.store = store;
    this.comparison = new Comparison();
    this.sites = new SiteList(byId("sites"), store);
    this.order = new OrderForm(byId("order"), store, (changed) => {
      rewrite(changed);
      this.showWall(routeHere());
    });
    this.wall = new Wall(byId("main"), byId("grid"), {
      fill: (neuron) => this.tile(neuron),
      link: (neuron) => linkTo(store.address(neuron)),
      label: (neuron) => this.label(neuron),
    });
    this.wall.aspect = store.renderAspect;
    byId("grid").style.setProperty("--aspect", store.renderAspect);
    listenToKeys({
      wall: this.wall,
      isCard: () => !byId("card").hidden,
      step: (steps) => this.step(steps),
      back: () => this.back(),
    });
    this.fillForms();
    window.addEventListener("hashchange", () => this.show());
  }

  /** Show the place that the address names. */
  async show() {
    const route = routeHere();
    this.say("");
    try {
      await this.comparison.choose(route.compare);
    } catch (error) {
      this.say(`The atlas in ${route.compare} cannot be shown: ${error.message}.`);
    }
    this.showComparing();
    const neuron = this.store.find(route.place);
    if (neuron >= 0) return this.showCard(neuron, route);
    if (route.place && this.store.siteNamed(route.place) < 0) this.say(this.unknown(route.place));
    const from = byId("card").hidden ? null : this.neuron;
    byId("card").hidden = true;
    byId("wall").hidden = false;
    this.showWall(route);
    if (from !== null && from !== undefined) this.returnTo(from);
    return undefined;
  }

  showWall(route) {
    const named = this.store.siteNamed(route.place);
    const site = named < 0 ? null : named;
    const { other } = this.comparison;
    const neurons = chosen(this.store, site, route, other);
    const [first, end] = this.store.range(site);
    const shape = JSON.stringify([route.place, route.sort, route.show, route.word, route.class, route.up, route.compare]);
    const same = this.shape === shape; // coming back from a card
    this.shape = shape;
    this.site = site;
    this.neurons = neurons;
    byId("place").textContent = site === null ? "All sites" : this.store.sites[site].name;
    byId("count").value = neurons.length === end - first ? counted(end - first, "neuron") : `${neurons.length.toLocaleString("en")} of ${counted(end - first, "neuron")}`;
    byId("none").hidden = neurons.length > 0;
    document.title = site === null ? this.store.title : `${this.store.sites[site].name} · ${this.store.title}`;
    this.sites.show(site);
    this.order.show(route, site, other);
    if (!same) byId("main").scrollTop = 0;
    byId("grid").classList.toggle("of-all", site === null);
    this.wall.show(neurons, { pair: Boolean(other), keep: same });
  }

  async showCard(neuron, route) {
    const site = this.store.siteOf(neuron);
    // Opened by a link, or from a wall that has no such neuron: its neighbours are those of its site.
    if (!this.neurons || this.neurons.indexOf(neuron) < 0) this.neurons = chosen(this.store, site, { ...DEFAULTS });
    if (byId("card").hidden) this.scrolledTo = byId("main").scrollTop;
    this.neuron = neuron;
    const shown = await this.cardBody(neuron, route);
    if (this.neuron !== neuron || routeHere().place !== route.place) return; // the reader went on
    const address = this.store.address(neuron);
    byId("wall").hidden = true;
    byId("card").replaceChildren(this.cardHeader(neuron, address), shown);
    byId("card").hidden = false;
    byId("main").scrollTop = 0;
    document.title = `${address} · ${this.store.title}`;
    this.sites.show(site);
    byId("neuron").focus();
    performance.mark("card");
  }

  async cardBody(neuron, route) {
    try {
      return this.comparison.other ? await this.comparison.cards(this.store, neuron, route.with) : await cardOf(this.store, neuron);
    } catch (error) {
      return element("p", { class: "absent" }, `This card cannot be shown: ${error.message}.`);
    }
  }

  cardHeader(neuron, address) {
    const place = this.neurons.indexOf(neuron);
    const words = `${(place + 1).toLocaleString("en")} of ${this.neurons.length.toLocaleString("en")}`;
    const back = element("button", { type: "button" }, "Back to the wall");
    back.addEventListener("click", () => this.back());
    const step = (steps, name, sign) => {
      const button = element("button", { type: "button", "aria-label": name, title: name, disabled: this.neurons[place + steps] === undefined }, sign);
      button.addEventListener("click", () => this.step(steps));
      return button;
    };
    const badges = element("ul", { class: "tags", role: "list" }, ...badgesOf(this.store, neuron).map(([kind, text]) => element("li", { class: kind }, text)));
    return element(
      "header",
      {},
      element("div", { class: "line" }, back, step(-1, "Neuron before", "←"), step(1, "Neuron after", "→"), element("span", { class: "faint small" }, words)),
      element("div", { class: "heading" }, element("h2", { id: "neuron", tabindex: "-1" }, address), badges),
    );
  }

  /** To the neuron before or after, in the order of the wall. */
  step(steps) {
    const next = this.neurons[this.neurons.indexOf(this.neuron) + steps];
    if (next !== undefined) location.hash = linkTo(this.store.address(next));
  }

  back() {
    location.hash = linkTo(this.wallPlace());
  }

  /** The place of the wall from which the card was opened; of its site, if it was opened by a link. */
  wallPlace() {
    const site = this.site === undefined ? this.store.siteOf(this.neuron) : this.site;
    return site === null ? "" : this.store.sites[site].name;
  }

  /** Back on the wall, at the neuron whose card was open. */
  returnTo(neuron) {
    if (this.scrolledTo !== undefined) byId("main").scrollTop = this.scrolledTo;
    const place = this.neurons.indexOf(neuron);
    if (place >= 0) this.wall.focus(place);
    else byId("place").focus();
  }

  tile(neuron) {
    const { store } = this;
    const pictures = [this.picture(store, neuron)];
    const { other } = this.comparison;
    const mate = other ? other.find(store.address(neuron)) : -1;
    if (other) pictures.push(this.picture(other, mate));
    const values = [valueShown(store, neuron, routeHere().sort)];
    if (mate >= 0) values.push(valueShown(other, mate, routeHere().sort));
    const site = this.site === null ? element("span", { class: "site" }, store.sites[store.siteOf(neuron)].name) : null;
    return [
      element("span", { class: "pictures" }, ...pictures),
      element(
        "span",
        { class: "caption" },
        element("span", { class: "name" }, site, element("span", {}, `:${store.unit[neuron]}`)),
        element("span", { class: isTrouble(store.state[neuron]) ? "number trouble" : "number" }, values.join(" | ")),
      ),
    ];
  }

  picture(store, neuron) {
    const render = neuron >= 0 && store.render(neuron, "");
    const trouble = neuron >= 0 && isTrouble(store.state[neuron]);
    return element("span", { class: trouble ? "picture dim" : "picture" }, render || element("span", { class: "absent" }));
  }

  label(neuron) {
    const { store } = this;
    const parts = [store.address(neuron)];
    if (store.state[neuron] !== State.RENDERED) parts.push(stateWords(store.state[neuron]));
    if (Number.isFinite(store.ratio[neuron])) parts.push(`${digits(store.ratio[neuron])} times the strongest photo`);
    if (!store.live[neuron]) parts.push("not live");
    if (store.text("word", neuron)) parts.push(store.text("word", neuron));
    return parts.join(", ");
  }

  fillForms() {
    const { store } = this;
    const facts = [["Neurons", store.count.toLocaleString("en")], ["Images ranked", store.images.toLocaleString("en")], ...store.settings];
    byId("settings").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
    byId("address").placeholder = store.count ? store.address(Math.min(42, store.count - 1)) : "";
    byId("search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.goTo(byId("address").value.trim());
    });
    byId("compare").addEventListener("submit", (event) => {
      event.preventDefault();
      byId("about").open = false;
      location.hash = linkTo(routeHere().place, { compare: byId("other").value.trim() });
    });
    byId("home").addEventListener("click", (event) => {
      event.preventDefault();
      location.hash = linkTo("");
    });
    byId("skip").addEventListener("click", (event) => {
      event.preventDefault(); // the part after "#" is the place
      if (byId("card").hidden) this.wall.focus(this.wall.current);
      else byId("neuron").focus();
    });
  }

  goTo(place) {
    if (this.store.find(place) < 0 && this.store.siteNamed(place) < 0) return this.say(this.unknown(place));
    byId("address").blur();
    location.hash = linkTo(place);
    return undefined;
  }

  unknown(place) {
    const site = this.store.siteNamed(place.slice(0, place.lastIndexOf(":")));
    if (site >= 0) return `No neuron "${place}" in this atlas; ${this.store.sites[site].name} has ${counted(this.store.sites[site].units, "unit")}, of which ${(this.store.starts[site + 1] - this.store.starts[site]).toLocaleString("en")} are in it.`;
    const { sites } = this.store;
    return `No neuron or site "${place}" in this atlas; it has ${sites[0].name} … ${sites.at(-1).name}.`;
  }

  say(words) {
    byId("said").textContent = words;
    byId("said").hidden = !words;
  }

  showComparing() {
    const { other } = this.comparison;
    const line = byId("comparing");
    line.hidden = !other;
    if (!other) return;
    line.querySelector("span").textContent = `Left ${this.store.title}, right ${other.title}.`;
    line.querySelector("a").setAttribute("href", linkTo(routeHere().place, { compare: "" }));
  }
}

/** What stands beside a neuron's name on the wall: what the wall is sorted by. */
function valueShown(store, neuron, sort) {
  if (store.state[neuron] !== State.RENDERED) return stateWords(store.state[neuron]);
  if (sort === "word" || sort === "class") return store.text(SORTS[sort][1], neuron);
  const column = store[SORTS[sort]?.[1]];
  if (!store.live[neuron] && !column) return "not live";
  return column && !["ratio", "worst"].includes(sort) ? digits(column[neuron]) : times((column ?? store.ratio)[neuron]);
}

/** What a neuron is, in a few words. */
function badgesOf(store, neuron) {
  const badges = [];
  if (store.state[neuron] !== State.RENDERED) badges.push([isTrouble(store.state[neuron]) ? "trouble" : "", stateWords(store.state[neuron])]);
  if (isAbove(store, neuron)) badges.push(["above", "above photos"]);
  badges.push(store.live[neuron] ? ["live", "live"] : ["", "not live"]);
  if (store.text("word", neuron)) badges.push(["", store.text("word", neuron)]);
  return badges;
}

Store.open("").then(
  async (store) => {
    await new Atlas(store).show();
    performance.mark("shown");
  },
  (error) => {
    byId("said").textContent = `The atlas cannot be shown: ${error.message}.`;
    byId("said").hidden = false;
  },
);
