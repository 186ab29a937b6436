// A neuron's card: its render and scores, and the photos that excite it.
"use strict";

/** The parts of a card that need its file. */
async function cardOf(store, neuron) {
  const card = await store.card(neuron);
  const site = store.sites[store.siteOf(neuron)];
  const address = store.address(neuron);
  const own = element(
    "div",
    { class: "own" },
    renderFigure(store, neuron, card),
    scoreList(store, neuron),
    namesOf(card),
    histogramFigure(store, neuron, card),
    settingsOf(card),
  );
  const seen = element("div", { class: "seen" }, card.grid ? scaleBar(store, card) : null);
  if (card.relevant.length) {
    seen.classList.add("two");
    seen.append(
      photoSection(store, site, card, card.photos, "By activation", `Most activating images of ${address}`),
      photoSection(store, site, card, card.relevant, "By relevance", `Images to whose output ${address} contributes most`),
    );
  } else if (card.photos.length) {
    seen.append(photoSection(store, site, card, card.photos, "Photos that excite it most", `Most activating images of ${address}`));
  } else {
    seen.append(element("p", { class: "faint" }, "No image has a finite activation."));
  }
  return element("div", { class: "body" }, own, seen);
}

function photoSection(store, site, card, photos, heading, words) {
  return element("section", {}, element("h3", {}, heading), photoList(store, site, card, photos, words));
}

function renderFigure(store, neuron, card) {
  const address = store.address(neuron);
  const words = `Image optimized to excite ${address}, activation ${digits(store.activation[neuron])}`;
  const picture = store.render(neuron, words) || element("p", { class: "absent" }, stateWords(store.state[neuron]));
  const problem = card.problem && element("p", { class: "problem" }, element("strong", {}, "Means little: "), card.problem);
  const started =
    card.startedFrom &&
    element("p", { class: "problem" }, element("strong", {}, "Accentuated: "), `no random start excites it, so this one started from the photo ${card.startedFrom}`);
  return element("figure", { class: "optimized" }, element("div", { class: "picture" }, picture), problem, started);
}

function stateWords(state) {
  return { [State.SILENCED]: "silenced", [State.PROBLEM]: "problem", [State.MISSING]: "not rendered", [State.ACCENTUATED]: "from a photo" }[state] ?? "";
}

function scoreList(store, neuron) {
  const rows = [
    ["Activation", digits(store.activation[neuron])],
    ["Strongest photo", digits(store.natural[neuron])],
    ["Ratio of the two", times(store.ratio[neuron])],
    ["At its worst view", times(store.worst[neuron])],
  ];
  if (store.agreement) rows.push(["Agreement", digits(store.agreement[neuron])]);
  rows.push(["Live", store.live[neuron] ? "yes" : "no: no photo excites it"]);
  return element("dl", { class: "scores" }, ...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

/** Words and classes, where they were looked for. */
function namesOf(card) {
  const parts = [];
  if (card.words.length) {
    const note = card.wordThreshold === undefined ? null : element("p", { class: "faint small" }, `chance reaches ${digits(card.wordThreshold)}`);
    parts.push(element("h3", {}, "Words"), tags(card.words.map(([word, score]) => [word, digits(score)])), note);
  }
  if (card.classes.length) {
    parts.push(element("h3", {}, "Classes of its photos"), tags(card.classes.map(([label, count]) => [label, String(count)])));
  }
  return parts.length ? element("div", { class: "names" }, ...parts) : null;
}

function tags(pairs) {
  const items = pairs.map(([name, value]) => element("li", {}, name, " ", element("span", { class: "number" }, value)));
  return element("ul", { class: "tags", role: "list" }, ...items);
}

function histogramFigure(store, neuron, card) {
  if (!card.counts || !store.edges) return null;
  const [first, counts] = card.counts;
  const ends = [store.edges[first], store.edges[first + counts.length]].map(digits);
  const photos = card.photos.map((photo) => photo.activation);
  const words = [
    `Histogram of the activation on ${counted(store.images, "image")}, from ${ends[0]} to ${ends[1]}`,
    `on the photos ${photos.map(digits).join(", ")}`,
    `on the render ${digits(store.activation[neuron])}`,
  ].join("; ");
  const caption = element(
    "figcaption",
    { class: "small faint" },
    `Activation on ${counted(store.images, "image")}, log count: `,
    element("span", { class: "of-photos" }, "photos"),
    ", ",
    element("span", { class: "of-render" }, "render"),
  );
  return element("figure", { class: "activations" }, histogram(card.counts, store.edges, photos, store.activation[neuron], words), caption);
}

function settingsOf(card) {
  if (!card.settings.length) return null;
  const rows = card.settings.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  return element("details", { class: "small" }, element("summary", {}, "Settings of this render"), element("dl", {}, ...rows));
}
