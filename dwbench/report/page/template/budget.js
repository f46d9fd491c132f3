// Quality by budget, and the difference from random.

function drawBudgets() {
  const told = current().said.metrics[state.metric];
  fill("s-budgets", told ? sentence(told.budgets) : null);
  const rows = withScore(selectors()).filter((row) => !state.hidden.has(row.label));
  const ends = withScore(bounds());
  byId("legend-budgets").hidden = true;
  if (!rows.length && !ends.length) {
    fill("n-budgets");
    return draw("f-budgets", { note: "No run here was evaluated by this metric." });
  }
  const papers = published().filter((one) => one.rows !== null && one.selector !== "full");
  const at = unique([...rows.map((row) => row.budget), ...papers.map((one) => one.rows)]).sort((a, b) => a - b);
  const fit = fitted(rows, ends);
  byId("legend-budgets").hidden = at.length < 2; // with one budget each line has its name
  const plot = at.length > 1 ? byBudget(rows, papers, at, fit) : atOneBudget(rows, papers, fit);
  draw("f-budgets", {
    ...plot,
    label: `Quality (${metricName()}) by budget.`,
    headings: ["selector", ["rows", "number"], [metricName(), "number"], ["seeds", "number"], "run"],
    lines: [
      ...[...ends, ...rows].map((row) => [row.label, whole(row.budget), scored(row.scores[state.metric]), String(row.scores[state.metric][3]), link(row.runs[0], row.runs[0].slice(0, 8))]),
      ...papers.map((one) => [`${one.method} (${one.source})`, one.asked, short(one.value), "–", one.caveat || "published"]),
    ],
  });
  fill("n-budgets", `${outsideNote(fit.outside)}Bars: ± one standard error, ${errorsOf(rows)}.`);
}

function byBudget(rows, papers, at, { range, inside }) {
  const shown = unique(rows.map((row) => row.label));
  // Beside each other: no bar hides another.
  const beside = (row) => {
    const here = rows.filter((one) => one.budget === row.budget);
    return at.indexOf(row.budget) + (here.indexOf(row) - (here.length - 1) / 2) * Math.min(0.06, 0.7 / here.length);
  };
  const traces = shown.map((label) => {
    const mine = rows.filter((row) => row.label === label).sort((a, b) => a.budget - b.budget);
    const { colour, shape } = mark(label);
    return {
      type: "scatter", mode: "lines+markers",
      x: mine.map(beside),
      y: mine.map((row) => row.scores[state.metric][0]),
      error_y: { type: "data", array: mine.map((row) => row.scores[state.metric][1] || 0), color: colour, thickness: 1, width: 3 },
      line: { color: colour, width: 1.5 }, marker: { color: colour, symbol: shape, size: 9 },
      customdata: mine.map((row) => row.runs[0]), hovertext: mine.map(hover), hoverinfo: "text",
    };
  });
  return {
    traces: [
      ...inside.map((row) => boundTrace(row, [-0.5, at.length - 0.5], true)), ...traces,
      ...papers.map((one) => paperTrace(one, at.indexOf(one.rows))),
    ],
    height: narrow() ? 360 : 440,
    layout: {
      xaxis: { tickvals: at.map((_, place) => place), ticktext: at.map((budget) => `${short(budget)}<br>${short((100 * budget) / current().pool)} %`), range: [-0.5, at.length - 0.5], title: { text: "budget (rows, share of the pool)" } },
      yaxis: { title: axisTitle(metricName()), range: reaching(range, papers) },
    },
  };
}

// With one budget there is nothing to go along: selectors below each other, best on top.
function atOneBudget(rows, papers, { range, inside }) {
  const sign = arrow() === "↓" ? 1 : -1;
  const lines = [
    ...rows.map((row) => ({ value: row.scores[state.metric][0], label: row.label, row })),
    ...papers.map((one) => ({ value: one.value, label: `${one.method}, published`, one })),
  ].sort((a, b) => sign * (b.value - a.value));
  const traces = lines.map(({ row, one, value }, place) => {
    if (one) return { ...paperTrace(one, value), y: [place] };
    const { colour, shape } = mark(row.label);
    return {
      type: "scatter", mode: "markers", x: [value], y: [place], customdata: [row.runs[0]], hovertext: [hover(row)], hoverinfo: "text",
      error_x: { type: "data", array: [row.scores[state.metric][1] || 0], color: colour, thickness: 1, width: 3 },
      marker: { color: colour, symbol: shape, size: 9 },
    };
  });
  const texts = lines.map((line) => wrapped(line.label));
  return {
    traces: [...inside.map((row) => boundTrace(row, [-0.7, lines.length - 0.4], false)), ...traces],
    ...labelled(texts, { title: axisTitle(metricName()), range: reaching(range, papers) }),
  };
}

// Height and axes of a plot with a label a line, the last one on top.
function labelled(texts, xaxis, more = {}) {
  return {
    height: 110 + texts.length * (texts.some((text) => text.includes("<br>")) ? 32 : 24),
    layout: { xaxis, yaxis: { tickvals: texts.map((_, place) => place), ticktext: texts, range: [-0.7, texts.length - 0.3] }, ...more },
  };
}

const VERDICTS = {
  "better than random": { colour: "#0072B2", shape: "circle" },
  "worse than random": { colour: "#D55E00", shape: "x" },
  "not distinguishable from random": { colour: null, shape: "circle-open" },
};

function drawRandom() {
  const boards = current().boards.filter((board) => board.metric === state.metric && inBudget(board.budget));
  const tested = boards.filter((board) => board.entries.some((entry) => entry.against));
  fill("s-random", tested.map(counts));
  fill("n-random", tested.length ? DATA.words.leaderboard.join(" ") : "");
  if (!tested.length) {
    const why = boards.length ? "no selector shares a seed with a run of random" : "these records hold no scores by test row by this metric; the same commands again add them and compute nothing anew";
    return drawAll("f-random", [{ note: `Nothing can be tested: ${why}.` }]);
  }
  drawAll("f-random", tested.map(forest));
}

function counts(board) {
  const entries = board.entries.filter((entry) => entry.against);
  const told = Object.keys(VERDICTS).map((verdict) => `${entries.filter((entry) => entry.verdict === verdict).length} ${verdict}`);
  return el("p", {}, `${metricName()} at ${rowsOf(board.budget)}, of ${counted(entries.length, "selector")}: ${told.join(", ")}.${{ "one seed": " Over one seed.", "some of one seed": " Some over one seed only." }[board.seeds] || ""}`);
}

function forest(board) {
  const entries = board.entries.filter((entry) => entry.against).reverse();
  const told = (entry) => {
    const [mean, low, high, p, better] = entry.against;
    return hovered([entry.label, verdictOf(entry), `difference ${short(mean)} [${short(low)}, ${short(high)}]`, `p ${probability(p)}, P(better) ${better.toFixed(2)}, ${counted(entry.against[5], "seed")}`]);
  };
  const traces = entries.map((entry, place) => {
    const [mean, low, high] = entry.against;
    const look = VERDICTS[entry.verdict] || VERDICTS["not distinguishable from random"];
    const colour = look.colour || theme().soft;
    return {
      type: "scatter", mode: "markers", x: [mean], y: [place], customdata: [entry.run], hovertext: [told(entry)], hoverinfo: "text",
      error_x: { type: "data", symmetric: false, array: [Math.max(0, high - mean)], arrayminus: [Math.max(0, mean - low)], color: colour, thickness: 1.5, width: 3 },
      marker: { color: colour, symbol: look.shape, size: 10, line: { color: colour, width: 2 } },
    };
  });
  const scores = intervals(board.entries.map((entry) => entry.score));
  const differences = intervals(board.entries.map((entry) => entry.against), true);
  const side = arrow() === "↓" ? "left of 0 is better" : "right of 0 is better";
  return {
    traces,
    label: `Difference from random of each selector, ${board.title}.`,
    ...labelled(entries.map((entry) => wrapped(entry.label)), { title: axisTitle(`${metricName()}, ${rowsOf(board.budget)}: difference from random (${side})`), zeroline: true, zerolinewidth: 2 }),
    headings: ["selector", [metricName(), "number"], ["difference from random", "number"], ["p", "number"], ["P(better)", "number"], ["seeds", "number"], "verdict"],
    lines: board.entries.map((entry, place) => {
      const [, , , p, better] = entry.against || [];
      const tests = entry.against ? [probability(p), better.toFixed(2)] : ["–", "–"];
      return [link(entry.run, entry.label), scores[place], differences[place], ...tests, String(entry.seeds), verdictOf(entry)];
    }),
  };
}

// A verdict that rests on one seed says so wherever it is quoted.
function verdictOf(entry) {
  return entry.against && entry.against[5] === 1 ? `${entry.verdict} (one seed)` : entry.verdict;
}
