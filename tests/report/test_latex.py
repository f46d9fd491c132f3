"""LaTeX of every kind of table: every special is escaped, and a real pdflatex compiles it."""

import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from made_records import made

from dwbench.config import conf_folder
from dwbench.records import Record
from dwbench.report.comparison import compare
from dwbench.report.comparison_view import render as render_published
from dwbench.report.formats import Column, Grid, draw, render, tex
from dwbench.report.leaderboard import leaderboards
from dwbench.report.leaderboard_view import render as render_boards
from dwbench.report.published import published
from dwbench.report.table import table

NAMES = sorted(path.stem for path in (conf_folder() / "published").glob("*.csv"))
NASTY = 'a_b % & # $x$ ~ ^ \\end { } [1] * <|> "q" ± ↑ ↓ – — … ‘’ “” é ç ł ß 中 \u00a0 --all -- ---'


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a_b 5 % & #1 $x$ {}", r"a\_b 5 \% \& \#1 \$x\$ \{\}"),
        ("~0.5 ^ \\n", r"$\sim$0.5 \textasciicircum{} \textbackslash{}n"),
        ("0.2 ±0.1 nll ↓ acc ↑", r"0.2 $\pm$0.1 nll $\downarrow$ acc $\uparrow$"),
        ("1–5 … “so” a−b", r"1--5 \ldots{} ``so'' a$-$b"),
        ("--format", r"-{}-format"),
        ("---", r"-{}-{}-"),
        ("[1] *", r"{[}1] {*}"),
        ("Müller, façade, Łódź", r"M\"{u}ller, fa\c{c}ade, \L{}\'{o}d\'{z}"),
        ("u\u0308", r"\"{u}"),
        ("中 🙂", r"{[}U+4E2D{]} {[}U+1F642{]}"),
        ("a\tb\u00a0c", "a b c"),
    ],
)
def test_escaping(text: str, written: str) -> None:
    assert tex(text) == written


def test_every_sign_becomes_ascii() -> None:
    for number in (*range(0x20, 0x3000), 0x4E2D, 0x1F642):
        written = tex(chr(number))
        assert written.isascii()
        assert written.strip() or chr(number).isspace() or not chr(number).isprintable()


def test_the_packages_are_named_and_headings_keep_their_lines() -> None:
    text = draw([Grid("t", (Column("a", ("1",)), Column("b\n(rows)", ("2",))))], [], "latex")
    assert text.startswith("% needs \\usepackage{booktabs,graphicx}")
    assert r"a & \shortstack{b \\ (rows)} \\" in text
    assert "1 & 2 \\\\" in text


def test_a_mark_is_explained_below_the_tables_that_have_it() -> None:
    told = ["±: error.", "~: estimated.", "Mixed."]
    first = Grid("one", (Column("a", ("1 ±2",)),))
    second = Grid("two", (Column("a", ("~3",)),))
    one, two = draw([first, second], told, "latex").split("\\begin{table}")[1:]
    assert ("$\\pm$: error." in one, "estimated" in one, "Mixed." in one) == (True, False, True)
    assert ("$\\pm$: error." in two, "estimated" in two, "Mixed." in two) == (False, True, True)


def records() -> list[Record]:
    values = [0.1 * number for number in range(8)]
    found = [
        made("data_whisperer", label=NASTY, metrics={"rouge_l": (0.3, 0.01), "a_b^%": (1.0, None)}),
        made("random", metrics={"rouge_l": (0.2, 0.01)}),
        made("zero_shot"),
    ]
    return [Record(one.path, {**one.data, "items": {"rouge_l": values}}) for one in found]


def nasty() -> str:
    columns = (Column(NASTY, (NASTY, NASTY)), Column(f"two\n{NASTY}", (NASTY, "[0.1, 0.2]")))
    return draw([Grid(NASTY, columns, below=(NASTY,))], [NASTY], "latex")


def of_experiment(name: str) -> str:
    made_table = table(records())
    return render_published(compare(made_table, published(name)), made_table, "latex")


def wide() -> str:
    columns = [Column("selector", ("data_whisperer(n_d=5, n_q=2)", "ifd"))]
    columns += [Column(f"a_metric_{number} ↑", ("0.250 ±0.013", "0.3")) for number in range(12)]
    return draw([Grid("wide", tuple(columns))], [], "latex")


TABLES: dict[str, Callable[[], str]] = {
    "nasty": nasty,
    "wide": wide,
    "main": lambda: render(table(records()), "latex"),
    "leaderboard": lambda: render_boards(leaderboards(records()), "latex"),
    **{name: partial(of_experiment, name) for name in NAMES},
}

DOCUMENT = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage{booktabs,graphicx}
\begin{document}
%s
\end{document}
"""


@pytest.mark.parametrize("name", TABLES)
def test_pdflatex_compiles(name: str, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex: apt-get install texlive-latex-base texlive-latex-recommended")
    text = TABLES[name]()
    assert text.isascii()
    (tmp_path / "table.tex").write_text(DOCUMENT % text, encoding="ascii")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")[-1500:]
    assert (tmp_path / "table.pdf").read_bytes().startswith(b"%PDF")
    # Nothing leaves the page at the right: TeX's word for a line that is too long.
    assert "Overfull \\hbox" not in (tmp_path / "table.log").read_text("latin-1")
