// The keys of the inbox. They count while the focus is in its list, so that nobody labels by accident.
"use strict";

const cards = () => [...document.querySelectorAll("#inbox article")];
const cardOf = (element) => element?.closest?.("#inbox article");

function go(card) {
  if (!card) return;
  card.focus({ preventScroll: true });
  card.scrollIntoView({ block: "nearest" });
}

function step(from, by) {
  const all = cards();
  go(all[all.indexOf(from) + by]);
}

function goOn(from) {
  const all = cards();
  go(all.slice(all.indexOf(from) + 1).find((card) => !card.dataset.judged && !card.classList.contains("skipped")) ?? from);
}

function skip(card) {
  card.classList.add("skipped");
  goOn(card);
}

function search(card) {
  document.getElementById("search-job").value = card.id.replace("card-", "");
  const wanted = document.getElementById("wanted");
  wanted.value = "";
  document.getElementById("label-search").showModal();
  htmx.trigger(wanted, "opened");
}

document.addEventListener("keydown", (event) => {
  if (event.target.id === "wanted" && event.key === "Enter") {
    event.preventDefault();
    document.querySelector("#labels-found button")?.click();
  }
  const card = cardOf(event.target);
  if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
  const acts = { j: () => step(card, 1), k: () => step(card, -1), s: () => skip(card), "/": () => search(card) };
  const button = card.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  const act = acts[event.key] ?? (button && (() => button.click()));
  if (!act) return;
  event.preventDefault();
  act();
});

document.addEventListener("click", (event) => {
  const card = cardOf(event.target);
  if (card && event.target.closest("[data-opens-search]")) search(card);
  if (card && event.target.closest("[data-skips]")) skip(card);
  if (event.target.closest("[data-picks]")) document.getElementById("label-search").close();
});

// A judged card gives the focus to the next one; one that was taken back keeps it.
document.addEventListener("htmx:afterSettle", (event) => {
  const card = cardOf(event.target);
  if (card) card.dataset.judged ? goOn(card) : go(card);
});
document.addEventListener("DOMContentLoaded", () => go(cards()[0]));
