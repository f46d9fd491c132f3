// Where the time or the FLOP go: a bar for each selector, a part for each kind of stage.

const PATTERNS = ["", "/", "\\", "x", "-", "|", "+", "."];

function drawCosts() {
  const rows = selectors();
  fill("s-costs", sentence(current().said.costs));
  fill("n-costs");
  if (!rows.length) return draw("f-costs", { note: "No selector ran here." });
  const unit = state.cost === "flop" ? 1 : 0;
  const name = unit ? "FLOP" : "seconds";
  const spent = (row, stage) => (row.stages[stage] || [0, 0])[unit] || 0;
  const stages = unique(rows.flatMap((row) => Object.keys(row.stages))).sort(bySelection);
  const selecting = (row) => stages.filter((stage) => stage.startsWith("selection")).reduce((sum, stage) => sum + spent(row, stage), 0);
  const bySelecting = [...rows].sort((a, b) => selecting(a) - selecting(b));
  const { lines: ordered, aside } = fewer(bySelecting);
  const written = unit ? flop : short;
  const titled = (row) => (unique(ordered.map((one) => one.budget)).length > 1 ? `${row.label}, ${rowsOf(row.budget)}` : row.label);
  const traces = stages.map((stage, place) => ({
    type: "bar", orientation: "h", name: plain(stage), x: ordered.map((row) => spent(row, stage)), y: ordered.map((_, line) => line),
    customdata: ordered.map((row) => row.runs[0]), hoverinfo: "text",
    hovertext: ordered.map((row) => hovered([titled(row), `${stage}: ${written(spent(row, stage))} ${name}`])),
    marker: { color: COLOURS[place % COLOURS.length] || theme().soft, pattern: { shape: PATTERNS[place % PATTERNS.length], fillmode: "overlay", fgcolor: theme().paper, size: 7, solidity: 0.2 } },
  }));
  const shape = labelled(ordered.map((row) => wrapped(titled(row))), { title: axisTitle(`${name} of a run`) }, {
    barmode: "stack", bargap: 0.25, showlegend: true, legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, traceorder: "normal" }, margin: { l: 48, r: 16, t: 60, b: 44 },
  });
  draw("f-costs", {
    ...shape,
    height: shape.height + 50,
    traces,
    aside,
    label: `Cost by stage in ${name}, a bar for each selector.`,
    headings: ["selector", ["rows", "number"], ...stages.map((stage) => [stage, "number"])],
    lines: bySelecting.map((row) => [link(row.runs[0], row.label), whole(row.budget), ...stages.map((stage) => written(spent(row, stage)))]),
  });
  fill("n-costs", "Means over the runs of a selector, in the order of what selecting costs. What runs share is charged to each. Loading models and waiting are not in it.");
}

const bySelection = (a, b) => b.startsWith("selection") - a.startsWith("selection") || (b === "training") - (a === "training") || (a < b ? -1 : 1);
