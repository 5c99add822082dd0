// The playground's turns, and its shortcut.
"use strict";

document.addEventListener("click", (event) => {
  const turns = document.getElementById("turns");
  if (event.target.closest("[data-adds-turn]")) {
    const added = document.getElementById("turn").content.cloneNode(true);
    const last = turns.querySelector(".turn:last-child select");
    added.querySelector("select").value = last?.value === "user" ? "assistant" : "user";
    turns.append(added);
    turns.querySelector(".turn:last-child textarea").focus();
  }
  const remover = event.target.closest("[data-removes-turn]");
  if (remover && turns.children.length > 1) {
    remover.closest(".turn").remove();
    turns.querySelector(".turn:last-child textarea").focus();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.closest("#ask")) {
    document.querySelector("#ask button[value=ask]").click();
  }
});

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.target.matches("#ask")) document.getElementById("notices").replaceChildren();
});
