// What every page of the console does beside htmx: tokens of forms, ended sessions, charts, dialogs.
"use strict";

const meta = (name) => document.querySelector(`meta[name=${name}]`);

// ------------------------------------------------------------------------------------------------ forms and sessions
document.addEventListener("htmx:configRequest", (event) => {
  if (meta("csrf")) event.detail.headers["X-CSRF-Token"] = meta("csrf").content;
});

let interrupted = null; // the element whose request met an ended session

document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status !== 401) return;
  interrupted = event.detail.elt;
  const dialog = document.getElementById("sign-in-again");
  dialog.querySelector(".wrong").textContent = "";
  if (!dialog.open) dialog.showModal();
});

document.addEventListener("submit", async (event) => {
  if (!event.target.closest("#sign-in-again")) return;
  event.preventDefault();
  const dialog = document.getElementById("sign-in-again");
  const headers = { "HX-Request": "true" };
  const answer = await fetch("/console/sign-in", { method: "POST", body: new FormData(event.target), headers });
  if (!answer.ok) {
    const part = new DOMParser().parseFromString(await answer.text(), "text/html");
    dialog.querySelector(".wrong").textContent = part.querySelector("strong")?.textContent ?? "this key was not taken";
    return;
  }
  const { csrf } = await answer.json();
  meta("csrf").content = csrf;
  document.querySelectorAll("input[name=csrf]").forEach((field) => { field.value = csrf; });
  event.target.reset();
  dialog.close();
  if (interrupted) (interrupted.form ?? interrupted).dispatchEvent(new Event(trigger(interrupted), { bubbles: true, cancelable: true }));
});

const trigger = (element) => element.matches("form") || element.form ? "submit" : "click";

document.addEventListener("htmx:sendError", () => {
  const notice = document.createElement("p");
  notice.className = "notice";
  notice.textContent = "The server does not answer; nothing was sent. Try again.";
  document.getElementById("notices").replaceChildren(notice);
});

// ------------------------------------------------------------------------------------------------ dialogs
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens).showModal();
  if (event.target.closest("dialog button[value=cancel]")) event.target.closest("dialog").close();
  const filler = event.target.closest("[data-copies]");
  if (filler) navigator.clipboard?.writeText(document.getElementById(filler.dataset.copies).textContent);
});

// ------------------------------------------------------------------------------------------------ charts
// A chart draws the table beside it: the row's head is x (its data-value where it has one), the other cells are series.
const number = (cell) => { const value = cell.dataset.value ?? cell.textContent; return value === "" || isNaN(value) ? null : Number(value); };
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const HUES = ["--accent", "--warn", "--ok", "--bad"];

function draw(figure) {
  const plot = figure.querySelector(".plot");
  const own = [...figure.querySelectorAll("tbody tr")].filter((row) => !plot.contains(row)); // a legend is a table, too
  const rows = own.map((row) => [...row.cells].map(number));
  if (!rows.length || !plot.clientWidth) return;
  const names = [...figure.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
  const bars = figure.dataset.chart === "bars";
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const series = names.slice(1).map((label, i) => ({
    label, stroke: colour(HUES[i % HUES.length]), width: 2, spanGaps: true, points: { show: !bars && rows.length < 40 },
    ...(bars ? { fill: colour(HUES[i % HUES.length]), paths: uPlot.paths.bars({ size: [0.7, 24] }) } : {}),
  }));
  plot.replaceChildren();
  new uPlot({
    width: plot.clientWidth, height: Number(figure.dataset.height ?? 170), legend: { show: names.length > 2 }, cursor: { y: false },
    scales: { x: { time: figure.dataset.x !== "number" } }, series: [{}, ...series], axes: [axis, { ...axis, size: 56 }],
  }, names.map((_, column) => rows.map((row) => row[column])), plot);
}

// ------------------------------------------------------------------------------------------------ what is new on the page
function settle(root) {
  if (root.matches?.("[data-chart]")) draw(root);
  root.querySelectorAll?.("[data-chart]").forEach(draw);
  // What scrolls sideways has to be reached by the keyboard.
  root.querySelectorAll?.(".scroll, pre").forEach((box) => { if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; });
}
document.addEventListener("DOMContentLoaded", () => settle(document));
document.addEventListener("htmx:afterSettle", (event) => settle(event.target));
document.addEventListener("htmx:sseMessage", (event) => settle(event.target));
document.addEventListener("toggle", (event) => settle(event.target), true);
window.addEventListener("resize", () => settle(document));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => settle(document));
