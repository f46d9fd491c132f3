// Quality against STR on a log axis. What costs next to nothing stands in a strip at the left, what costs an unknown
// amount in one at the right, side by side so that no mark hides another.

const PUBLISHED = { circle: "circle-open", random: "x-open" };

function strip(places, left, right) {
  const logs = [Math.log10(left), Math.log10(right)];
  return places.map((_, place) => 10 ** (logs[0] + ((place + 0.5) / places.length) * (logs[1] - logs[0])));
}

// The place on the axis of each cost (null: unknown). The axis begins at the decade of the cheapest that has a place.
function placed(costs) {
  const known = costs.filter((cost) => cost !== null && cost >= FLOOR);
  const least = known.length ? Math.max(FLOOR, 10 ** Math.floor(Math.log10(Math.min(...known)))) : FLOOR;
  const top = 1.6 * Math.max(1, ...known);
  const cheap = costs.flatMap((cost, place) => (cost !== null && cost < FLOOR ? [place] : []));
  const unknown = costs.flatMap((cost, place) => (cost === null ? [place] : []));
  const x = [...costs];
  const stretch = (top / least) ** (narrow() ? 0.25 : 0.15); // a strip takes as much of a short axis as of a long one
  const ends = { left: least / stretch ** 1.3, least, top, right: unknown.length ? top * stretch ** 1.3 : top, stretch };
  strip(cheap, least / stretch ** 1.2, least / stretch ** 0.25).forEach((at, place) => { x[cheap[place]] = at; });
  strip(unknown, top * stretch ** 0.25, top * stretch ** 1.2).forEach((at, place) => { x[unknown[place]] = at; });
  return { x, ends };
}

const published = () =>
  state.published ? current().published.filter((one) => one.metric === state.metric && (one.rows === null || state.budget === null || one.rows === state.budget || one.asked === "100%")) : [];

function drawQuality() {
  const setting = current();
  const every = withScore(selectors()).filter((row) => !state.hidden.has(row.label));
  const { lines: rows, aside } = fewer(every, MARKS_AT_MOST);
  const ends = withScore(bounds());
  fill("s-quality", saidOf("fronts", state.cost));
  if (!withScore(setting.rows).length) return draw("f-quality", { note: "No run here was evaluated by this metric." });
  const papers = published();
  const paperCost = (one) => (state.cost === "total" ? one.total : null);
  const { x, ends: scale } = placed([...rows.map((row) => row.cost[state.cost]), ...papers.map(paperCost)]);
  const { range, inside, outside } = fitted(rows, ends);
  const called = labelPlaces(setting, rows);
  const traces = [
    ...frontTraces(setting, rows, x, scale.right),
    ...inside.map((row) => boundTrace(row, [scale.left, scale.right], true)),
    errorTrace(rows, x),
    ...rows.map((row, place) => pointTrace(row, x[place], called.get(row))),
    ...papers.map((one, place) => paperTrace(one, x[rows.length + place])),
  ];
  draw("f-quality", {
    label: `Quality (${metricName()}) against ${COST_NAMES[state.cost]}, a mark for each selector and budget, Pareto fronts as steps.`,
    traces,
    aside,
    height: narrow() ? 380 : 480,
    layout: { xaxis: costAxis(scale), yaxis: { title: axisTitle(metricName()), range: reaching(range, papers) }, shapes: stripLines(scale) },
    headings: ["selector", ["rows", "number"], [metricName(), "number"], [COST_NAMES[state.cost], "number"], "on the front", "run"],
    lines: [
      ...[...ends, ...every].map((row) => [row.label, whole(row.budget), scored(row.scores[state.metric]), priced(row), onFront(setting, row) ? "yes" : "", link(row.runs[0], row.runs[0].slice(0, 8))]),
      ...papers.map((one) => [`${one.method} (${one.source})`, one.asked || "–", short(one.value), one.total === null ? "–" : `${short(one.total)} with tuning`, "", one.caveat || "published"]),
    ],
  });
  fill("n-quality", outsideNote(outside) + qualityNote(rows, papers));
}

// The range, wide enough for what papers say.
function reaching([low, high], papers) {
  const values = papers.map((one) => one.value);
  const ends = [Math.min(low, ...values), Math.max(high, ...values)];
  const room = (ends[1] - ends[0]) * 0.04;
  return [ends[0] < low ? ends[0] - room : low, ends[1] > high ? ends[1] + room : high];
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

const frontsOf = (setting) => (setting.fronts[state.metric] || {})[state.cost] || [];
const onFront = (setting, row) => frontsOf(setting).some((front) => front.some((place) => setting.rows[place] === row));

function hover(row) {
  const lines = [row.label, `${metricName()}: ${scored(row.scores[state.metric])}`, rowsOf(row.budget), `${COST_NAMES[state.cost]}: ${priced(row)}`, `${counted(row.scores[state.metric][3], "seed")}, ${short(row.seconds)} s of selecting`];
  return hovered(lines);
}

// All bars behind all marks: between their marks they would hide them.
function errorTrace(rows, x) {
  return {
    type: "scatter", mode: "markers", x: rows.map((_, place) => x[place]), y: rows.map((row) => row.scores[state.metric][0]), hoverinfo: "skip",
    marker: { size: 1, opacity: 0 }, error_y: { type: "data", array: rows.map((row) => row.scores[state.metric][1] || 0), color: theme().soft, thickness: 1, width: 3 },
  };
}

// Where each label stands: of the fronts' selectors each once, at its largest budget; on a phone the cheapest's and the
// best's. Neighbours' go different ways, the last one's not over the edge.
function labelPlaces(setting, rows) {
  const shown = new Map();
  for (const front of [...frontsOf(setting)].sort((a, b) => setting.rows[b[0]].budget - setting.rows[a[0]].budget)) {
    const here = front.map((place) => setting.rows[place]).filter((row) => rows.includes(row)).reverse();
    for (const row of here) if (!shown.has(nameOf(row))) shown.set(nameOf(row), row);
  }
  const ordered = [...shown.values()].sort((a, b) => a.cost[state.cost] - b.cost[state.cost]);
  const [left, right] = arrow() === "↓" ? ["bottom left", "top right"] : ["top left", "bottom right"];
  const way = (place) => (place === 0 ? "top right" : place === ordered.length - 1 || place % 2 ? left : right);
  const pairs = ordered.map((row, place) => [row, way(place)]);
  return new Map(narrow() ? pairs.filter((_, place) => place === 0 || place === ordered.length - 1) : pairs);
}

const nameOf = (row) => row.label.split("(")[0];

function pointTrace(row, x, way) {
  const { colour, shape } = mark(row.label);
  const value = row.scores[state.metric][0];
  return {
    type: "scatter", mode: way ? "markers+text" : "markers", x: [x], y: [value], customdata: [row.runs[0]],
    marker: { color: colour, symbol: shape, size: (narrow() ? 8 : 11) + (narrow() ? 2 : 3) * budgets().indexOf(row.budget), line: { color: theme().paper, width: 1 } },
    text: [way ? plain(nameOf(row)) : ""], textposition: way || "top center", cliponaxis: false,
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
  const traces = [];
  for (const front of frontsOf(setting)) {
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
    type: "scatter", mode: "markers", x: [x], y: [one.value], hovertext: [hovered(lines)], hoverinfo: "text",
    marker: { color: theme().ink, symbol: PUBLISHED[one.selector] || PUBLISHED.circle, size: 9, line: { width: 1.5 } },
  };
}

function costAxis({ left, least, top, right, stretch }) {
  const ticks = logTicks(least, top);
  const strips = [[least / stretch ** 0.7, "≈ 0"], ...(right > top ? [[top * stretch ** 0.7, "?"]] : [])];
  return {
    type: "log", range: [Math.log10(left), Math.log10(right)], title: axisTitle(COST_NAMES[state.cost]),
    tickvals: [...ticks, ...strips.map(([place]) => place)], ticktext: [...ticks.map(String), ...strips.map(([, text]) => text)],
  };
}

function stripLines({ least, top, right, stretch }) {
  const at = [least / stretch ** 0.1, ...(right > top ? [top * stretch ** 0.1] : [])];
  return at.map((x) => ({ type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { color: theme().line, width: 2, dash: "dot" } }));
}
