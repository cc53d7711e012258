"use strict";
// The network to point at, and the descent at the learning rate of the slider. All numbers were computed by fastbp.
const data = JSON.parse(document.getElementById("data").textContent);
const number = (value) => value === null ? "not finite" : String(Math.abs(value) >= 1e5 && Math.abs(value) < 1e7 ? Math.round(value) : Number(value.toPrecision(5)));
const network = document.querySelector("svg.network"), told = document.getElementById("told");
const slider = document.getElementById("rate");
let shown = null;

function tell(element) {
  shown = element;
  let text = element.dataset.told;
  const moved = data.moved[slider.value], k = element.dataset.k;
  if (moved && k !== undefined) text += `; one step at the learning rate ${number(data.rates[slider.value])} makes it ${number(moved[k])}`;
  told.textContent = text + ".";
}
for (const kind of ["pointerover", "focusin"])
  network.addEventListener(kind, (event) => { const found = event.target.closest("[data-told]"); if (found) tell(found); });
for (const button of document.querySelectorAll("#shown button"))
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll("#shown button")) other.setAttribute("aria-pressed", String(other === button));
    network.classList.toggle("weights", button.dataset.kind === "weights");
    network.classList.toggle("gradients", button.dataset.kind === "gradients");
  });

// --- charts --------------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg", WIDE = 520, HIGH = 300, LEFT = 62, RIGHT = 14, TOP = 12, BOTTOM = 40;
function add(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.appendChild(made);
  return made;
}
const known = data.costs.flat().filter((one) => one !== null), first = data.costs[0][0];
// A scale of factors where costs fall by many of them; six are enough to see.
const least = Math.min(...known), factors = least >= 0 && first > 0 && least < first / 20;
const low = factors ? Math.max(least, first / 1e6) : least - 0.05 * (first - least), high = factors ? first * 10 : first + 0.6 * (first - least || 1);
const level = (cost) => {
  if (cost === null) return -30;
  const part = factors ? Math.log(Math.max(cost, low) / low) / Math.log(high / low) : (cost - low) / (high - low);
  return Math.max(TOP + (1 - part) * (HIGH - TOP - BOTTOM), -30);
};
function frame(id, title, marks, place) {
  const svg = document.getElementById(id);
  svg.replaceChildren();
  const clip = add(add(svg, "clipPath", { id: id + "-inside" }), "rect", { x: LEFT, y: 0, width: WIDE - LEFT, height: HIGH - BOTTOM + 4 });
  const ticks = factors ? [1, 1e-2, 1e-4, 1e-6].map((one) => first * one).filter((one) => one >= low * 0.99) : [least, (least + first) / 2, first];
  for (const cost of ticks) {
    add(svg, "line", { class: "grid", x1: LEFT, x2: WIDE - RIGHT, y1: level(cost), y2: level(cost) });
    add(svg, "text", { x: LEFT - 6, y: level(cost) + 4, "text-anchor": "end" }, brief(cost));
  }
  for (const mark of marks) add(svg, "text", { x: place(mark), y: HIGH - BOTTOM + 18, "text-anchor": "middle" }, brief(mark));
  add(svg, "text", { x: (LEFT + WIDE) / 2, y: HIGH - 4, "text-anchor": "middle" }, title);
  return add(svg, "g", { "clip-path": `url(#${id}-inside)` });
}
const brief = (one) => one !== 0 && Math.abs(one) < 1e-2 ? one.toExponential(1).replace(/\.0(?=e)/, "") : String(Number(one.toPrecision(3)));
const path = (points) => points.map(([x, y], k) => `${k ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");

function draw() {
  const at = Number(slider.value), run = data.costs[at], steps = run.length - 1, rate = data.rates[at];
  const across = (step) => LEFT + (WIDE - LEFT - RIGHT) * step / steps;
  const marks = [0, 1, 2, 3, 4, 5].map((k) => Math.round(k * steps / 5));
  const left = frame("steps", "steps", marks, across);
  const there = run.findIndex((one) => one === null), points = run.slice(0, there < 0 ? run.length : there + 1).map((cost, k) => [across(k), level(cost)]);
  add(left, "path", { class: "run", d: path(points) });
  for (const [x, y] of points) add(left, "circle", { class: "dot", cx: x, cy: y, r: 3 });

  const ends = Math.log(data.rates.at(-1) / data.rates[0]);
  const along = (one) => LEFT + 14 + (WIDE - LEFT - RIGHT - 28) * Math.log(one / data.rates[0]) / ends;
  const decades = data.rates.filter((_, k) => (k - data.chosen) % data.decade === 0);
  const right = frame("rates", "learning rate", decades, along);
  add(right, "line", { class: "at", x1: along(rate), x2: along(rate), y1: 0, y2: HIGH - BOTTOM });
  add(right, "path", { class: "once", d: path(data.rates.map((one, k) => [along(one), level(data.costs[k][1])])) });
  add(right, "path", { class: "run", d: path(data.rates.map((one, k) => [along(one), level(data.costs[k].at(-1))])) });

  const word = data.verdicts[at], good = word === "comes down", strong = document.createElement("strong");
  strong.className = good ? "good" : "bad";
  strong.textContent = word;
  const more = data.words[word] ? `: ${data.words[word]}` : "";
  const text = `${more}. J is ${number(first)} before, ${number(run[1])} after one step, ${number(run.at(-1))} after ${steps}.`;
  document.getElementById("verdict").replaceChildren(`At ${number(rate)} it `, strong, text);
  document.getElementById("rate-shown").textContent = number(rate);
  slider.setAttribute("aria-valuetext", `${number(rate)}: ${word}`);
  if (shown) tell(shown);
}
if (data.rates.length) {
  slider.addEventListener("input", draw);
  draw();
}
