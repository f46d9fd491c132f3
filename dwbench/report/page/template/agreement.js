// How far selectors agree: correlation of their rankings, overlap of their choices.

const DIVERGING = [[0, "#B35806"], [0.5, "#F7F7F7"], [1, "#2166AC"]];

function drawAgreement() {
  const every = current().agreement.filter((one) => inBudget(one.rows));
  if (state.agreement >= every.length) state.agreement = 0;
  const select = byId("c-agreement");
  fill("c-agreement", every.map((one, place) => el("option", { value: String(place), selected: place === state.agreement }, one.title)));
  select.value = String(state.agreement);
  byId("l-agreement").hidden = every.length < 2;
  const found = every[state.agreement];
  fill("s-agreement", found ? sentence(found.said) : null);
  if (!found) {
    purge(byId("f-overlap"));
    fill("f-overlap");
    return draw("f-spearman", { note: "No two selectors chose as many rows of this pool: run more of them." });
  }
  draw("f-spearman", matrix(found, found.spearman, "Spearman's rank correlation of the scores", DIVERGING, [-1, 1]));
  const most = Math.max(1, ...found.overlap.flat()) / 100;
  draw("f-overlap", matrix(found, found.overlap, `share of rows chosen by both (by chance ${short(found.expected)})`, "Cividis", [0, most]));
}

// `half` holds hundredths below the diagonal.
function matrix({ labels: names, title }, half, what, colorscale, [zmin, zmax]) {
  const at = (row, column) => {
    if (row === column) return null; // each with itself says nothing
    const value = half[Math.max(row, column)][Math.min(row, column)];
    return value === null ? null : value / 100;
  };
  const z = names.map((_, row) => names.map((_, column) => at(row, column)));
  const numbers = names.map((_, place) => String(place + 1));
  const texts = z.map((line) => line.map((value) => (value === null ? "" : value.toFixed(2).replace("0.", "."))));
  const small = names.length <= (narrow() ? 9 : 18);
  return {
    label: `${what}: ${title}.`,
    traces: [{
      type: "heatmap", z, x: numbers, y: numbers, zmin, zmax, colorscale, xgap: 1, ygap: 1, showscale: !small, colorbar: { thickness: 10 },
      text: texts, texttemplate: small ? "%{text}" : "", textfont: { size: 9 },
      hovertext: z.map((line, row) => line.map((_, column) => hovered([names[row], names[column], texts[row][column]]))), hoverinfo: "text",
    }],
    height: 130 + names.length * 24,
    layout: {
      xaxis: { type: "category", side: "bottom", title: axisTitle(what), tickfont: { size: 10 }, showgrid: false, tickangle: 0 },
      yaxis: { type: "category", autorange: "reversed", tickvals: numbers, ticktext: names.map((name, place) => plain(`${place + 1} ${name.length > 20 ? `${name.slice(0, 19)}…` : name}`)), showgrid: false, tickfont: { size: 10 } },
      margin: { l: 48, r: 8, t: 8, b: 44 },
    },
    headings: ["selector", ...numbers.map((number) => [number, "number"])],
    lines: names.map((name, row) => [`${row + 1} ${name}`, ...texts[row]]),
  };
}
