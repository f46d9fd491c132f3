// What is shown: the payload, and what the reader has chosen of it.

const DATA = JSON.parse(byId("payload").textContent);
const FLOOR = DATA.words.floor;
const COST_NAMES = { seconds: "STR (seconds)", flop: "STR (FLOP)", total: "STR with tuning on the chosen rows (seconds)" };

// First the setting in which most selectors were tested.
const tested = (setting) => Math.max(0, ...setting.boards.map((board) => board.entries.length));
const first = DATA.settings.reduce((best, one, place) => (tested(one) > tested(DATA.settings[best]) ? place : best), 0);

const state = {
  setting: first,
  metric: DATA.settings[first].headline,
  budget: null, // rows; null: all
  cost: "seconds",
  published: false,
  hidden: new Set(), // labels
  agreement: 0,
  sample: null, // label
  find: "",
  everywhere: false,
  sort: { column: 0, descending: false },
};

const current = () => DATA.settings[state.setting];
const arrow = () => (current().metrics.find(([name]) => name === state.metric) || ["", ""])[1];
const metricName = () => (state.metric === null ? "no metric" : `${state.metric} ${arrow()}`.trim());
const unique = (values) => [...new Set(values)];
const budgets = () => unique(current().rows.filter((row) => !row.bound).map((row) => row.budget)).sort((a, b) => a - b);
const inBudget = (budget) => state.budget === null || budget === state.budget;

// Selectors at the chosen budget, and the bounds, which hold at every budget.
const selectors = () => current().rows.filter((row) => !row.bound && inBudget(row.budget));
const bounds = () => current().rows.filter((row) => row.bound);
const withScore = (rows) => rows.filter((row) => row.scores[state.metric]);

// What a plot has room for, lines below each other or marks: where there are more, those of the budget that has most.
const LINES_AT_MOST = 24;
const MARKS_AT_MOST = 60;

function fewer(lines, most = LINES_AT_MOST) {
  const known = unique(lines.map((line) => line.budget));
  if (lines.length <= most || known.length < 2) return { lines, aside: "" };
  const at = (budget) => lines.filter((line) => line.budget === budget);
  const kept = known.reduce((best, one) => (at(one).length > at(best).length ? one : best));
  return { lines: at(kept), aside: `Drawn: ${rowsOf(kept)}. Choose another budget above; the table below has all.` };
}

// A label may be cut or told apart by settings: one mark for each, the same in all plots of a setting.
const labels = () => unique(current().rows.filter((row) => !row.bound).map((row) => row.label));

function chooseSetting(place) {
  state.setting = place;
  const known = current().metrics.map(([name]) => name);
  if (!known.includes(state.metric)) state.metric = current().headline;
  if (!budgets().includes(state.budget)) state.budget = null;
  state.hidden.clear();
  state.agreement = 0;
  state.sample = null;
}

const settingOfRun = (run) => DATA.settings.findIndex((setting) => setting.rows.some((row) => row.runs.includes(run)));
const shared = (number) => DATA.shared[number];
