// A release's thresholds: the slider picks a line of the table, whose numbers stand beside those of now.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const part = document.querySelector("[data-thresholds]");
  if (!part) return;
  const slider = part.querySelector("input[type=range]");
  const wanted = part.querySelector("input[name=threshold]");
  const rows = [...part.querySelectorAll("details tbody tr")];
  const thresholds = rows.map((row) => Number(row.cells[0].dataset.value));
  const fields = ["rejected", "accuracy", "false_reject", "background_reject"];
  const write = (name, text) => { part.querySelector(`[data-at=${name}]`).textContent = text; };

  const show = (at) => {
    fields.forEach((name, column) => write(name, rows[at].cells[column + 1].textContent));
    write("threshold", String(Number(thresholds[at].toFixed(5))));
    slider.setAttribute("aria-valuetext", thresholds[at]);
  };
  slider.addEventListener("input", () => {
    wanted.value = thresholds[slider.value];
    write("command", wanted.value);
    show(Number(slider.value));
  });
  wanted.addEventListener("input", () => {
    const distances = thresholds.map((threshold) => Math.abs(threshold - Number(wanted.value)));
    slider.value = distances.indexOf(Math.min(...distances));
    write("command", wanted.value);
    show(Number(slider.value));
  });
  slider.value = slider.getAttribute("value"); // browsers keep a slider's place over a reload
  slider.closest("label").hidden = false;
});

// A refusal stands above the page: the dialog that asked makes way for it.
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 401) return;
  event.target.closest("dialog")?.close();
  document.getElementById("notices").scrollIntoView({ block: "nearest" });
});
