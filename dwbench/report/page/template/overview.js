// The first thing that a reader sees: every setting in one line a budget, then sentences on the chosen one.

function overviewLines(setting, place) {
  const metric = setting.headline;
  const show = () => { chooseSetting(place); state.metric = metric; renderAll(); byId("title").scrollIntoView(); };
  const name = el("button", { type: "button", click: show }, setting.title);
  if (!metric) return [[name, "–", "–", "–", "–", "chosen only, nothing tuned", "–"]];
  const sign = setting.metrics.find(([one]) => one === metric)[1];
  const down = sign === "↓";
  const rows = setting.rows.filter((row) => !row.bound && row.scores[metric]);
  const named = `${metric} ${sign}`.trim();
  if (!rows.length) return [[name, named, "–", "–", "no selector ran", "–", "–"]];
  const value = (row) => (down ? -1 : 1) * row.scores[metric][0];
  return unique(rows.map((row) => row.budget)).map((budget, line) => {
    const here = rows.filter((row) => row.budget === budget);
    const best = here.reduce((one, other) => (value(other) > value(one) ? other : one));
    const random = here.find((row) => row.selector === "random");
    const board = setting.boards.find((one) => one.metric === metric && one.budget === budget);
    const numbered = (row) => (row ? link(row.runs[0], scored(row.scores[metric])) : "–");
    return [
      line === 0 ? name : "",
      line === 0 ? named : "",
      whole(budget),
      numbered(random),
      sign ? el("span", {}, `${best.label} `, el("span", { class: "score" }, numbered(best))) : "not known which way is better",
      betterThanRandom(board),
      worthIt(setting, board, metric, budget),
    ];
  });
}

function betterThanRandom(board) {
  const tested = board ? board.entries.filter((entry) => entry.against) : [];
  if (!tested.length) return "not tested";
  const better = tested.filter((entry) => entry.verdict === "better than random");
  const unclear = tested.filter((entry) => entry.verdict === "not distinguishable from random").length;
  const rest = `${unclear} of ${tested.length} can't be told from it${board.seeds ? `, ${board.seeds}` : ""}`;
  return better.length ? el("span", {}, linked(better), ` (${rest})`) : `none (${rest})`;
}

function worthIt(setting, board, metric, budget) {
  if (!board || !board.entries.some((entry) => entry.against)) return "–";
  const front = (setting.fronts[metric].seconds.find((one) => setting.rows[one[0]].budget === budget) || [])
    .map((place) => setting.rows[place].label);
  const paying = board.entries.filter((entry) => entry.verdict === "better than random" && front.includes(entry.label));
  return paying.length ? el("span", {}, linked(paying)) : "none";
}

// The first ones, by their names alone where these tell them apart.
const NAMED = 5;

function linked(entries) {
  const shown = entries.length > NAMED + 1 ? entries.slice(0, NAMED) : entries;
  const names = shown.map((entry) => entry.label.split("(")[0]);
  const apart = names.length === unique(names).length;
  const links = shown.flatMap((entry, place) => [place ? ", " : null, link(entry.run, apart ? names[place] : entry.label)]).filter(Boolean);
  return shown.length < entries.length ? [...links, ` and ${entries.length - shown.length} more`] : links;
}

function drawOverview() {
  const lines = DATA.settings.flatMap(overviewLines);
  const headings = ["data set, model", "metric", ["rows", "number"], ["random", "number"], "best mean", "better than random", "and on the front"];
  fill("overview-table", table(headings, lines));
  const told = counted(Object.keys(DATA.runs).length, "run");
  const data = unique(DATA.settings.map((setting) => setting.dataset)).length;
  const models = unique(DATA.settings.map((setting) => setting.model)).length;
  fill("made", `${told}, ${counted(data, "data set")}, ${counted(models, "tuned model")}. Names and scores lead to their runs.`);
  drawFailed();
}

function drawFailed() {
  if (!DATA.failed.length) return;
  const lines = DATA.failed.map((one) => [one.run, one.error, one.command]);
  fill("failed", el("details", {}, el("summary", {}, `${counted(DATA.failed.length, "run")} failed and ${DATA.failed.length === 1 ? "is" : "are"} not on this page`),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "failed runs" }, table(["run", "error", "command"], lines))));
}

// Sentences of the chosen metric, those that speak of the chosen budget.
function saidOf(kind, cost) {
  const told = current().said.metrics[state.metric];
  const found = told ? (cost ? told[kind][cost] : told[kind]) : [];
  return found.filter(([budget]) => budget === null || inBudget(budget)).map(([, parts]) => sentence(parts));
}

function drawShort() {
  const setting = current();
  fill("title", setting.title);
  fill("warnings",
    setting.mixed ? el("p", { class: "warning" }, `Mixed environments: ${setting.mixed}. Seconds of different hardware don't compare.`) : null,
    setting.evaluated ? null : el("p", { class: "warning" }, "These runs ended with the selection: nothing was tuned, so there is no quality to show."));
  const here = setting.boards.filter((board) => board.metric === state.metric && inBudget(board.budget) && board.seeds);
  const all = here.every((board) => board.seeds === "one seed");
  const luck = `${all ? "One seed: the luck of one draw of random is in every comparison." : "Some comparisons rest on one seed, and on the luck of one draw of random."} Of one seed nothing is called better or worse.`;
  const found = [here.length ? el("p", { class: "warning" }, luck) : null, ...saidOf("pays"), ...saidOf("verdicts")];
  const none = setting.evaluated ? el("p", {}, "It is not known which way this metric is better.") : null;
  fill("s-short", found.some(Boolean) ? found : none, sentence(setting.said.costs));
}
