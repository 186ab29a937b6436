// Keys: "/" to the address, arrows over the wall and from card to card, Esc back.
"use strict";

function listenToKeys({ wall, isCard, step, back }) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "Escape") {
      if (byId("about").open) close(event);
      else if (typing) typing.blur();
      else if (isCard()) back();
      return;
    }
    if (typing) return;
    if (event.key === "/") {
      event.preventDefault();
      byId("address").focus();
      byId("address").select();
    } else if (isCard()) {
      if (event.key === "ArrowLeft") step(-1);
      if (event.key === "ArrowRight") step(1);
    } else if (event.target.matches("a.tile") && wall.move(event.key)) {
      event.preventDefault();
    }
  });
}

function close(event) {
  event.preventDefault();
  byId("about").open = false;
  byId("about").querySelector("summary").focus();
}
