// Data Whisperer's own settings, where runs vary them.

function missing(what, command) {
  return [{ note: `No two runs here differ in ${what} alone. To get them: ${command}` }];
}

function drawAblations() {
  const { grids, layers, commands } = current();
  const here = (groups) => groups.filter((group) => inBudget(group.budget));
  const scoredCells = (group) => group.cells.filter((cell) => current().rows[cell[cell.length - 1]].scores[state.metric]);
  const pairs = here(grids).filter((group) => scoredCells(group).length > 1);
  const curves = here(layers).filter((group) => scoredCells(group).length > 1);
  drawAll("f-grid", pairs.length ? pairs.map((group) => gridPlot(group, scoredCells(group))) : missing("n_d and n_q", commands.grid));
  drawAll("f-layer", curves.length ? curves.map((group) => layerPlot(group, scoredCells(group))) : missing("the attention layer", commands.layer));
}

function gridPlot(group, cells) {
  const demonstrations = unique(cells.map((cell) => cell[0])).sort((a, b) => a - b);
  const queries = unique(cells.map((cell) => cell[1])).sort((a, b) => a - b);
  const at = (d, q) => { const cell = cells.find((one) => one[0] === d && one[1] === q); return cell ? current().rows[cell[2]] : null; };
  const each = (of) => demonstrations.map((d) => queries.map((q) => { const row = at(d, q); return row ? of(row) : null; }));
  return {
    label: `${metricName()} by demonstrations and queries a prompt, ${rowsOf(group.budget)}.`,
    traces: [{
      type: "heatmap", x: queries.map(plain), y: demonstrations.map(plain), z: each((row) => row.scores[state.metric][0]),
      text: each((row) => scored(row.scores[state.metric])), texttemplate: "%{text}", customdata: each((row) => row.runs[0]),
      hovertext: each(hover), hoverinfo: "text", colorscale: "Cividis", reversescale: arrow() === "↓", xgap: 2, ygap: 2, colorbar: { thickness: 12, title: { text: plain(metricName()), side: "right" } },
    }],
    height: 120 + 60 * demonstrations.length,
    layout: { xaxis: { type: "category", title: { text: `queries (n_q), ${rowsOf(group.budget)}` } }, yaxis: { type: "category", title: { text: "demonstrations (n_d)" } } },
    headings: [["n_d", "number"], ["n_q", "number"], [metricName(), "number"], "run"],
    lines: cells.map(([d, q, place]) => { const row = current().rows[place]; return [String(d), String(q), scored(row.scores[state.metric]), link(row.runs[0], row.runs[0].slice(0, 8))]; }),
  };
}

function layerPlot(group, cells) {
  const ordered = [...cells].sort((a, b) => (a[0] === null ? Infinity : a[0]) - (b[0] === null ? Infinity : b[0]));
  const rows = ordered.map(([, place]) => current().rows[place]);
  const names = ordered.map(([layer]) => (layer === null ? "own choice" : String(layer)));
  // A record does not say which layer the method's own choice is: it stands beside the curve.
  const layers = ordered.map(([layer]) => layer).filter((layer) => layer !== null);
  const step = (Math.max(...layers) - Math.min(...layers) || 1) * 0.25;
  const x = ordered.map(([layer]) => (layer === null ? Math.max(...layers) + step : layer));
  const part = (own) => {
    const mine = rows.flatMap((row, place) => ((ordered[place][0] === null) === own ? [[row, x[place]]] : []));
    const values = mine.map(([row]) => row.scores[state.metric]);
    return {
      type: "scatter", mode: own ? "markers" : "lines+markers", x: mine.map(([, at]) => at), y: values.map(([value]) => value),
      error_y: { type: "data", array: values.map(([, error]) => error || 0), color: COLOURS[0], thickness: 1, width: 3 },
      line: { color: COLOURS[0] }, marker: { color: COLOURS[0], size: 9, symbol: own ? "circle-open" : "circle", line: { color: COLOURS[0], width: 2 } },
      customdata: mine.map(([row]) => row.runs[0]), hovertext: mine.map(([row]) => hover(row)), hoverinfo: "text",
    };
  };
  const random = withScore(selectors()).filter((row) => row.selector === "random" && row.budget === group.budget);
  return {
    label: `${metricName()} by attention layer, ${rowsOf(group.budget)}.`,
    traces: [
      ...random.map((row) => boundTrace(row, [x[0] - step / 2, x[x.length - 1] + step / 2], true)),
      part(false),
      part(true),
    ],
    height: 320,
    layout: {
      xaxis: { tickvals: x, ticktext: names.map(plain), range: [x[0] - step / 2, x[x.length - 1] + step / 2], title: axisTitle(`attention layer, from 0; ${rowsOf(group.budget)}`) },
      yaxis: { title: axisTitle(metricName()) },
    },
    headings: ["layer", [metricName(), "number"], "run"],
    lines: rows.map((row, place) => [names[place], scored(row.scores[state.metric]), link(row.runs[0], row.runs[0].slice(0, 8))]),
  };
}
