// The first thing that a reader sees: every setting in one line a budget, then sentences on the chosen one.

function overviewLines(setting, place) {
  const metric = setting.headline;
  const show = () => { chooseSetting(place); state.metric = metric; renderAll(); byId("title").scrollIntoView(); };
  const name = el("button", { type: "button", click: show }, setting.title);
  if (!metric) return [[name, "–", "–", "–", "–", "chosen only, nothing tuned", "–"]];
  const down = setting.metrics.find(([one]) => one === metric)[1] === "↓";
  const rows = setting.rows.filter((row) => !row.bound && row.scores[metric]);
  const value = (row) => (down ? -1 : 1) * row.scores[metric][0];
  return unique(rows.map((row) => row.budget)).map((budget, line) => {
    const here = rows.filter((row) => row.budget === budget);
    const best = here.reduce((one, other) => (value(other) > value(one) ? other : one));
    const random = here.find((row) => row.selector === "random");
    const board = setting.boards.find((one) => one.metric === metric && one.budget === budget);
    const numbered = (row) => (row ? link(row.runs[0], scored(row.scores[metric])) : "–");
    return [
      line === 0 ? name : "",
      line === 0 ? `${metric} ${down ? "↓" : "↑"}` : "",
      String(budget),
      numbered(random),
      el("span", {}, `${best.label} `, numbered(best)),
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
  const rest = `${unclear} of ${tested.length} can't be told from it${board.one_seed ? ", one seed" : ""}`;
  return better.length ? el("span", {}, linked(better), ` (${rest})`) : `none (${rest})`;
}

function worthIt(setting, board, metric, budget) {
  if (!board || !board.entries.some((entry) => entry.against)) return "–";
  const front = (setting.fronts[metric].seconds.find((one) => setting.rows[one[0]].budget === budget) || [])
    .map((place) => setting.rows[place].label);
  const paying = board.entries.filter((entry) => entry.verdict === "better than random" && front.includes(entry.label));
  return paying.length ? el("span", {}, linked(paying)) : "none";
}

// By their names alone where these tell them apart.
function linked(entries) {
  const names = entries.map((entry) => entry.label.split("(")[0]);
  const short = names.length === unique(names).length;
  return entries.flatMap((entry, place) => [place ? ", " : null, link(entry.run, short ? names[place] : entry.label)]).filter(Boolean);
}

function drawOverview() {
  const lines = DATA.settings.flatMap(overviewLines);
  const headings = ["data set, model", "metric", ["rows", "number"], ["random", "number"], "best mean", "better than random", "and on the front"];
  fill("overview-table", table(headings, lines));
  const told = counted(Object.keys(DATA.runs).length, "run");
  const data = unique(DATA.settings.map((setting) => setting.dataset)).length;
  const models = unique(DATA.settings.map((setting) => setting.model)).length;
  fill("made", `${told}, ${counted(data, "data set")}, ${counted(models, "tuned model")}. Every name and number leads to its run.`);
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
  const alone = setting.boards.some((board) => board.metric === state.metric && inBudget(board.budget) && board.one_seed);
  const luck = "One seed: the luck of one draw of random is in every comparison. What is called better here may not be so with another seed.";
  const found = [alone ? el("p", { class: "warning" }, luck) : null, ...saidOf("pays"), ...saidOf("verdicts")];
  fill("s-short", found.some(Boolean) ? found : el("p", {}, "No metric whose better direction is known."), sentence(setting.said.costs));
}
