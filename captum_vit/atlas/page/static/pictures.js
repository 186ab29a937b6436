// Single tiles out of sheets of many, drawn when their sheet is there.
//
// Browsers keep decoded images for long, and a wall that is sorted passes through thousands of sheets. Bitmaps are the
// page's own to close: a few are there at a time, a few stay for their neighbours, and what nobody waits for is skipped.
"use strict";

const [LOADED_AT_A_TIME, IDLE_KEPT] = [4, 4];

class Pictures {
  constructor(base) {
    this.base = base;
    this.sheets = new Map(); // by path; those that no tile waits for in the order in which they came to rest
    this.lanes = new Array(LOADED_AT_A_TIME).fill(Promise.resolve());
    this.lane = 0;
  }

  /** A canvas that shows one tile of a sheet [path, columns, rows]; its shape is known before the sheet is there. */
  tile(sheet, number, aspect, label) {
    const canvas = element("canvas", label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" });
    canvas.style.aspectRatio = aspect;
    canvas.ready = this.draw(canvas, sheet, number);
    return canvas;
  }

  async draw(canvas, [path, columns, rows], number) {
    const sheet = this.sheets.get(path) ?? this.load(path);
    sheet.waiting.add(canvas);
    try {
      const bitmap = await sheet.bitmap;
      const width = bitmap.width / columns;
      const height = bitmap.height / rows;
      const left = (number % columns) * width;
      const top = Math.floor(number / columns) * height;
      Object.assign(canvas, { width, height });
      canvas.getContext("2d").drawImage(bitmap, left, top, width, height, 0, 0, width, height);
    } catch {
      canvas.classList.add("lost");
      canvas.setAttribute("title", `${path} cannot be shown`);
    }
    sheet.waiting.delete(canvas);
    if (!sheet.waiting.size) this.rest(path, sheet);
  }

  /** Load a sheet when its turn comes, after others in its lane have been drawn from. */
  load(path) {
    const sheet = { waiting: new Set() };
    sheet.bitmap = this.lanes[this.lane].then(() => this.loaded(path, sheet));
    sheet.drawn = new Promise((resolve) => {
      sheet.isDrawn = resolve;
    });
    this.lanes[this.lane] = sheet.drawn;
    this.lane = (this.lane + 1) % LOADED_AT_A_TIME;
    this.sheets.set(path, sheet);
    return sheet;
  }

  async loaded(path, { waiting }) {
    if ([...waiting].every((canvas) => canvas.gone)) throw new Error(`nobody waits for ${path}`);
    const image = new Image();
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = () => reject(new Error(`${path} is not there`));
      image.src = this.base + urlOf(path);
    });
    return createImageBitmap(image);
  }

  /** Keep a sheet that was drawn from for a while, and let those go that have been kept longest. */
  rest(path, sheet) {
    sheet.isDrawn();
    if (this.sheets.get(path) !== sheet) return;
    this.sheets.delete(path);
    this.sheets.set(path, sheet);
    const idle = [...this.sheets].filter(([, { waiting }]) => !waiting.size);
    for (const [other, { bitmap }] of idle.slice(0, -IDLE_KEPT)) {
      this.sheets.delete(other);
      bitmap.then((closed) => closed.close(), () => {});
    }
    sheet.bitmap.catch(() => this.sheets.get(path) === sheet && this.sheets.delete(path)); // may be there another time
  }
}
