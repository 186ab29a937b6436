// A card's photos, and over each the neuron's patch map, drawn here from the stored one.
"use strict";

const HEAT_WIDTH = 112; // pixels; colours change slowly, and the page enlarges them smoothly
const PEAK_CELLS = 3;

/** A list of photos, best first. */
function photoList(store, site, card, photos, words) {
  const items = photos.map((photo, rank) => element("li", {}, photoFigure(store, site, card, photo, rank + 1)));
  return element("ol", { class: "photos", role: "list", "aria-label": words }, ...items);
}

function photoFigure(store, site, card, photo, rank) {
  const sheet = card.sheets[photo.sheet];
  const facts = [`activation ${digits(photo.activation)}`];
  if (photo.relevance !== undefined) facts.push(`relevance ${digits(photo.relevance)}`);
  const words = `Photo ${photo.name}, ${facts.join(", ")}${photo.label ? `, class ${photo.label}` : ""}`;
  const seen = element("div", { class: "picture" }, store.pictures.tile(sheet, photo.tile, store.photoAspect, words));
  const pictures = [seen];
  if (photo.map) {
    const map = new PatchMap(levelsOf(photo.map), photo.peak, card.grid, site.extent);
    seen.append(map.box());
    pictures.push(overlay(store, card, photo, map, sheet));
  }
  const value = photo.relevance === undefined ? photo.activation : photo.relevance;
  const caption = element(
    "figcaption",
    {},
    element("span", { class: "rank" }, rank),
    element("span", { class: "value" }, digits(value)),
    element("span", { class: "name", title: photo.name }, photo.label ?? photo.name),
  );
  return element("figure", {}, element("div", { class: "pictures" }, ...pictures), caption);
}

function overlay(store, card, photo, map, sheet) {
  const [row, column] = map.peak;
  const words = `Patch map over ${photo.name}, the largest at row ${row + 1}, column ${column + 1}`;
  const grey = store.pictures.tile(sheet, photo.tile, store.photoAspect, "");
  grey.classList.add("grey");
  const heat = element("canvas", { class: "heat", "aria-hidden": "true" });
  map.paint(heat, store.colours, store.photoAspect);
  return element("div", { class: "picture", role: "img", "aria-label": words }, grey, heat, map.box());
}

/** The colours of the maps, from the low to the high end of a card's scale. */
function scaleBar(store, card) {
  const [low, high] = card.scale.map(digits);
  const canvas = element("canvas", { width: 256, height: 1, "aria-hidden": "true" });
  const pixels = new ImageData(256, 1);
  for (let value = 0; value < 256; value += 1) setColour(pixels, value, store.colours, value);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  const words = `Colours of the patch maps: from activation ${low}, dark, to ${high}, bright`;
  return element("div", { class: "scale", role: "img", "aria-label": words }, "Patch maps from ", low, canvas, high);
}

function setColour(pixels, place, colours, value) {
  pixels.data.set(colours.subarray(3 * value, 3 * value + 3), 4 * place);
  pixels.data[4 * place + 3] = 255;
}

/** Values from 0 to 255 of the letters of a map, of which there are 64 from "0" on. */
function levelsOf(letters) {
  return Array.from(letters, (letter) => ((letter.charCodeAt(0) - 48) * 255) / 63);
}

class PatchMap {
  /**
   * @param place which of the cells has the largest value, in reading order
   * @param extent left, top, right and bottom of the area that the cells tile, as parts of the photo
   */
  constructor(values, place, [rows, columns], extent) {
    Object.assign(this, { values, rows, columns, extent });
    this.peak = [Math.floor(place / columns), place % columns];
  }

  /** Colours, interpolated between the centres of the cells. */
  paint(canvas, colours, aspect) {
    const [width, height] = [HEAT_WIDTH, Math.round(HEAT_WIDTH / aspect)];
    const [left, top, right, bottom] = this.extent;
    const xs = between(width, left, right, this.columns);
    const ys = between(height, top, bottom, this.rows);
    const pixels = new ImageData(width, height);
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) setColour(pixels, y * width + x, colours, this.at(ys[y], xs[x]));
    }
    Object.assign(canvas, { width, height });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  at([row, nextRow, down], [column, nextColumn, right]) {
    const above = row * this.columns;
    const below = nextRow * this.columns;
    const upper = this.values[above + column] * (1 - right) + this.values[above + nextColumn] * right;
    const lower = this.values[below + column] * (1 - right) + this.values[below + nextColumn] * right;
    return Math.round(upper * (1 - down) + lower * down);
  }

  /** A frame around the peak's cell and its neighbours, moved inwards at the border. */
  box() {
    const [row, column] = this.peak;
    const [left, top, right, bottom] = this.extent;
    const frame = element("span", { class: "box", "aria-hidden": "true" });
    const [x, width] = around(column, this.columns, left, right);
    const [y, height] = around(row, this.rows, top, bottom);
    const parts = { left: x, width, top: y, height };
    for (const [name, part] of Object.entries(parts)) frame.style[name] = `${(100 * part).toFixed(2)}%`;
    return frame;
  }
}

/** For each pixel of an axis: the cell before its centre, the one after, and how near it is to that. */
function between(pixels, start, end, cells) {
  return Array.from({ length: pixels }, (_, pixel) => {
    const place = (((pixel + 0.5) / pixels - start) / (end - start)) * cells - 0.5;
    const inside = Math.min(Math.max(place, 0), cells - 1);
    const before = Math.floor(inside);
    return [before, Math.min(before + 1, cells - 1), inside - before];
  });
}

function around(cell, cells, start, end) {
  const spacing = (end - start) / cells;
  const side = Math.min(1, PEAK_CELLS * spacing);
  return [Math.min(Math.max(0, start + (cell + 0.5) * spacing - side / 2), 1 - side), side];
}
