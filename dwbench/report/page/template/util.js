// Elements and numbers. Texts reach the page through text nodes only.

const byId = (id) => document.getElementById(id);

function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const fill = (id, ...children) => byId(id).replaceChildren(...children.flat().filter(Boolean));

const link = (run, text) => (run ? el("a", { href: `#run=${run}` }, text) : text);

// A sentence of the payload: texts and links to runs.
const sentence = (parts) => el("p", {}, parts.map((part) => (typeof part === "string" ? part : link(part.run, part.text))));

// Plotly reads a few tags and entities in all its texts; a label is none of them.
const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
const plain = (text) => String(text).replace(/[&<>]/g, (sign) => ENTITIES[sign]);

// Three significant digits, written as in dwbench's tables.
function short(number) {
  if (number === null || number === undefined) return "–";
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 99.95) return Math.round(number).toLocaleString("en-US");
  return size >= 0.001 ? String(Number(number.toPrecision(3))) : number.toExponential(1).replace(/e-(\d)$/, "e-0$1");
}

const flop = (number) => (number >= 1e6 ? number.toExponential(2).replace("e+", "e") : short(number));
const whole = (number) => (number === null ? "–" : number.toLocaleString("en-US"));
const probability = (p) => (p === null ? "–" : p < 0.001 ? "<0.001" : p.toFixed(3));

// A score holds its text last: what a table writes.
const scored = (score) => (score ? score[score.length - 1] : "–");

// `mean [low, high]` of each, all with two digits of the smallest half width.
function intervals(every, signed) {
  const halves = every.filter((one) => one && one[2] > one[1]).map((one) => (one[2] - one[1]) / 2);
  const digits = halves.length ? Math.min(4, Math.max(1, 1 - Math.floor(Math.log10(Math.min(...halves))))) : 3;
  const text = (value, plus) => `${plus && value >= 0 ? "+" : ""}${value.toFixed(digits)}`;
  return every.map((one) => (one && one[0] !== null ? `${text(one[0], signed)} [${text(one[1], signed)}, ${text(one[2], signed)}]` : "–"));
}

const counted = (number, word) => `${whole(number)} ${word}${number === 1 ? "" : "s"}`;
const rowsOf = (budget) => (budget === null ? "untuned" : counted(budget, "row"));
const narrow = () => window.innerWidth < 700;

// Texts for Plotly, none of its lines longer than the place there is.
const HOVER_LINES = 14;

function broken(texts, width) {
  const pieces = new RegExp(`.{1,${width}}(?:\\s|$)|.{1,${width}}`, "gsu");
  const lines = texts.flatMap((text) => String(text).match(pieces) || []);
  const shown = lines.length > HOVER_LINES ? [...lines.slice(0, HOVER_LINES), "…"] : lines;
  return shown.map((line) => plain(line.trim())).join("<br>");
}

const hovered = (lines) => broken(lines, narrow() ? 36 : 72);
const axisTitle = (text) => ({ text: broken([text], narrow() ? 28 : 90) });

// A long label in at most two lines for an axis; the full one stands in the table below the plot.
function wrapped(label) {
  const width = narrow() ? 18 : 30;
  const lines = [""];
  for (const piece of label.split(/(?<=[(,]) ?/)) {
    const last = lines[lines.length - 1];
    if (last && last.length + piece.length > width) lines.push(piece);
    else lines[lines.length - 1] = last + (last && !last.endsWith("(") ? " " : "") + piece;
  }
  const cut = lines.slice(0, 2).map((line) => (line.length > width + 4 ? `${line.slice(0, width + 3)}…` : line));
  if (lines.length > 2 && !cut[1].endsWith("…")) cut[1] += " …";
  return cut.map(plain).join("<br>");
}

// Headings are strings, or [string, "number"]; cells are strings, numbers or elements.
function table(headings, lines, caption) {
  const kinds = headings.map((heading) => (Array.isArray(heading) ? heading[1] : ""));
  const names = headings.map((heading) => (Array.isArray(heading) ? heading[0] : heading));
  const head = el("tr", {}, names.map((name, place) => el("th", { scope: "col", class: kinds[place] || null }, name)));
  const body = lines.map((line) =>
    el("tr", {}, line.map((cell, place) => el("td", { class: kinds[place] || null }, cell === null ? "–" : cell))));
  return el("table", {}, caption ? el("caption", { class: "note" }, caption) : null, el("thead", {}, head), el("tbody", {}, body));
}
