// Where the time or the FLOP go: a bar for each selector, a part for each kind of stage.

const PATTERNS = ["", "/", "\\", "x", "-", "|", "+", "."];

function drawCosts() {
  const every = selectors();
  const one = unique(every.map((row) => row.budget)).sort((a, b) => a - b);
  const rows = one.length > 1 && every.length > 40 ? every.filter((row) => row.budget === one[0]) : every;
  fill("s-costs", sentence(current().said.costs));
  fill("n-costs");
  if (!rows.length) return draw("f-costs", { note: "No selector ran here." });
  const unit = state.cost === "flop" ? 1 : 0;
  const name = unit ? "FLOP" : "seconds";
  const spent = (row, stage) => (row.stages[stage] || [0, 0])[unit] || 0;
  const stages = unique(rows.flatMap((row) => Object.keys(row.stages))).sort(bySelection);
  const selecting = (row) => stages.filter((stage) => stage.startsWith("selection")).reduce((sum, stage) => sum + spent(row, stage), 0);
  const ordered = [...rows].sort((a, b) => selecting(a) - selecting(b));
  const titled = (row) => (one.length > 1 ? `${row.label}, ${row.budget}` : row.label);
  const traces = stages.map((stage, place) => ({
    type: "bar", orientation: "h", name: plain(stage), x: ordered.map((row) => spent(row, stage)), y: ordered.map((_, line) => line),
    customdata: ordered.map((row) => row.runs[0]), hoverinfo: "text",
    hovertext: ordered.map((row) => [titled(row), `${stage}: ${short(spent(row, stage))} ${name}`].map(plain).join("<br>")),
    marker: { color: COLOURS[place % COLOURS.length] || theme().soft, pattern: { shape: PATTERNS[place % PATTERNS.length], fillmode: "overlay", fgcolor: theme().paper, size: 7, solidity: 0.2 } },
  }));
  const shape = labelled(ordered.map((row) => wrapped(titled(row))), { title: { text: `${name} of a run` } }, {
    barmode: "stack", bargap: 0.25, showlegend: true, legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, traceorder: "normal" }, margin: { l: 48, r: 16, t: 60, b: 44 },
  });
  draw("f-costs", {
    ...shape,
    height: shape.height + 50,
    traces,
    label: `Cost by stage in ${name}, a bar for each selector.`,
    headings: ["selector", ["rows", "number"], ...stages.map((stage) => [stage, "number"])],
    lines: ordered.map((row) => [link(row.runs[0], row.label), String(row.budget), ...stages.map((stage) => short(spent(row, stage)))]),
  });
  const less = rows.length < every.length ? ` Shown: ${rowsOf(one[0])}; choose another budget above.` : "";
  fill("n-costs", `Means over the runs of a selector, in the order of what selecting costs. What runs share is charged to each. Loading models and waiting are not in it.${less}`);
}

const bySelection = (a, b) => b.startsWith("selection") - a.startsWith("selection") || (b === "training") - (a === "training") || (a < b ? -1 : 1);
