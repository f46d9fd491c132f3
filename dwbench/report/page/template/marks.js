// A mark for each selector: seven colours that the colour-blind tell apart (Okabe and Ito's, without the yellow, which
// is too pale on white) and eight shapes make 56 different ones.

const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", null]; // null: the ink's
const SHAPES = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star"];
const GLYPHS = ["●", "■", "◆", "▲", "▼", "✚", "✖", "★"];
const BOUND_LINES = { zero_shot: "dot", full: "dash" };

function mark(label) {
  const place = Math.max(0, labels().indexOf(label));
  return {
    colour: COLOURS[place % COLOURS.length] || theme().ink,
    shape: SHAPES[place % SHAPES.length],
    glyph: GLYPHS[place % GLYPHS.length],
  };
}

// Buttons that show and hide selectors in the plots of quality; the same ones at each of them.
function drawLegend(id, redraw) {
  const shown = unique(withScore(selectors()).map((row) => row.label));
  const toggle = (label) => {
    if (!state.hidden.delete(label)) state.hidden.add(label);
    redraw();
    byId(id).querySelectorAll("button")[shown.indexOf(label)].focus();
  };
  const buttons = shown.map((label) => {
    const { colour, glyph } = mark(label);
    const sign = el("span", { class: "glyph", "aria-hidden": "true" }, glyph);
    sign.style.color = colour;
    return el("button", { type: "button", "aria-pressed": String(!state.hidden.has(label)), click: () => toggle(label) }, sign, label);
  });
  fill(id, buttons);
}
