// What the chosen rows are like: length, perplexity, diversity, planted noise.

function drawChosen() {
  const { chosen, said } = current();
  fill("s-chosen", sentence(said.chosen));
  const here = ([place]) => inBudget(current().rows[place].budget);
  drawLengths(chosen.lengths.filter(here), chosen.pool);
  drawPerplexity(chosen.perplexity, chosen.ranks);
  drawDiversity(chosen.diversity);
  const kinds = chosen.kinds.filter((audit) => inBudget(audit.rows));
  drawAll("f-kinds", kinds.length ? kinds.map(kindsPlot) : [{ note: "No noise was planted into this pool; plant=noise does it." }]);
}

const ofRow = (row) => ({ label: row.label, run: row.runs[0], budget: row.budget });
const named = (line) => [link(line.run, line.label), whole(line.budget)];

// One mark a line: {label, run, budget, value, low, high, told}.
function dots(every, xaxis, level) {
  const { lines, aside } = fewer(every);
  const several = unique(lines.map((line) => line.budget)).length > 1;
  const titled = (line) => (several ? `${line.label}, ${rowsOf(line.budget)}` : line.label);
  const { ink, soft } = theme();
  const traces = lines.map((line, place) => ({
    type: "scatter", mode: "markers", x: [line.value], y: [place], customdata: [line.run], hoverinfo: "text",
    hovertext: [hovered([line.label, rowsOf(line.budget), line.told])],
    error_x: line.low === undefined ? undefined : { type: "data", symmetric: false, array: [line.high - line.value], arrayminus: [line.value - line.low], color: COLOURS[0], thickness: 1.5, width: 3 },
    marker: { color: COLOURS[0], symbol: "circle", size: 9 },
  }));
  if (level !== null) {
    traces.unshift({ type: "scatter", mode: "lines+text", x: [level, level], y: [-0.7, lines.length - 0.4], line: { color: soft, dash: "dash", width: 1.5 }, text: ["", "the pool"], textposition: "bottom right", hoverinfo: "skip", textfont: { color: ink } });
  }
  return { traces, aside, ...labelled(lines.map((line) => wrapped(titled(line))), xaxis) };
}

function drawLengths(lengths, [poolTokens, poolResponse]) {
  const lines = lengths.filter(([, , response]) => response !== null)
    .map(([place, tokens, response]) => ({ ...ofRow(current().rows[place]), value: response, tokens, told: `${short(response)} response tokens, ${short(tokens)} tokens in all` }))
    .sort((a, b) => a.value - b.value);
  if (!lines.length) return draw("f-lengths", { note: "Nothing was chosen." });
  return draw("f-lengths", {
    ...dots(lines, { title: axisTitle("tokens of a chosen response, mean"), rangemode: "tozero" }, poolResponse),
    label: "Mean length of the chosen responses.",
    headings: ["selector", ["rows", "number"], ["response tokens", "number"], ["tokens with prompt", "number"]],
    lines: [["(the pool)", whole(current().pool), short(poolResponse), short(poolTokens)], ...lines.map((line) => [...named(line), short(line.value), short(line.tokens)])],
  });
}

function drawPerplexity(told, ranks) {
  const plots = told.map(quartilesPlot).filter((plot) => plot.lines.length > 1);
  if (plots.length) return drawAll("f-perplexity", plots);
  const known = ranks ? ranks.rows.filter(([place, rank]) => rank !== null && inBudget(current().rows[place].budget)) : [];
  if (!known.length) return drawAll("f-perplexity", [{ note: "No run here tells of it: run with perplexity=true, or run selector=low_ppl beside the others." }]);
  const lines = known.map(([place, rank]) => ({ ...ofRow(current().rows[place]), value: rank, told: `mean perplexity rank ${short(rank)}` })).sort((a, b) => a.value - b.value);
  return drawAll("f-perplexity", [{
    ...dots(lines, { title: axisTitle("mean perplexity rank of the chosen rows (0 lowest, 1 highest)"), range: [-0.02, 1.02] }, 0.5),
    label: `Mean perplexity rank of the chosen rows within the pool, under ${ranks.scorer}.`,
    headings: ["selector", ["rows", "number"], [`perplexity rank (${ranks.scorer})`, "number"]],
    lines: lines.map((line) => [...named(line), short(line.value)]),
  }]);
}

function quartilesPlot({ title, front, pool, rows }) {
  const lines = rows.filter(([, count, , chosen]) => inBudget(count) && chosen[1] !== null)
    .map(([label, count, run, [low, value, high]]) => ({ label, run, budget: count, value, low, high, told: `median ${short(value)}, quartiles ${short(low)} and ${short(high)}` }))
    .sort((a, b) => a.value - b.value);
  const ends = [...lines.flatMap((line) => [line.low, line.high]), ...pool].filter((value) => value > 0);
  const ticks = ends.length ? logTicks(Math.min(...ends) * 0.9, Math.max(...ends) * 1.1) : [];
  return {
    ...dots(lines, { title: axisTitle(`perplexity of the response, ${front}: median and quartiles`), type: "log", tickvals: ticks, ticktext: ticks.map(String) }, pool[1]),
    label: `${title}: perplexity of the chosen responses, ${front}.`,
    headings: ["selector", ["rows", "number"], ["quartile 1", "number"], ["median", "number"], ["quartile 3", "number"]],
    lines: [["(the pool)", whole(current().pool), ...pool.map(short)], ...lines.map((line) => [...named(line), short(line.low), short(line.value), short(line.high)])],
  };
}

function drawDiversity(found) {
  const { headings, legend } = DATA.words.diversity;
  if (!found.length) return fill("f-diversity", el("p", {}, "No run here tells of it: run again with diversity=true."));
  const parts = found.flatMap((one) => {
    const lines = one.rows.filter(([, rows]) => inBudget(rows)).map(([label, rows, choices, run, numbers]) => [link(run, label), whole(rows), String(choices), ...numbers.map(short)]);
    const heads = ["selector", ["rows", "number"], ["choices", "number"], ...headings.map((name) => [name, "number"])];
    return [el("p", {}, one.title), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": one.title }, table(heads, lines))];
  });
  return fill("f-diversity", parts, el("p", { class: "note" }, legend));
}

function kindsPlot(audit) {
  const kinds = Object.keys(audit.pool);
  const names = ["(the pool)", ...Object.keys(audit.selectors)];
  const shares = names.map((name, line) => kinds.map((kind) => (line ? audit.selectors[name][kind] : [audit.pool[kind], null, null])));
  const percent = (value, digits = 0) => `${(100 * value).toFixed(digits)} %`;
  const full = ([value, low, high]) => (low === null ? percent(value, 1) : `${percent(value)} [${(100 * low).toFixed(0)}, ${(100 * high).toFixed(0)}]`);
  return {
    label: `Share of each kind of planted row among the chosen ones: ${audit.title}.`,
    traces: [{
      type: "heatmap", x: kinds.map((kind) => plain(kind.replaceAll("_", " "))), y: names.map((_, place) => place), z: shares.map((line) => line.map((share) => share[0])),
      zmin: 0, zmax: 1, colorscale: "Cividis", text: shares.map((line) => line.map((share) => percent(share[0]))), texttemplate: "%{text}", xgap: 2, ygap: 2, showscale: false,
      hovertext: shares.map((line, row) => line.map((share, column) => hovered([names[row], kinds[column], full(share)]))), hoverinfo: "text",
    }],
    height: 120 + names.length * 30,
    layout: { xaxis: { type: "category", side: "top", tickangle: narrow() ? -60 : 0 }, yaxis: { autorange: "reversed", tickvals: names.map((_, place) => place), ticktext: names.map(wrapped) }, margin: { l: 48, r: 8, t: 60, b: 16 } },
    headings: ["selector", ...kinds.map((kind) => [kind, "number"])],
    lines: names.map((name, row) => [link(audit.runs[name], name), ...shares[row].map(full)]),
  };
}
