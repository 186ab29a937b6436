// A neuron's activations on all images. The bins are equally wide, whatever their edges, so that the axis is linear
// around zero and logarithmic further out; heights are logarithmic in the number of images.
"use strict";

const [WIDE, HIGH, LOWEST] = [240, 90, 9];
const ROUND = [0, 1, 0.1, 10, 100, 0.01, 0.3, 3, 30, 300, 0.03, 0.003].flatMap((size) => (size ? [size, -size] : [0]));

/** Drawing of counts [first bin, counts], with the photos and the render marked. */
function histogram([first, counts], edges, photos, optimized, words) {
  let [low, high] = [first, first + counts.length];
  const room = high - low;
  const place = Number.isFinite(optimized) ? binOf(edges, optimized) : null;
  if (place !== null && place > low - room && place < high + room) [low, high] = [Math.min(low, place), Math.max(high, place)];
  const margin = 0.02 * (high - low);
  const across = (bin) => Number(((WIDE * (bin - low + margin)) / (high - low + 2 * margin)).toFixed(1));
  const most = Math.max(...counts);
  const tall = (count) => LOWEST + ((HIGH - LOWEST - 14) * Math.log(count)) / Math.max(1, Math.log(most));
  const width = (WIDE / (high - low + 2 * margin)).toFixed(2);
  const bars = counts.flatMap((count, bin) => {
    if (!count) return [];
    const height = tall(count).toFixed(1);
    return [drawn("rect", { class: "bar-of-images", x: across(first + bin), y: HIGH - height, width, height })];
  });
  const marks = photos.map((value) => `M${across(binOf(edges, value))} 9V${HIGH}`).join("");
  return drawn(
    "svg",
    { viewBox: `0 0 ${WIDE} ${HIGH + 18}`, role: "img", "aria-label": words, class: "histogram" },
    ...bars,
    drawn("path", { class: "of-photos", d: marks }),
    place === null ? null : markOf(across(place)),
    drawn("path", { class: "axis", d: `M0 ${HIGH}H${WIDE}` }),
    ...ticks(edges, across),
  );
}

/** Where a value lies among the bins, with fractions. */
function binOf(edges, value) {
  let [below, above] = [0, edges.length - 1];
  if (value <= edges[below]) return below;
  if (value >= edges[above]) return above;
  while (above - below > 1) {
    const middle = (below + above) >> 1;
    if (edges[middle] <= value) below = middle;
    else above = middle;
  }
  return below + (value - edges[below]) / (edges[above] - edges[below]);
}

function markOf(x) {
  if (x < 0) return drawn("text", { class: "of-render", x: 0, y: 8 }, "← render");
  if (x > WIDE) return drawn("text", { class: "of-render", x: WIDE, y: 8, "text-anchor": "end" }, "render →");
  return drawn("path", { class: "of-render", d: `M${x} 0V${HIGH}` });
}

/** Round activations that are far enough apart. */
function ticks(edges, across) {
  const places = new Map();
  for (const value of ROUND) {
    const x = across(binOf(edges, value));
    const free = [...places.values()].every((other) => Math.abs(x - other) > 0.18 * WIDE);
    if (x >= 0 && x <= WIDE && free) places.set(value, x);
  }
  return [...places].map(([value, x]) => {
    const anchor = x < 0.06 * WIDE ? "start" : x > 0.94 * WIDE ? "end" : "middle";
    return drawn("text", { class: "tick", x, y: HIGH + 14, "text-anchor": anchor }, digits(value));
  });
}
