// The map of two settings.
function heat() {
  const map = data.map, line = colour("line"), [row, column] = map.best;
  const named = (title, names) => ({
    title: { text: title, standoff: 8 }, tickvals: names.map((_, k) => k), ticktext: names, gridcolor: line, linecolor: line,
    zeroline: false, automargin: true,
  });
  return [[{
    type: "heatmap", z: map.levels, colorscale: "Viridis", reversescale: !map.larger, hoverongaps: false, text: map.losses,
    customdata: map.losses.map((losses, i) => losses.map((_, j) => [map.rows[i], map.columns[j]])),
    hovertemplate: `${map.names[0]} %{customdata[0]}<br>${map.names[1]} %{customdata[1]}<br>%{text:.4g}<extra></extra>`,
    colorbar: { title: { text: map.what, side: "right" }, thickness: 10, outlinewidth: 0 },
  }], layout({
    xaxis: named(map.names[1], map.columns), yaxis: named(map.names[0], map.rows),
    shapes: row === undefined ? [] : [{
      type: "rect", x0: column - 0.5, x1: column + 0.5, y0: row - 0.5, y1: row + 0.5, line: { color: colour("bad"), width: 3 },
    }],
  })];
}
