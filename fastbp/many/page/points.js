// The charts of a sweep over settings: one for each setting, and every run by epoch.
const metric = data.metric;
const state = { runs: { train: ["training", false], x: ["log epoch", false], y: ["log loss", wide([data.runs.map((run) => run.val)])] } };
if (!positive([data.runs.map((run) => [run.val, run.train])])) delete state.runs.y;
const on = (chart, name) => Boolean(state[chart] && state[chart][name] && state[chart][name][1]);

// The metric by one setting: every run, and means of points with their errors; what is as good as the best in another colour.
function setting(number) {
  const axisOf = data.settings[number], x = axisOf.at, all = data.points.map((point) => point.scores);
  const at = (k) => (axisOf.numeric ? axisOf.values[x[k]] : x[k]);
  const dots = data.points.flatMap((point, k) => point.scores.map((score, s) => [at(k), score, k, s])).filter((dot) => dot[1] !== null);
  const means = (wanted) => data.points.map((_, k) => k).filter((k) => data.points[k].mean !== null && data.points[k].kind === wanted);
  const traces = [{
    x: dots.map((dot) => dot[0]), y: dots.map((dot) => dot[1]), mode: "markers", name: "runs", marker: { size: 4, color: clear(colour("validation"), 0.45) },
    text: dots.map((dot) => `${data.points[dot[2]].name}, seed ${data.seeds[dot[3]]}`), hovertemplate: `%{text}<br>${metric} %{y:.4g}<extra></extra>`,
  }];
  for (const [kind, label, ink, symbol, size] of [["", "means", "validation", "circle", 8], ["inside", "as good as the best", "interval", "circle", 9], ["best", "best", "interval", "star", 15]]) {
    const chosen = means(kind);
    if (!chosen.length) continue;
    traces.push({
      x: chosen.map(at), y: chosen.map((k) => data.points[k].mean), mode: "markers", name: label,
      error_y: { type: "data", array: chosen.map((k) => data.points[k].error || 0), color: colour(ink), thickness: 1, width: 3 },
      marker: { size, symbol, color: colour(ink), line: { width: 1, color: colour("card") } },
      text: chosen.map((k) => data.points[k].name), hovertemplate: `%{text}<br>${metric} %{y:.4g}<extra>${label}</extra>`,
    });
  }
  const log = axisOf.numeric && axisOf.values.every((one) => one > 0) && wide([axisOf.values]);
  const few = axisOf.words.length <= 6;
  const names = axisOf.numeric ? (few ? { tickvals: axisOf.values, ticktext: axisOf.words } : {}) : { tickvals: axisOf.words.map((_, k) => k), ticktext: axisOf.words };
  return [traces, layout({ xaxis: { ...axis(axisOf.name, log, axisOf.numeric ? axisOf.values : []), ...names }, yaxis: axis(metric, data.larger ? false : wide([all]), all), showlegend: number === 0 })];
}

function runs() {
  const epochs = most([data.runs.map((run) => (run.val || []).length), 1]);
  const training = on("runs", "train"), n = Math.max(1, data.points.length - 1);
  const traces = data.runs.filter((run) => run.val !== null).map((run) => {
    const point = data.points[run.point], y = training ? run.train : run.val;
    return {
      x: y.map((_, epoch) => epoch + 1), y, mode: y.length > 1 ? "lines" : "markers", showlegend: false,
      line: { color: blend(point.rank / n), width: point.kind === "best" ? 2.5 : 0.8, dash: run.ended ? "solid" : "dash" },
      hovertemplate: `${point.name}, seed ${run.seed}<br>epoch %{x}<br>loss %{y:.4g}<extra></extra>`,
    };
  });
  return [traces, layout({
    xaxis: { ...axis("epoch", on("runs", "x"), [1, epochs]), tickformat: "d", ...(epochs <= 10 ? { dtick: on("runs", "x") ? undefined : 1 } : {}) },
    yaxis: axis(training ? "training loss" : "validation loss", on("runs", "y"), [data.runs.map((run) => (training ? run.train : run.val))]),
  })];
}

const charts = { runs, ...Object.fromEntries(data.settings.map((_, k) => [`setting${k}`, () => setting(k)])), ...(data.map ? { heat } : {}) };
start(charts, state);
