// The panel of one run, opened by #run=KEY and closed by Esc.

const PARTS = ["selection", "training", "evaluation"];

function pairsTable(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("table", { class: "pairs" }, el("tbody", {}, known.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value)))));
}

const json = (value) => el("pre", {}, JSON.stringify(value, null, 1));
const folded = (title, ...content) => el("details", {}, el("summary", {}, title), ...content);
const scrolled = (content, name) => el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, content);

function openRun(key) {
  const dialog = byId("detail");
  const again = dialog.open;
  const run = Object.hasOwn(DATA.runs, key) ? DATA.runs[key] : null;
  const bar = el("div", { class: "bar" }, el("h2", { id: "h-detail" }, run ? run.label : "No such run"), el("button", { type: "button", autofocus: true, click: () => dialog.close() }, "Close (Esc)"));
  dialog.replaceChildren(bar, ...(run ? detailParts(key, run) : [el("p", {}, `This page has no run ${key}.`)]));
  if (again) dialog.querySelector("button").focus();
  else dialog.showModal();
  dialog.scrollTop = 0;
}

function detailParts(key, run) {
  const others = DATA.settings.flatMap((setting) => setting.rows).filter((row) => row.runs.includes(key)).flatMap((row) => row.runs);
  const same = unique(others).filter((other) => other !== key);
  return [
    el("p", {}, `${run.dataset}, ${run.model}: ${counted(run.rows, "row")} of ${run.pool.toLocaleString("en-US")}, seed ${run.seed}`),
    same.length ? el("p", {}, "The same with other seeds: ", same.flatMap((other, place) => [place ? ", " : "", link(other, `seed ${DATA.runs[other].seed}`)])) : null,
    el("h3", {}, "Quality"), qualityOf(run),
    el("h3", {}, "Cost"), ...costOf(run),
    el("h3", {}, "Selection"), pairsTable([
      ["tokens, of these in responses", run.tokens === null ? null : `${run.tokens.toLocaleString("en-US")}, ${short(run.response_tokens)}`],
      ["ties at the cut", String(run.ties ?? "–")],
      ["rows without a score", Object.entries(run.invalid).map(([why, count]) => `${count}: ${why}`).join("; ") || "none"],
      ...Object.entries(run.notes).map(([name, value]) => [name, typeof value === "number" ? short(value) : String(value)]),
    ]),
    run.training ? folded("Tuning", pairsTable(Object.entries(run.training).map(([name, value]) => [name, short(value)]))) : null,
    run.samples && run.samples.length ? folded("Rows, chosen and rejected", sampleColumns(run.samples)) : null,
    el("h3", {}, "How it was made"), pairsTable(origin(key, run)),
    run.command ? el("pre", {}, run.command) : null,
    Object.keys(run.differs).length ? folded("Stages from different environments", json(run.differs)) : null,
    folded("Configuration", Object.entries(run.settings).map(([name, number]) => [el("h4", {}, name), json(shared(number))]).flat()),
    folded("The selector's fields", json(shared(run.identity))),
    folded("Library versions", json(shared(run.packages))),
    folded("Notes on the data", el("ul", {}, shared(run.notes_on_data).map((note) => el("li", {}, note)))),
  ].filter(Boolean);
}

function qualityOf(run) {
  const metrics = Object.entries(run.metrics);
  if (!metrics.length) return el("p", {}, "Not evaluated: the run ended with the selection.");
  const heads = ["metric", ["value ± standard error", "number"], ["test rows", "number"]];
  return scrolled(table(heads, metrics.map(([name, score]) => [name, scored(score), whole(score[2])])), "metrics");
}

function costOf(run) {
  const [seconds, inFlop, estimated] = run.str;
  const totals = PARTS.map((part, place) => [part, short(run.seconds[place]), run.peak[place] ? `${(run.peak[place] / 2 ** 30).toFixed(2)} GiB` : "–"]);
  const stages = run.stages.map(([part, kind, count, seconds, spent, ...tokens]) => [part, kind, String(count), short(seconds), flop(spent), ...tokens.map(short)]);
  const heads = ["part", "stage", ["of them", "number"], ["seconds", "number"], ["FLOP", "number"], ["tokens forward", "number"], ["backward", "number"], ["generated", "number"]];
  return [
    el("p", {}, `STR ${estimated ? "~" : ""}${short(seconds)} in seconds, ${short(inFlop)} in FLOP.${estimated ? ` ${DATA.words.estimated}` : ""}`),
    table(["part", ["seconds", "number"], ["peak memory", "number"]], totals),
    scrolled(table(heads, stages), "stages"),
  ];
}

function origin(key, run) {
  const hardware = shared(run.hardware);
  const gpus = (hardware.gpus || []).map((gpu) => (typeof gpu === "string" ? gpu : JSON.stringify(gpu))).join(", ");
  return [
    ["run", key],
    ["record", run.file],
    [run.experiments.length > 1 ? "experiments" : "experiment", run.experiments.join(", ")],
    ["scorer", run.scorer],
    ["embedder", run.embedder],
    ["budget as asked", run.asked],
    ["commit", run.commit ? `${run.commit}${run.dirty ? " with changes" : ""}` : "not known"],
    ["hardware", [hardware.cpu, hardware.cores && counted(hardware.cores, "core"), gpus || "no GPU", hardware.system].filter(Boolean).join(", ")],
  ];
}

// The key in the address, as it stands there; null: none.
function runInAddress() {
  const found = /^#run=(.+)$/.exec(location.hash);
  return found ? found[1] : null;
}

function followHash() {
  const key = runInAddress();
  if (key !== null) openRun(key);
  else if (byId("detail").open) byId("detail").close();
}

function wireDetail() {
  // Without the key in the address the same link can be followed again.
  byId("detail").addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
  byId("detail").addEventListener("click", (event) => {
    const outside = event.clientX < byId("detail").getBoundingClientRect().left; // its own padding is no other element either
    if (event.target === byId("detail") && outside) byId("detail").close();
  });
  addEventListener("hashchange", followHash);
}
