// The charts of a sweep over learning rates.
const rates = data.learning_rates;
// Of runs without a result: kind, name, symbol, colour.
const FAILURES = [["diverged", "diverged", "x-thin-open", "bad"], ["stopped", "given up", "triangle-down", "bad"],
  ["worse", "no better than untrained", "triangle-up-open", "bad"], ["overflowed", "held-out loss not finite", "square-open", "faint"]];
// The switches of each chart: name -> [label, on]. One that cannot be used is not shown.
const losses_by_rate = [data.validation, data.training, data.marks.map((mark) => mark.loss)];
const state = {
  curve: { runs: ["runs", true], x: ["log rate", true], y: ["log " + data.metric, data.metric === "loss" && wide(losses_by_rate)] },
  losses: { train: ["training", false], runs: ["every run", false], x: ["log epoch", false], y: ["log scale", data.metric === "loss" && wide([data.val_by_epoch])] },
  best: { y: ["log rate", true] },
  times: { x: ["log rate", true], y: ["log time", false] },
};
if (!positive(losses_by_rate)) delete state.curve.y;
if (!positive([data.val_by_epoch, data.train_by_epoch, data.start_loss])) delete state.losses.y;
if (data.runs.some((run) => run.val === null)) delete state.losses.runs;
if (!positive([data.runs.map((run) => run.seconds)])) delete state.times.y;
const on = (chart, name) => Boolean(state[chart][name] && state[chart][name][1]);

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
  if (known([data.training]).length) traces.push(...banded("training", "training", data.training, data.training_error));
  traces.push(...banded("validation", "validation", data.validation, data.validation_error));
  if (data.best_lr !== null) {
    const k = rates.indexOf(data.best_lr);
    traces.push({
      x: [rates[k]], y: [data.validation[k]], mode: "markers", name: "best " + rates[k].toPrecision(3),
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
    yaxis: { ...axis(data.metric, on("curve", "y"), losses_by_rate), overlaying: "y2" },
    yaxis2: { range: [0, 1], visible: false, fixedrange: true },
  })];
}

const low = Math.log10(rates[0]), high = Math.log10(rates[rates.length - 1]);

const shade = (rate) => blend(high > low ? (Math.log10(rate) - low) / (high - low) : 0.5);

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
    yaxis: axis(training ? "training loss" : "validation " + data.metric, on("losses", "y"), [chosen]),
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
start(charts, state);
