"use strict";
const form = document.querySelector("form");
const cards = [...document.querySelectorAll("article")];

function filter() {
  const site = form.elements.site.value;
  const address = form.elements.address.value.trim().toLowerCase();
  let shown = 0;
  for (const card of cards) {
    card.hidden = (site !== "" && card.dataset.site !== site) || !card.dataset.address.toLowerCase().includes(address);
    shown += card.hidden ? 0 : 1;
  }
  document.querySelector(".none").hidden = shown > 0;
  form.querySelector("output").value = `${shown} of ${cards.length} cards`;
}

form.addEventListener("input", filter);
// A form's own reset comes after the event and also resets the count, before the cards are back.
form.addEventListener("reset", (event) => {
  event.preventDefault();
  form.elements.site.value = "";
  form.elements.address.value = "";
  filter();
});
form.addEventListener("submit", (event) => event.preventDefault());
form.hidden = false;
filter(); // a reloaded page keeps what its fields held
