"use strict";
// Draws the charts of the page from its data, in the colours of the reader's scheme, and sorts the table.
const data = JSON.parse(document.getElementById("data").textContent);
const rates = data.learning_rates;
// Of runs without a result: kind, name, symbol, colour.
const FAILURES = [["diverged", "diverged", "x-thin-open", "bad"], ["stopped", "given up", "triangle-down", "bad"],
  ["worse", "no better than untrained", "triangle-up-open", "bad"], ["overflowed", "held-out loss not finite", "square-open", "faint"]];
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
const wide = (values) => positive(values) && Math.max(...known(values)) > 3 * Math.min(...known(values));

// The switches of each chart: name -> [label, on]. One that cannot be used is not shown.
const losses_by_rate = [data.val_loss, data.train_loss, data.marks.map((mark) => mark.loss)];
const state = {
  curve: { runs: ["runs", true], x: ["log rate", true], y: ["log loss", wide(losses_by_rate)] },
  losses: { train: ["training", false], runs: ["every run", false], x: ["log epoch", false], y: ["log loss", wide([data.val_by_epoch])] },
  best: { y: ["log rate", true] },
  times: { x: ["log rate", true], y: ["log time", false] },
};
if (!positive(losses_by_rate)) delete state.curve.y;
if (!positive([data.val_by_epoch, data.train_by_epoch, data.start_loss])) delete state.losses.y;
if (data.runs.some((run) => run.val === null)) delete state.losses.runs;
if (!positive([data.runs.map((run) => run.seconds)])) delete state.times.y;
const on = (chart, name) => Boolean(state[chart][name] && state[chart][name][1]);

// Labels of a logarithmic axis: whole decades, or 1, 2, 5 within them, or what fits.
const step = (decades) => (decades >= 2 ? Math.ceil(decades / 8) : decades > 0.4 ? "D2" : undefined);

// An axis for these values.
function axis(title, log, values) {
  const line = colour("line"), all = known(values), ticks = { tickformat: ".3~g", minor: { ticks: "outside", ticklen: 3, tickcolor: line, dtick: "D1" } };
  return {
    title: { text: title, standoff: 8 }, type: log ? "log" : "linear", gridcolor: line, linecolor: line,
    zerolinecolor: line, tickcolor: line, automargin: true,
    ...(log && all.length ? { ...ticks, dtick: step(Math.log10(Math.max(...all) / Math.min(...all))) } : {}),
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

// --- the charts: each returns [traces, layout] ---

const sum = (a, b, sign) => a.map((x, k) => (x === null || b[k] === null ? null : x + sign * b[k]));

// Mean and band; a band ends where a rate has no mean.
function banded(name, label, means, errors) {
  const ink = colour(name), traces = [];
  let start = 0;
  while (start < means.length) {
    let end = start;
    while (end < means.length && means[end] !== null && errors[end] !== null) end += 1;
    if (end - start > 1) {
      const x = rates.slice(start, end), floor = on("curve", "y") ? Math.min(...known([means])) / 10 : -Infinity;
      const high = sum(means, errors, 1).slice(start, end);
      const low = sum(means, errors, -1).slice(start, end).map((y) => Math.max(y, floor));
      traces.push({
        x: [...x, ...[...x].reverse()], y: [...high, ...low.reverse()], fill: "toself", fillcolor: clear(ink, 0.18),
        line: { width: 0 }, mode: "lines", hoverinfo: "skip", showlegend: false, legendgroup: name,
      });
    }
    start = end + 1;
  }
  traces.push({
    x: rates, y: means, name: label, legendgroup: name, mode: "lines+markers", line: { color: ink, width: 2 },
    marker: { size: 6, color: ink }, customdata: errors.map((e) => (e === null ? "" : " ± " + e.toPrecision(2))),
    hovertemplate: "lr %{x:.3g}<br>" + label + " %{y:.4g}%{customdata}<extra></extra>",
  });
  return traces;
}

// An upright line on the second, hidden axis from 0 to 1: it needs no range of losses.
const upright = (x, name, ink, dash) => ({
  x: [x, x], y: [0, 1], yaxis: "y2", mode: "lines", name, line: { color: ink, dash, width: 1.5 },
  hovertemplate: name + "<extra></extra>",
});

function curve() {
  const traces = [];
  if (data.interval) {
    const [low, high] = data.interval, green = colour("interval");
    traces.push({
      x: [low, high, high, low, low], y: [0, 0, 1, 1, 0], yaxis: "y2", mode: "lines", fill: "toself", name: "as good as the best",
      fillcolor: clear(green, 0.14), line: { color: clear(green, 0.5), width: low === high ? 5 : 1 }, hoverinfo: "skip",
    });
    traces.push(upright(data.recommended_lr, "recommended " + data.recommended_lr.toPrecision(3), green, "dash"));
  }
  if (data.stability) {
    traces.push(upright(data.stability, "stability line " + data.stability.toPrecision(3), colour("bad"), "dot"));
  }
  if (on("curve", "runs")) {
    const shown = data.runs.filter((run) => run.loss !== null);
    traces.push({
      x: shown.map((run) => run.lr), y: shown.map((run) => run.loss), mode: "markers", name: "runs",
      marker: { size: 4, color: clear(colour("validation"), 0.45) }, text: shown.map((run) => run.seed),
      hovertemplate: "lr %{x:.3g}, seed %{text}<br>validation %{y:.4g}<extra></extra>",
    });
  }
  if (data.earlier) {
    traces.push({
      x: data.earlier.learning_rates, y: data.earlier.mean, mode: "lines+markers", name: "earlier sweep",
      line: { color: colour("soft"), width: 1.5, dash: "dot" }, marker: { size: 5, color: colour("soft"), symbol: "diamond-open" },
      hovertemplate: "earlier: lr %{x:.3g}<br>validation %{y:.4g}<extra></extra>",
    });
  }
  traces.push(...banded("training", "training", data.train_loss, data.train_error));
  traces.push(...banded("validation", "validation", data.val_loss, data.val_error));
  if (data.best_lr !== null) {
    const k = rates.indexOf(data.best_lr);
    traces.push({
      x: [rates[k]], y: [data.val_loss[k]], mode: "markers", name: "best " + rates[k].toPrecision(3),
      marker: { symbol: "star", size: 15, color: colour("validation"), line: { color: colour("card"), width: 1 } },
      hovertemplate: "best: lr %{x:.3g}<br>validation %{y:.4g}<extra></extra>",
    });
  }
  for (const [kind, name, symbol, ink] of [["eliminated", "eliminated", "circle-open", "faint"], ...FAILURES]) {
    const marked = data.marks.filter((mark) => mark.kind === kind);
    if (marked.length) {
      traces.push({
        x: marked.map((mark) => mark.lr), mode: "markers", name,
        // What was eliminated has a loss, if an early one; what failed stands on the ground.
        ...(kind === "eliminated" ? { y: marked.map((mark) => mark.loss) } : { y: marked.map(() => 0.03), yaxis: "y2" }),
        marker: { symbol, size: 9, color: colour(ink), line: { width: 2, color: colour(ink) } },
        text: marked.map((mark) => mark.text), hovertemplate: "lr %{x:.3g}<br>%{text}<extra></extra>",
      });
    }
  }
  const shown = data.stability ? [...rates, data.stability] : rates, log = on("curve", "x");
  const ends = [Math.min(...shown), Math.max(...shown)].map((x) => (log ? Math.log10(x) : x));
  const room = 0.03 * (ends[1] - ends[0] || 1);
  return [traces, layout({
    xaxis: { ...axis("learning rate", log, shown), range: [ends[0] - room, ends[1] + room] },
    yaxis: { ...axis("loss", on("curve", "y"), losses_by_rate), overlaying: "y2" },
    yaxis2: { range: [0, 1], visible: false, fixedrange: true },
  })];
}

const low = Math.log10(rates[0]), high = Math.log10(rates[rates.length - 1]);

// Colours of the rates, for which a straight scale would do only on one background; from the middle of the spectrum.
const SCALE = [[0, "#3b6fd4"], [0.25, "#1fa3a8"], [0.5, "#58b04a"], [0.75, "#e0a12c"], [1, "#d9445b"]];
function shade(rate) {
  const at = high > low ? (Math.log10(rate) - low) / (high - low) : 0.5;
  const k = Math.min(3, Math.floor(at * 4)), part = at * 4 - k;
  const mix = (i) => Math.round((1 - part) * parseInt(SCALE[k][1].slice(i, i + 2), 16) + part * parseInt(SCALE[k + 1][1].slice(i, i + 2), 16));
  return `rgb(${mix(1)},${mix(3)},${mix(5)})`;
}

function losses() {
  const training = on("losses", "train"), chosen = training ? data.train_by_epoch : data.val_by_epoch;
  const what = training ? "training" : "validation", first = training || on("losses", "x") ? 1 : 0;
  const every = on("losses", "runs");
  const lines = every
    ? data.runs.map((run) => [rates.indexOf(run.lr), training ? run.train : run.val, `, seed ${run.seed}`])
    : rates.map((rate, k) => [k, chosen[k], ""]);
  const traces = lines.map(([k, values, which]) => {
    const rate = rates[k], y = first ? values : [data.start_loss, ...values];
    return {
      x: y.map((_, epoch) => epoch + first), y, mode: every ? "lines" : "lines+markers", showlegend: false, marker: { size: 4 },
      line: { color: shade(rate), width: every ? 0.8 : rate === data.best_lr ? 3 : 1.5, dash: data.whole[k] ? "solid" : "dash" },
      hovertemplate: `lr ${rate.toPrecision(3)}${which}<br>epoch %{x}<br>${what} %{y:.4g}<extra></extra>`,
    };
  });
  const decades = [];
  for (let p = Math.ceil(low); p <= Math.floor(high); p += 1) decades.push(p);
  const ticks = decades.length > 1 ? decades : [low, high];
  traces.push({
    x: [null], y: [null], mode: "markers", showlegend: false, hoverinfo: "skip",
    marker: {
      color: [low], cmin: low, cmax: high > low ? high : low + 1, colorscale: SCALE, showscale: true,
      colorbar: {
        orientation: "h", y: -0.22, yanchor: "top", thickness: 9, outlinewidth: 0, title: { text: "learning rate", side: "bottom" },
        tickvals: ticks, ticktext: ticks.map((p) => String(Number((10 ** p).toPrecision(3)))),
      },
    },
  });
  const epochs = axis("epoch", on("losses", "x"), [1, data.epochs]);
  return [traces, layout({
    xaxis: { ...epochs, tickformat: "d", ...(data.epochs <= 10 ? { dtick: on("losses", "x") ? undefined : 1 } : {}) },
    yaxis: axis(what + " loss", on("losses", "y"), [chosen]),
  })];
}

function best() {
  const epochs = data.best_by_epoch.map((_, k) => k + 1), green = colour("interval");
  const traces = [{
    x: epochs, y: data.best_by_epoch, mode: "lines+markers", name: "best", line: { color: colour("validation"), width: 2, shape: "hvh" },
    marker: { size: 8 }, hovertemplate: "after epoch %{x}: lr %{y:.3g}<extra></extra>", showlegend: false,
  }];
  if (data.recommended_lr !== null) {
    traces.push({
      x: [1, data.epochs], y: [data.recommended_lr, data.recommended_lr], mode: "lines", showlegend: false,
      line: { color: green, dash: "dash", width: 1.5 }, hovertemplate: "recommended %{y:.3g}<extra></extra>",
    });
  }
  const log = on("best", "y"), ends = [rates[0], rates[rates.length - 1]].map((x) => (log ? Math.log10(x) : x));
  const room = 0.05 * (ends[1] - ends[0] || 1);
  return [traces, layout({
    xaxis: { ...axis("epoch", false, []), tickformat: "d", ...(data.epochs <= 10 ? { dtick: 1 } : {}) },
    yaxis: { ...axis("learning rate", log, rates), range: [ends[0] - room, ends[1] + room] },
  })];
}

function times() {
  const kinds = [["finished", "finished", "circle", "validation"], ["eliminated", "eliminated", "circle-open", "faint"],
    ["open", "open", "diamond-open", "faint"], ...FAILURES];
  const traces = kinds.map(([kind, name, symbol, ink]) => {
    const runs = data.runs.filter((run) => run.kind === kind);
    return {
      x: runs.map((run) => run.lr), y: runs.map((run) => run.seconds), mode: "markers", name,
      marker: { color: colour(ink), size: 7, symbol, opacity: 0.8, line: { width: 1.5, color: colour(ink) } }, text: runs.map((run) => run.text),
      hovertemplate: "lr %{x:.3g}, %{text}<br>%{y:.3~s}s<extra>" + name + "</extra>",
    };
  }).filter((trace) => trace.x.length);
  return [traces, layout({
    xaxis: axis("learning rate", on("times", "x"), rates),
    yaxis: { ...axis("seconds a run", on("times", "y"), [data.runs.map((run) => run.seconds)]), ...(on("times", "y") ? {} : { rangemode: "tozero" }) },
    showlegend: true,
  })];
}

const charts = { curve, losses, best, times };
const buttons = [["zoom2d", "pan2d", "resetScale2d", "toImage"]];

function draw(name) {
  const [traces, look] = charts[name]();
  Plotly.react(name, traces, look, { responsive: true, displaylogo: false, displayModeBar: narrow() ? false : "hover", modeBarButtons: buttons });
}

const drawAll = () => Object.keys(charts).forEach(draw);

for (const box of document.querySelectorAll(".switches")) {
  const name = box.dataset.chart;
  for (const [key, [label]] of Object.entries(state[name])) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.dataset.key = key;
    button.setAttribute("aria-pressed", on(name, key));
    button.addEventListener("click", () => {
      state[name][key][1] = !state[name][key][1];
      button.setAttribute("aria-pressed", on(name, key));
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

// --- the table: cells hold their number in data-value; what has none stays at the end ---

const table = document.getElementById("rates");
table.tHead.addEventListener("click", (event) => {
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
