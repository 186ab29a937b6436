// The sites by depth, each with a bar of what came of its neurons.
"use strict";

class SiteList {
  constructor(nav, store) {
    this.store = store;
    this.shown = [null, ...store.sites.keys()].filter((site) => site === null || store.starts[site + 1] > store.starts[site]);
    this.links = this.shown.map((site) => {
      const [first, end] = store.range(site);
      const name = site === null ? "All sites" : store.sites[site].name;
      const [bar, words] = this.bar(first, end);
      const count = element("span", { class: "number" }, (end - first).toLocaleString("en"));
      const label = `${name}, ${counted(end - first, "neuron")}, ${words}`;
      return element("a", { "aria-label": label }, element("span", { class: "name" }, name), count, bar);
    });
    const legend = element(
      "p",
      { class: "legend", "aria-hidden": "true" },
      element("span", { class: "key above" }, "above photos"),
      element("span", { class: "key live" }, "live"),
      element("span", { class: "key trouble" }, "silenced or problem"),
    );
    nav.replaceChildren(element("ul", {}, ...this.links.map((link) => element("li", {}, link))), legend);
  }

  bar(first, end) {
    const { state, live } = this.store;
    const parts = { above: 0, live: 0, trouble: 0 };
    for (let neuron = first; neuron < end; neuron += 1) {
      if (isTrouble(state[neuron])) parts.trouble += 1;
      else if (isAbove(this.store, neuron)) parts.above += 1;
      else if (live[neuron]) parts.live += 1;
    }
    const made = element("span", { class: "bar", "aria-hidden": "true" });
    for (const [name, count] of Object.entries(parts)) {
      const part = element("span", { class: name });
      part.style.flexGrow = count;
      made.append(part);
    }
    const rest = element("span", {});
    rest.style.flexGrow = end - first - parts.above - parts.live - parts.trouble;
    made.append(rest);
    return [made, `${parts.above} above photos, ${parts.trouble} silenced or with a problem`];
  }

  /** Mark where the reader is, and keep all links at the present order and filters. */
  show(site) {
    this.links.forEach((link, number) => {
      const own = this.shown[number];
      link.setAttribute("href", linkTo(own === null ? "" : this.store.sites[own].name));
      if (own === site) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    });
    const list = this.links[0].closest("ul");
    const { offsetLeft, offsetWidth } = this.links[Math.max(0, this.shown.indexOf(site))].parentElement;
    list.scrollLeft = offsetLeft - (list.clientWidth - offsetWidth) / 2; // where the list is a strip
  }
}
