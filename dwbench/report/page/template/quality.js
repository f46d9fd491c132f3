// Quality against STR on a log axis. What costs next to nothing stands in a strip at the left, what costs an unknown
// amount in one at the right, side by side so that no mark hides another.

const PUBLISHED = { circle: "circle-open", random: "x-open" };

function strip(places, left, right) {
  const logs = [Math.log10(left), Math.log10(right)];
  return places.map((_, place) => 10 ** (logs[0] + ((place + 0.5) / places.length) * (logs[1] - logs[0])));
}

// The place on the axis of each cost (null: unknown).
function placed(costs) {
  const known = costs.filter((cost) => cost !== null && cost >= FLOOR);
  const top = 1.6 * Math.max(1, ...known);
  const cheap = costs.flatMap((cost, place) => (cost !== null && cost < FLOOR ? [place] : []));
  const unknown = costs.flatMap((cost, place) => (cost === null ? [place] : []));
  const x = [...costs];
  strip(cheap, FLOOR / 8, FLOOR / 1.5).forEach((at, place) => { x[cheap[place]] = at; });
  strip(unknown, top * 1.3, top * 4).forEach((at, place) => { x[unknown[place]] = at; });
  return { x, top, anyUnknown: unknown.length > 0 };
}

const published = () =>
  state.published ? current().published.filter((one) => one.metric === state.metric && (one.rows === null || state.budget === null || one.rows === state.budget || one.asked === "100%")) : [];

function drawQuality() {
  const setting = current();
  const rows = withScore(selectors()).filter((row) => !state.hidden.has(row.label));
  const ends = withScore(bounds());
  fill("s-quality", saidOf("fronts", state.cost));
  if (!withScore(setting.rows).length) return draw("f-quality", { note: "No run here was evaluated by this metric." });
  const papers = published();
  const paperCost = (one) => (state.cost === "total" ? one.total : null);
  const { x, top, anyUnknown } = placed([...rows.map((row) => row.cost[state.cost]), ...papers.map(paperCost)]);
  const { range, inside, outside } = fitted(rows, ends);
  const reach = papers.map((one) => one.value);
  const y = [Math.min(range[0], ...reach), Math.max(range[1], ...reach)];
  const right = anyUnknown ? top * 5 : top;
  const traces = [
    ...frontTraces(setting, rows, x, right),
    ...inside.map((row) => boundTrace(row, [FLOOR / 10, right], true)),
    errorTrace(rows, x),
    ...rows.map((row, place) => pointTrace(row, x[place], onFront(setting, row), place)),
    ...papers.map((one, place) => paperTrace(one, x[rows.length + place])),
  ];
  draw("f-quality", {
    label: `Quality (${metricName()}) against ${COST_NAMES[state.cost]}, a mark for each selector and budget, Pareto fronts as steps.`,
    traces,
    height: narrow() ? 380 : 480,
    layout: { xaxis: costAxis(top, right, anyUnknown), yaxis: { title: { text: plain(metricName()) }, range: y }, shapes: stripLines(top, anyUnknown) },
    headings: ["selector", ["rows", "number"], [metricName(), "number"], [COST_NAMES[state.cost], "number"], "on the front", "run"],
    lines: [
      ...[...ends, ...rows].map((row) => [row.label, row.budget === null ? "–" : String(row.budget), scored(row.scores[state.metric]), priced(row), onFront(setting, row) ? "yes" : "", link(row.runs[0], row.runs[0].slice(0, 8))]),
      ...papers.map((one) => [`${one.method} (${one.source})`, one.asked || "–", short(one.value), one.total === null ? "–" : `${short(one.total)} with tuning`, "", one.caveat || "published"]),
    ],
  });
  fill("n-quality", outsideNote(outside) + qualityNote(rows, papers));
}

function qualityNote(rows, papers) {
  const told = [`Bars: ± one standard error, ${errorsOf(rows)}. Steps: Pareto front of each budget, bounds left out, costs that agree in two digits taken as equal. Larger marks: more rows.`];
  told.push(`Strip at the left: STR below ${FLOOR}, for a log axis reaches no 0.`);
  if (rows.some((row) => row.cost[state.cost] === null)) told.push("Strip at the right (?): not known, for example selected and tuned on different hardware.");
  if (rows.some((row) => row.estimated) && state.cost !== "flop") told.push(DATA.words.estimated);
  if (papers.length) told.push("Open marks: published. A paper's ratio counts tuning on the chosen rows too, so they have a place only with the cost 'with tuning'; else they stand at the right.");
  return told.join(" ");
}

function errorsOf(rows) {
  const seeds = rows.map((row) => row.scores[state.metric][3]);
  if (seeds.every((count) => count === 1)) return "over the test rows of one run";
  return seeds.some((count) => count === 1) ? "over seeds where there are several, else over the test rows" : "of the mean over seeds";
}

const priced = (row) => `${row.estimated && state.cost !== "flop" ? "~" : ""}${short(row.cost[state.cost])}`;

const onFront = (setting, row) =>
  ((setting.fronts[state.metric] || {})[state.cost] || []).some((front) => front.some((place) => setting.rows[place] === row));

function hover(row) {
  const lines = [row.label, `${metricName()}: ${scored(row.scores[state.metric])}`, rowsOf(row.budget), `${COST_NAMES[state.cost]}: ${priced(row)}`, `${counted(row.scores[state.metric][3], "seed")}, ${short(row.seconds)} s of selecting`];
  return lines.map(plain).join("<br>");
}

// All bars behind all marks: between their marks they would hide them.
function errorTrace(rows, x) {
  return {
    type: "scatter", mode: "markers", x: rows.map((_, place) => x[place]), y: rows.map((row) => row.scores[state.metric][0]), hoverinfo: "skip",
    marker: { size: 1, opacity: 0 }, error_y: { type: "data", array: rows.map((row) => row.scores[state.metric][1] || 0), color: theme().line, thickness: 1, width: 3 },
  };
}

function pointTrace(row, x, front, place) {
  const { colour, shape } = mark(row.label);
  const value = row.scores[state.metric][0];
  return {
    type: "scatter", mode: front ? "markers+text" : "markers", x: [x], y: [value], customdata: [row.runs[0]],
    marker: { color: colour, symbol: shape, size: 11 + 3 * budgets().indexOf(row.budget), line: { color: theme().paper, width: 1 } },
    text: front ? [plain(row.label.split("(")[0])] : [""], textposition: `${place % 2 ? "top" : "bottom"} ${place % 4 < 2 ? "left" : "right"}`, cliponaxis: false,
    hovertext: [hover(row)], hoverinfo: "text", name: plain(row.label),
  };
}

function boundTrace(row, along, across) {
  const value = row.scores[state.metric][0];
  const ends = [value, value];
  return {
    type: "scatter", mode: "lines+text", x: across ? along : ends, y: across ? ends : along,
    line: { color: theme().soft, width: 1.5, dash: BOUND_LINES[row.selector] || "dash" }, customdata: [row.runs[0], row.runs[0]],
    text: ["", plain(row.label)], textposition: across ? "top left" : "bottom right", hovertext: [hover(row), hover(row)], hoverinfo: "text",
  };
}

// Steps from the cheapest on: up to the next one's cost nothing is better than this.
function frontTraces(setting, rows, x, right) {
  const fronts = ((setting.fronts[state.metric] || {})[state.cost] || []);
  const traces = [];
  for (const front of fronts) {
    const points = front.map((place) => rows.indexOf(setting.rows[place])).filter((place) => place >= 0);
    if (!points.length) continue;
    const values = points.map((place) => rows[place].scores[state.metric][0]);
    traces.push({
      type: "scatter", mode: "lines", x: [...points.map((place) => x[place]), right], y: [...values, values[values.length - 1]],
      line: { shape: "hv", color: theme().soft, width: 1.5 }, hoverinfo: "skip",
    });
  }
  return traces;
}

function paperTrace(one, x) {
  const lines = [`published: ${one.method}`, `${metricName()}: ${short(one.value)}`, `budget: ${one.asked || "untuned"}`, one.source, one.caveat].filter(Boolean);
  return {
    type: "scatter", mode: "markers", x: [x], y: [one.value], hovertext: [lines.map(plain).join("<br>")], hoverinfo: "text",
    marker: { color: theme().ink, symbol: PUBLISHED[one.selector] || PUBLISHED.circle, size: 9, line: { width: 1.5 } },
  };
}

function costAxis(top, right, anyUnknown) {
  const ticks = [];
  for (let tick = FLOOR; tick <= top * 1.01; tick *= 10) ticks.push(Number(tick.toPrecision(1)));
  const places = [FLOOR / 3.5, ...ticks, ...(anyUnknown ? [top * 2.3] : [])];
  const texts = ["≈ 0", ...ticks.map(String), ...(anyUnknown ? ["?"] : [])];
  return {
    type: "log", range: [Math.log10(FLOOR / 10), Math.log10(right)], tickvals: places, ticktext: texts,
    title: { text: plain(COST_NAMES[state.cost]) },
  };
}

function stripLines(top, anyUnknown) {
  const at = [FLOOR / 1.2, ...(anyUnknown ? [top * 1.1] : [])];
  return at.map((x) => ({ type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { color: theme().line, width: 2, dash: "dot" } }));
}
