// Single tiles out of sheets of many, drawn when their sheet is there.
//
// Browsers keep decoded images for long, and a wall that is sorted passes through thousands of sheets. Bitmaps are the
// page's own to close: a few sheets stay for their neighbours, all others are let go as soon as they are drawn from.
"use strict";

const IDLE_SHEETS_KEPT = 8;

class Pictures {
  constructor(base) {
    this.base = base;
    this.sheets = new Map(); // those without a waiting tile in the order in which they came to rest
  }

  /** A canvas that shows one tile of a sheet [path, columns, rows]; its shape is known before the sheet is there. */
  tile(sheet, number, aspect, label) {
    const canvas = element("canvas", label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" });
    canvas.style.aspectRatio = aspect;
    canvas.ready = this.draw(canvas, sheet, number);
    return canvas;
  }

  async draw(canvas, [path, columns, rows], number) {
    const sheet = this.taken(path);
    try {
      const bitmap = await sheet.bitmap;
      const width = bitmap.width / columns;
      const height = bitmap.height / rows;
      const left = (number % columns) * width;
      const top = Math.floor(number / columns) * height;
      Object.assign(canvas, { width, height });
      canvas.getContext("2d").drawImage(bitmap, left, top, width, height, 0, 0, width, height);
    } catch {
      this.sheets.delete(path); // may be there when asked for again
      canvas.classList.add("lost");
      canvas.setAttribute("title", `${path} cannot be shown`);
    } finally {
      this.left(path, sheet);
    }
  }

  taken(path) {
    const sheet = this.sheets.get(path) ?? { bitmap: this.load(path), waiting: 0 };
    this.sheets.set(path, sheet);
    sheet.waiting += 1;
    return sheet;
  }

  left(path, sheet) {
    sheet.waiting -= 1;
    if (sheet.waiting || this.sheets.get(path) !== sheet) return;
    this.sheets.delete(path);
    this.sheets.set(path, sheet);
    const idle = [...this.sheets].filter(([, { waiting }]) => !waiting);
    for (const [other, { bitmap }] of idle.slice(0, -IDLE_SHEETS_KEPT)) {
      this.sheets.delete(other);
      bitmap.then((closed) => closed.close(), () => {});
    }
  }

  async load(path) {
    const image = new Image();
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = () => reject(new Error(`${path} is not there`));
      image.src = this.base + urlOf(path);
    });
    return createImageBitmap(image);
  }
}
