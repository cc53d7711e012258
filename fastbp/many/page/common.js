"use strict";
// What all pages share: colours of the reader's scheme, axes, charts with their switches, tables to sort.
const data = JSON.parse(document.getElementById("data").textContent);
const narrow = () => window.innerWidth < 560;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

// "#rrggbb" with an opacity.
function clear(hex, opacity) {
  const part = (at) => parseInt(hex.slice(at, at + 2), 16);
  return `rgba(${part(1)},${part(3)},${part(5)},${opacity})`;
}

const known = (values) => values.flat(9).filter((x) => x !== null);
const positive = (values) => known(values).every((x) => x > 0);
// A logarithmic axis where the values ask for one.
const least = (values) => known(values).reduce((a, b) => Math.min(a, b), Infinity);
const most = (values) => known(values).reduce((a, b) => Math.max(a, b), -Infinity);
const wide = (values) => positive(values) && most(values) > 3 * least(values);

// Labels of a logarithmic axis: whole decades, or 1, 2, 5 within them, or what fits.
const step = (decades) => (decades >= 2 ? Math.ceil(decades / 8) : decades > 0.4 ? "D2" : undefined);

// An axis for these values.
function axis(title, log, values) {
  const line = colour("line"), all = known(values), ticks = { tickformat: ".3~g", minor: { ticks: "outside", ticklen: 3, tickcolor: line, dtick: "D1" } };
  return {
    title: { text: title, standoff: 8 }, type: log ? "log" : "linear", gridcolor: line, linecolor: line,
    zerolinecolor: line, tickcolor: line, automargin: true,
    ...(log && all.length ? { ...ticks, dtick: step(Math.log10(most(all) / least(all))) } : {}),
  };
}

// After a zoom the labels are those that fit what is seen.
function relabel(chart, change) {
  const wanted = {};
  for (const name of ["xaxis", "yaxis"]) {
    const shown = chart.layout[name];
    if (shown.type !== "log" || !Object.keys(change).some((key) => key.startsWith(name + ".range") || key === name + ".autorange")) continue;
    const dtick = step(shown.range[1] - shown.range[0]);
    if (dtick !== shown.dtick) wanted[name + ".dtick"] = dtick === undefined ? null : dtick;
  }
  if (Object.keys(wanted).length) Plotly.relayout(chart, wanted);
}

function layout(extra) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
    font: { family: "system-ui, sans-serif", size: narrow() ? 11 : 12, color: colour("soft") },
    margin: { l: narrow() ? 44 : 60, r: narrow() ? 8 : 16, t: 10, b: 44 },
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("text") } },
    legend: { orientation: "h", y: -0.2, yanchor: "top", x: 0 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("faint"), activecolor: colour("accent") },
    ...extra,
  };
}

// Colours of a range, for which a straight scale would do only on one background; from the middle of the spectrum.
const SCALE = [[0, "#3b6fd4"], [0.25, "#1fa3a8"], [0.5, "#58b04a"], [0.75, "#e0a12c"], [1, "#d9445b"]];
// The colour at a fraction of the way.
function blend(at) {
  const k = Math.min(3, Math.floor(at * 4)), part = at * 4 - k;
  const mix = (i) => Math.round((1 - part) * parseInt(SCALE[k][1].slice(i, i + 2), 16) + part * parseInt(SCALE[k + 1][1].slice(i, i + 2), 16));
  return `rgb(${mix(1)},${mix(3)},${mix(5)})`;
}

// Draw charts, functions by name that return [traces, layout], and make their switches: name -> [label, on].
function start(charts, state) {
  const buttons = [["zoom2d", "pan2d", "resetScale2d", "toImage"]];
  const draw = (name) => {
    const [traces, look] = charts[name]();
    Plotly.react(name, traces, look, { responsive: true, displaylogo: false, displayModeBar: narrow() ? false : "hover", modeBarButtons: buttons });
  };
  const drawAll = () => Object.keys(charts).forEach(draw);
  for (const box of document.querySelectorAll(".switches")) {
    const name = box.dataset.chart;
    for (const [key, entry] of Object.entries(state[name] || {})) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = entry[0];
      button.dataset.key = key;
      button.setAttribute("aria-pressed", entry[1]);
      button.addEventListener("click", () => {
        entry[1] = !entry[1];
        button.setAttribute("aria-pressed", entry[1]);
        draw(name);
      });
      box.append(button);
    }
  }
  drawAll();
  for (const name of Object.keys(charts)) {
    const chart = document.getElementById(name);
    chart.on("plotly_relayout", (change) => relabel(chart, change));
  }
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  window.matchMedia("(max-width: 559px)").addEventListener("change", drawAll);
}

// --- the table: cells hold their number in data-value; what has none stays at the end ---

for (const table of document.querySelectorAll("table.sortable")) table.tHead.addEventListener("click", (event) => {
  const head = event.target.closest("th");
  if (!head) return;
  const column = head.cellIndex, down = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = (row) => row.cells[column].dataset.value;
  const compare = (a, b) => {
    const [left, right] = [value(a), value(b)];
    if (left === "" || right === "") return (left === "") - (right === "");
    const order = head.dataset.kind === "text" ? left.localeCompare(right) : Number(left) - Number(right);
    return down ? -order : order;
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(compare));
});
