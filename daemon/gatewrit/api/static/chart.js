// Packets a second of one order, from what the page has read since it was opened.

import { span } from "./times.js";

const WIDTH = 600;
const HEIGHT = 100;
const KEPT = 180;
const readings = [];

export function read(now) {
  const shown = document.querySelector("[data-packets]");
  if (shown === null) return;
  const last = readings.at(-1);
  if (last !== undefined && last.now >= now) return;
  readings.push({ now, packets: Number(shown.dataset.packets) });
  if (readings.length > KEPT) readings.shift();
  if (readings.length > 2) draw();
}

function draw() {
  const rates = readings.slice(1).map((each, index) => ({
    now: each.now,
    rate: Math.max(0, each.packets - readings[index].packets) / (each.now - readings[index].now),
  }));
  const first = rates[0].now;
  const length = rates.at(-1).now - first || 1;
  const most = Math.max(1, ...rates.map((each) => each.rate));
  const points = rates.map((each) => [(WIDTH * (each.now - first)) / length, HEIGHT - (HEIGHT * each.rate) / most]);
  const path = points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  const figure = document.querySelector("#chart");
  const svg = figure.querySelector("svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.replaceChildren(shape(`${path}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z`, "area"), shape(path, "rate"));
  const rate = rates.at(-1).rate;
  figure.querySelector("figcaption").textContent =
    `Now ${figures(rate)} packets a second, at most ${figures(most)} in the last ${span(length)}`;
  figure.hidden = false;
}

function shape(d, kind) {
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", d);
  path.setAttribute("class", kind);
  return path;
}

function figures(rate) {
  return rate.toLocaleString("en", { maximumFractionDigits: rate < 10 ? 1 : 0 }).replaceAll(",", "\u202f");
}
