// One plot with its text alternative: drawn by Plotly, and as a table behind a heading that opens.

function theme() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { paper: of("--paper"), ink: of("--ink"), soft: of("--soft"), line: of("--line"), accent: of("--accent") };
}

const axis = (colours, more) => ({
  gridcolor: colours.line, linecolor: colours.soft, zerolinecolor: colours.soft, zeroline: false, automargin: true, ...more,
});

const touched = matchMedia("(pointer: coarse)").matches;

const purge = (host) => { if (window.Plotly) host.querySelectorAll(".canvas").forEach((one) => Plotly.purge(one)); };

// plot: {traces, layout, height, label, headings, lines}. Without traces `note` is said instead.
function draw(id, plot) {
  const host = byId(id);
  if (plot.note) {
    purge(host);
    host.replaceChildren(el("p", {}, plot.note));
    return;
  }
  let canvas = host.querySelector(".canvas");
  if (!canvas) {
    canvas = el("div", { class: "canvas", role: "img" });
    host.replaceChildren(el("p", { class: "note aside" }), canvas, el("details", {}, el("summary", {}, "The numbers of this plot"), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The numbers of this plot" })));
  }
  host.querySelector(".aside").textContent = plot.aside || "";
  canvas.setAttribute("aria-label", `${plot.label} The numbers stand in the table below.`);
  host.querySelector("details .scroll").replaceChildren(table(plot.headings, plot.lines));
  if (!window.Plotly) {
    host.querySelector("details").open = true;
    return;
  }
  const colours = theme();
  const { xaxis = {}, yaxis = {}, ...layout } = plot.layout;
  canvas.style.height = `${plot.height}px`;
  Plotly.react(canvas, plot.traces, {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, 'DejaVu Sans', sans-serif", size: narrow() ? 11 : 12, color: colours.ink },
    margin: { l: 48, r: 16, t: 16, b: 44 },
    showlegend: false,
    hovermode: "closest",
    hoverlabel: { align: "left", bgcolor: colours.paper, bordercolor: colours.soft, font: { color: colours.ink } },
    dragmode: touched ? false : "zoom", // a finger scrolls
    autosize: true,
    height: plot.height,
    xaxis: axis(colours, xaxis),
    yaxis: axis(colours, yaxis),
    ...layout,
  }, { responsive: true, displaylogo: false, displayModeBar: false });
  if (!canvas.dataset.linked) {
    canvas.dataset.linked = "true";
    canvas.on("plotly_click", (event) => {
      const run = event.points[0].customdata;
      if (run) location.hash = `run=${run}`;
    });
  }
}

// Ticks of a log axis, each with its whole number: 1, 2 and 5 of each decade, or 1 where there are many decades.
function logTicks(low, high) {
  const steps = high / low < 50 ? [1, 2, 5] : [1];
  const decades = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += 1) decades.push(10 ** power);
  const ticks = decades.flatMap((decade) => steps.map((step) => Number((step * decade).toPrecision(1))));
  return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
}

// Several plots below each other in one place.
function drawAll(id, plots) {
  const host = byId(id);
  const kept = host.querySelectorAll(":scope > .one");
  if (kept.length !== plots.length) {
    purge(host);
    host.replaceChildren(...plots.map((_, place) => el("div", { class: "one", id: `${id}-${place}` })));
  }
  plots.forEach((plot, place) => draw(`${id}-${place}`, plot));
}

// The range of an axis that shows all selectors, and the bounds only where they don't squeeze the selectors together;
// `outside` are the others.
function fitted(rows, ends) {
  const around = (row) => {
    const [value, error] = row.scores[state.metric];
    return [value - (error || 0), value + (error || 0)];
  };
  const every = rows.flatMap(around);
  if (!every.length) every.push(...ends.flatMap(around));
  let [low, high] = [Math.min(...every), Math.max(...every)];
  const reach = Math.max((high - low) * 0.7, 1e-9);
  const inside = ends.filter((row) => {
    const value = row.scores[state.metric][0];
    return value >= low - reach && value <= high + reach;
  });
  for (const row of inside) {
    low = Math.min(low, row.scores[state.metric][0]);
    high = Math.max(high, row.scores[state.metric][0]);
  }
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  return { range: [low - room, high + room], inside, outside: ends.filter((row) => !inside.includes(row)) };
}

const outsideNote = (outside) =>
  outside.length ? `Beyond the plot: ${outside.map((row) => `${row.label} ${scored(row.scores[state.metric])}`).join(", ")}. ` : "";
