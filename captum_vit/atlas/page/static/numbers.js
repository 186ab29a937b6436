// Numbers in words.
"use strict";

/** A measured value in three digits, with a true minus sign; a dash where there is none. */
function digits(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return String(Number(value.toPrecision(3))).replaceAll("-", "−");
}

/** How many times as large as something, in two decimals where that says enough. */
function times(value) {
  if (!Number.isFinite(value)) return "–";
  return `${Math.abs(value) >= 0.1 && Math.abs(value) < 10 ? value.toFixed(2).replace("-", "−") : digits(value)}×`;
}

/** A count with its noun. */
function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
