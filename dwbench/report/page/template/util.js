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

// Three significant digits, as in dwbench's tables.
function short(number) {
  if (number === null || number === undefined) return "–";
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 99.95) return Math.round(number).toLocaleString("en-US");
  return size >= 0.001 ? String(Number(number.toPrecision(3))) : number.toExponential(1);
}

// [value, standard error]: two digits of the error.
function scored(score) {
  if (!score || score[0] === null) return "–";
  const [value, error] = score;
  if (!error) return error === 0 ? `${value.toFixed(3)} ±0` : short(value);
  const digits = Math.min(4, Math.max(1, 1 - Math.floor(Math.log10(error))));
  return `${value.toFixed(digits)} ±${error.toFixed(digits)}`;
}

const counted = (number, word) => `${number.toLocaleString("en-US")} ${word}${number === 1 ? "" : "s"}`;
const rowsOf = (budget) => (budget === null ? "untuned" : counted(budget, "row"));
const narrow = () => window.innerWidth < 700;

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
