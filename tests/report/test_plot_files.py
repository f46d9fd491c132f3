"""`dwbench plot`: its files, their looks, and what it says where it can't make one."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_records import made
from plot_records import compared, everything

from dwbench.cli import main
from dwbench.commands.plot import LACKS
from dwbench.report.plots import style
from dwbench.report.plots.choices import plot_agreement, plot_kinds
from dwbench.report.plots.costs import plot_cost
from dwbench.report.plots.perplexity import plot_perplexity
from dwbench.report.plots.quality import plot_budget, plot_str
from dwbench.report.plots.settings import plot_grid, plot_layers
from dwbench.report.plots.style import SETTINGS, content, fold, look
from dwbench.report.table import table


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all records of `everything`, seen from where the commands run."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results" / "quickstart"
    folder.mkdir(parents=True)
    for number, record in enumerate(everything()):
        (folder / f"{number}.json").write_text(json.dumps(record.data), encoding="utf-8")
    return tmp_path / "results"


@pytest.mark.usefixtures("results")
def test_all_kinds_in_files_of_their_own_and_the_same_bytes_in_another_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", "quickstart"]) == 0
    told = capsys.readouterr().out
    files = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert set(files) == {f"quickstart-{kind}.svg" for kind in LACKS}
    assert all(name in told for name in files)
    assert "left out" not in told
    again = (
        "import sys; from dwbench.cli import main; code = main(['plot', 'quickstart']); "
        "sys.exit(code or any(name in sys.modules for name in ('matplotlib.pyplot', 'torch')))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run([sys.executable, "-c", again], check=True, env=environment, capture_output=True)
    assert files == {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert b"<dc:date>" not in b"".join(files.values())


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(("form", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_format_is_the_files(tmp_path: Path, form: str, start: bytes) -> None:
    path = tmp_path / f"figure.{form}"
    arguments = ["plot", "--kind", "str", "--out", str(path), "--metric", "rouge_l"]
    assert main(arguments) == 0
    first = path.read_bytes()
    assert first.startswith(start)
    assert main(arguments) == 0
    assert path.read_bytes() == first


@pytest.mark.usefixtures("results")
def test_what_is_too_large_for_a_png_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "PIXELS", 1000)
    assert main(["plot", "--kind", "str", "--out", "figure.png"]) == 2
    assert "too many panels for a PNG: end --out in .svg or .pdf" in capsys.readouterr().err
    assert main(["plot", "--kind", "str", "--out", "figure.pdf"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"results", "figure.pdf"}


@pytest.mark.usefixtures("results")
def test_a_full_disk_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "figure.svg").symlink_to("/dev/full")
    assert main(["plot", "--kind", "cost", "--out", "figure.svg"]) == 2
    assert (
        capsys.readouterr().err
        == "dwbench: figure.svg: can't be written (No space left on device): name another file\n"
    )


@pytest.mark.usefixtures("results")
def test_what_the_records_lack_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "results" / "quickstart").glob("*.json"):
        if json.loads(path.read_text(encoding="utf-8"))["dataset"]["name"] != "ranked":
            path.unlink()
    assert main(["plot"]) == 0
    told = capsys.readouterr().out
    assert {path.name for path in tmp_path.glob("*.svg")} == {
        "all-str.svg",
        "all-cost.svg",
        "all-agreement.svg",
        "all-perplexity.svg",
    }
    for kind in ("budget", "layers", "grid", "kinds"):
        assert f"left out: {kind}: {LACKS[kind]}" in told


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["quickstrat"], "did you mean 'quickstart'?"),
        (["--kind", "pie"], "invalid choice: 'pie'"),
        (["--out", "figure.svg"], "--out: one file takes one plot: name it with --kind str, budget"),
        (["--kind", "str", "--out", "figure.jpg"], "--out figure.jpg: no format for figures: end it in .svg"),
        (["--kind", "str", "--out", "absent/figure.svg"], "there is no folder absent"),
        (["--kind", "str", "--metric", "rouge"], "--metric rouge: no record has it: did you mean 'rouge_l'?"),
        (["--kind", "cost", "--metric", "rouge_l"], "a plot of kind cost shows none"),
        (["--results", "absent"], "absent: no such folder of results"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["plot", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert told in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_kind_without_records_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "one.json").write_text(json.dumps(made("ifd").data), encoding="utf-8")
    assert main(["plot", "--kind", "kinds"]) == 2
    assert f"results: nothing to plot: kinds: {LACKS['kinds']}" in capsys.readouterr().err


def test_the_users_own_settings_neither_count_nor_change() -> None:
    import matplotlib

    records = compared()
    by_run = {record.run: record for record in records}
    before = dict(matplotlib.rcParams)
    plain = plot_str(table(records), by_run, None)
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "path"}):
        changed = plot_str(table(records), by_run, None)
        assert plain is not None
        assert changed is not None
        assert content(plain.figure, "svg") == content(changed.figure, "svg")
    assert dict(matplotlib.rcParams) == before
    assert SETTINGS["svg.fonttype"] == "none"


@pytest.mark.parametrize("kind", LACKS)
def test_no_text_lies_on_another_or_off_the_page(kind: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    records = everything()
    by_run = {record.run: record for record in records}
    found = {
        "str": lambda: plot_str(table(records), by_run, None),
        "budget": lambda: plot_budget(table(records), by_run, None),
        "cost": lambda: plot_cost(table(records), by_run),
        "layers": lambda: plot_layers(table(records), by_run, None),
        "grid": lambda: plot_grid(table(records), by_run, None),
        "agreement": lambda: plot_agreement(records),
        "kinds": lambda: plot_kinds(records),
        "perplexity": lambda: plot_perplexity(records),
    }[kind]()
    assert found is not None
    figure = found.figure
    with look():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        assert figure.dpi == SETTINGS["savefig.dpi"]
        boxes = {text: text.get_window_extent() for text in visible_texts(figure)}
    page = figure.bbox
    told = list(boxes.items())
    assert len(told) > 5
    for place, (text, box) in enumerate(told):
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1
        assert inside, f"{text.get_text()!r} leaves the page: {box}"
        for other, another in told[place + 1 :]:
            wide = min(box.x1, another.x1) - max(box.x0, another.x0)
            high = min(box.y1, another.y1) - max(box.y0, another.y0)
            assert wide <= 0.5 or high <= 0.5, f"{text.get_text()!r} on {other.get_text()!r}"


@pytest.mark.parametrize(
    ("text", "signs", "lines"),
    [
        ("one two three four", 9, ["one two", "three", "four"]),
        ("one two three", 30, ["one two three"]),
        ("x" * 25, 10, ["x" * 10, "x" * 10, "x" * 5]),
        ("least_confidence(max_new_tokens=48)", 30, ["least_confidence(", "max_new_tokens=48)"]),
        ("layers (pool 10, test 64), smollm2: 100 rows", 26, ["layers (pool 10, test 64),", "smollm2: 100 rows"]),
        (
            "attention_influence(probes=16, probe_tokens=512)",
            40,
            ["attention_influence(probes=16,", "probe_tokens=512)"],
        ),
        ("", 5, [""]),
    ],
)
def test_folding(text: str, signs: int, lines: list[str]) -> None:
    assert fold(text, signs).split("\n") == lines


def visible_texts(figure: Any) -> list[Any]:
    """All texts that are drawn: of the ticks those within their axis."""
    from matplotlib.text import Text

    hidden = set()
    for axes in figure.findobj(lambda artist: hasattr(artist, "get_xaxis")):
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            near = 1e-9 * math.fabs(high - low)
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not min(low, high) - near <= tick.get_loc() <= max(low, high) + near:
                    hidden |= {tick.label1, tick.label2}
    texts_ = [text for text in figure.findobj(Text) if text not in hidden]
    return [text for text in texts_ if text.get_visible() and text.get_text().strip() and text.get_alpha() != 0]
