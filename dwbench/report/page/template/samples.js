// A few rows that a selector chose, beside some that it rejected. Their texts are other people's: text nodes only.

function sampleCard([id, input, response, score, place]) {
  const where = [`row ${id}`, place === null ? "not ranked" : `place ${short(place)}`, score === null ? null : `score ${short(score)}`];
  return el("article", { class: "sample" },
    el("p", { class: "note" }, where.filter(Boolean).join(", ")),
    el("p", {}, el("b", {}, "Asked: "), shared(input)),
    el("p", {}, el("b", {}, "Response: "), shared(response)));
}

function sampleColumns(samples) {
  const column = (heading, cards, none) => el("div", {}, el("h4", {}, heading), cards.length ? cards.map(sampleCard) : el("p", {}, none));
  return el("div", { class: "samples" },
    column("Chosen, the first ones", samples.filter((one) => one[5]), "None."),
    column("Rejected, just below the cut", samples.filter((one) => !one[5]), "None: everything was chosen."));
}

function drawSamples() {
  const left = DATA.samples_left_out ? el("p", { class: "note" }, `The texts of ${counted(DATA.samples_left_out, "run")} are left out: the page would be too large.`) : null;
  const runs = selectors().map((row) => row.runs.find((run) => (DATA.runs[run].samples || []).length)).filter(Boolean);
  if (!runs.length) {
    const none = "These records hold no texts: they are from before record_samples, or were made with record_samples=0. The same command again with record_samples=3 adds them and computes nothing anew.";
    return fill("f-samples", left || el("p", {}, none));
  }
  const run = runs.includes(state.sample) ? state.sample : runs[0];
  const named = (key) => `${DATA.runs[key].label}, ${rowsOf(DATA.runs[key].rows)}, seed ${DATA.runs[key].seed}`;
  const choose = (event) => { state.sample = event.target.value; drawSamples(); byId("c-sample").focus(); };
  const select = el("select", { id: "c-sample", change: choose }, runs.map((key) => el("option", { value: key, selected: key === run }, named(key))));
  return fill("f-samples", el("label", {}, "Selector ", select), sampleColumns(DATA.runs[run].samples), left);
}
