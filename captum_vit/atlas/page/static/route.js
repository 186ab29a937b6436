// Where the reader is, as the part of the page's address after "#": `blocks.5:42&compare=../other&sort=ratio`.
"use strict";

const DEFAULTS = { sort: "address", show: "all", word: "", class: "", compare: "", with: "", up: "" };

/** What the page's address says: a place, which is a site, a neuron or nothing, and how to show it. */
function routeHere() {
  const parts = location.hash.slice(1).split("&");
  const place = parts[0].includes("=") ? "" : readable(parts.shift() ?? "");
  const given = new URLSearchParams(parts.join("&"));
  const route = { place };
  for (const [key, value] of Object.entries(DEFAULTS)) route[key] = given.get(key) ?? value;
  return route;
}

/** The address of a place, shown as at present but for what is changed. */
function linkTo(place, changed = {}) {
  const route = { ...routeHere(), with: "", ...changed };
  const parts = [encodeURI(place).replaceAll("&", "%26").replaceAll("=", "%3D").replaceAll("#", "%23")];
  for (const [key, value] of Object.entries(DEFAULTS)) {
    if (route[key] !== value) parts.push(`${key}=${encodeURIComponent(route[key]).replaceAll("%2F", "/")}`);
  }
  return `#${(parts[0] ? parts : parts.slice(1)).join("&")}`;
}

/** Show the same place otherwise, without a step in the history. */
function rewrite(changed) {
  history.replaceState(history.state, "", linkTo(routeHere().place, changed) || "#");
}

function readable(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a lone per cent sign
  }
}
