// All runs in a table that can be sorted and searched.

const COLUMNS = [
  { name: "selector", of: (run) => run.label },
  { name: "data set", of: (run) => run.dataset, everywhere: true },
  { name: "model", of: (run) => run.model, everywhere: true },
  { name: "rows", of: (run) => run.rows, number: true },
  { name: "seed", of: (run) => run.seed, number: true },
  { name: "metric", of: (run) => (run.metrics[state.metric] || [null])[0], show: (run) => scored(run.metrics[state.metric]), number: true },
  { name: "selection s", of: (run) => run.seconds[0], number: true },
  { name: "tuning s", of: (run) => run.seconds[1], number: true },
  { name: "STR (s)", of: (run) => run.str[0], show: (run) => `${run.str[2] ? "~" : ""}${short(run.str[0])}`, number: true },
  { name: "STR (FLOP)", of: (run) => run.str[1], number: true },
  { name: "experiment", of: (run) => run.experiments.join(", ") || "–" },
  { name: "run", of: (run) => run.key },
];

const RUNS = Object.entries(DATA.runs).map(([key, run]) => ({ ...run, key }));

function listed() {
  const keys = new Set(current().rows.flatMap((row) => row.runs));
  const words = state.find.toLowerCase().replace(/(\d),(?=\d{3}\b)/g, "$1").split(/[\s,]+/).filter(Boolean);
  const bound = (run) => run.selector === "full" || run.selector === "zero_shot";
  return RUNS.filter((run) => (state.everywhere || (keys.has(run.key) && (bound(run) || inBudget(run.rows)))) && words.every((word) => says(run, word)));
}

// A number is meant whole: "seed 1" is not seed 10, nor 1,000 rows.
function says(run, word) {
  if (/^\d+$/.test(word)) return [run.rows, run.seed].includes(Number(word));
  const text = `${run.label} ${run.dataset} ${run.model} rows seed ${run.experiments.join(" ")}`.toLowerCase();
  return text.includes(word) || (word.length > 5 && run.key.startsWith(word));
}

// Unknown values come last whichever way the others go.
function compared(a, b, descending) {
  if (a === b) return 0;
  if (a === null || a === undefined) return 1;
  if (b === null || b === undefined) return -1;
  return (a < b ? -1 : 1) * (descending ? -1 : 1);
}

function drawRuns() {
  const columns = COLUMNS.filter((column) => state.everywhere || !column.everywhere);
  const { column: sorted, descending } = state.sort;
  const by = COLUMNS[sorted];
  const found = listed().sort((a, b) => compared(by.of(a), by.of(b), descending));
  const head = columns.map((column) => {
    const place = COLUMNS.indexOf(column);
    const title = column.name === "metric" ? metricName() : column.name;
    const order = place === sorted ? (descending ? "descending" : "ascending") : "none";
    const sign = place === sorted ? (descending ? " ▾" : " ▴") : "";
    const sort = () => {
      state.sort = { column: place, descending: place === sorted && !descending };
      drawRuns();
      byId("f-runs").querySelectorAll("th button")[columns.indexOf(column)].focus();
    };
    return el("th", { scope: "col", "aria-sort": order, class: column.number ? "number" : null }, el("button", { type: "button", click: sort }, title + sign));
  });
  const cell = (column, run) => {
    if (column.name === "run") return el("td", {}, link(run.key, run.key.slice(0, 8)));
    const shown = column.show ? column.show(run) : column.number ? (Number.isInteger(column.of(run)) ? whole(column.of(run)) : short(column.of(run))) : column.of(run);
    return el("td", { class: column.number ? "number" : null }, column.name === "selector" ? link(run.key, shown) : shown);
  };
  const body = found.map((run) => el("tr", {}, columns.map((column) => cell(column, run))));
  fill("f-runs", el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)));
  fill("n-runs", `${found.length} of ${counted(RUNS.length, "run")}`);
}
