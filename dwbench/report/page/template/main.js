// Puts the parts together: unpacks Plotly, wires the controls, draws everything.

async function loadPlotly() {
  if (!("DecompressionStream" in window)) return;
  const packed = Uint8Array.from(atob(byId("plotly").textContent.trim()), (sign) => sign.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

function drawControls() {
  const option = (value, text, chosen) => el("option", { value: String(value), selected: chosen }, text);
  const { dataset, model } = current();
  const ofData = DATA.settings.filter((setting) => setting.dataset === dataset);
  const alike = DATA.settings.flatMap((setting, place) => (setting.dataset === dataset && setting.model === model ? [place] : []));
  fill("c-dataset", unique(DATA.settings.map((setting) => setting.dataset)).map((name) => option(name, name, name === dataset)));
  fill("c-model", unique(ofData.map((setting) => setting.model)).map((name) => option(name, name, name === model)));
  fill("c-setting", alike.map((place) => option(place, DATA.settings[place].title, place === state.setting)));
  byId("l-setting").hidden = alike.length < 2;
  fill("c-metric", current().metrics.map(([name, sign]) => option(name, `${name} ${sign}`.trim(), name === state.metric)));
  fill("c-budget", option("", "all", state.budget === null), budgets().map((budget) => option(budget, rowsOf(budget), budget === state.budget)));
  byId("c-metric").disabled = state.metric === null;
  const any = current().published.length > 0;
  byId("c-published").disabled = !any;
  byId("c-published").checked = any && state.published;
  fill("t-published", any ? "published numbers" : "no published numbers for this");
}

function renderQuality() {
  drawQuality();
  drawBudgets();
  for (const id of ["legend", "legend-budgets"]) drawLegend(id, renderQuality);
}

function renderAll() {
  drawControls();
  drawShort();
  renderQuality();
  drawRandom();
  drawCosts();
  drawAblations();
  drawAgreement();
  drawChosen();
  drawSamples();
  drawRuns();
}

function wireControls() {
  const on = (id, change) => byId(id).addEventListener("change", (event) => { change(event.target); renderAll(); });
  const choose = (fits) => chooseSetting(DATA.settings.findIndex(fits));
  on("c-dataset", (target) => choose((one) => one.dataset === target.value));
  on("c-model", (target) => { const { dataset } = current(); choose((one) => one.dataset === dataset && one.model === target.value); });
  on("c-setting", (target) => chooseSetting(Number(target.value)));
  on("c-metric", (target) => { state.metric = target.value; });
  on("c-budget", (target) => { state.budget = target.value === "" ? null : Number(target.value); });
  on("c-cost", (target) => { state.cost = target.value; });
  on("c-published", (target) => { state.published = target.checked; });
  byId("c-agreement").addEventListener("change", (event) => { state.agreement = Number(event.target.value); drawAgreement(); });
  byId("c-find").addEventListener("input", (event) => { state.find = event.target.value; drawRuns(); });
  byId("c-everywhere").addEventListener("change", (event) => { state.everywhere = event.target.checked; drawRuns(); });
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
}

const root = document.documentElement;
const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function showTheme(name) {
  if (name) root.dataset.theme = name;
  else delete root.dataset.theme;
  byId("theme").textContent = isDark() ? "Light colours" : "Dark colours";
  renderAll();
}

function wireTheme() {
  byId("theme").addEventListener("click", () => showTheme(isDark() ? "light" : "dark"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (!root.dataset.theme) showTheme(); });
  let chosen;
  addEventListener("beforeprint", () => { chosen = root.dataset.theme; showTheme("light"); });
  addEventListener("afterprint", () => showTheme(chosen));
  let width = narrow();
  addEventListener("resize", () => { if (narrow() !== width) { width = narrow(); renderAll(); } });
}

// What an address names was not drawn yet when the browser looked for it.
function scrollToPart() {
  const part = runInAddress() === null && location.hash.length > 1 ? byId(location.hash.slice(1)) : null;
  if (part) part.scrollIntoView();
}

async function main() {
  const at = settingOfRun(runInAddress());
  if (at >= 0) { chooseSetting(at); state.metric = current().headline; }
  await loadPlotly();
  wireControls();
  wireDetail();
  wireTheme();
  drawOverview();
  showTheme();
  followHash();
  scrollToPart();
  root.dataset.ready = "true";
}

main();
