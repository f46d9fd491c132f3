"""The page as a file: self-contained, safe, small, the same every time; and the command that writes it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from page_records import HOSTILE, many, study

from dwbench.cli import main
from dwbench.records import Record
from dwbench.report.page.document import SCRIPTS, document, escaped_json
from dwbench.report.page.payload import payload

MEGABYTES_AT_MOST = 6


def write(folder: Path, records: Iterable[Record]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        (folder / f"{record.run}.json").write_text(json.dumps(record.data))
    return folder


def test_hostile_texts_stay_inside_of_the_json() -> None:
    text = escaped_json([HOSTILE, "\u2028\u2029\ud800"])
    assert not re.search("[<>&\u2028\u2029\ud800]", text)
    assert json.loads(text) == [HOSTILE, "\u2028\u2029\ud800"]


def test_the_page_holds_everything_and_fetches_nothing() -> None:
    data = payload(study(), ())
    page = document(data)
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("<script") == page.count("</script>") == 3
    assert "{{" not in page.split('id="payload"')[0]
    told = re.search(r'id="payload">(.*?)</script>', page, re.DOTALL)
    assert told
    assert json.loads(told[1]) == json.loads(json.dumps(data))
    ours = page.split('id="plotly"')[0].replace(told[1], "")
    assert not re.search(r"https?://|src=|@import|url\(", ours)
    page.encode()


def test_every_script_of_the_template_is_part_of_the_page() -> None:
    folder = Path(__file__).parents[2] / "dwbench" / "report" / "page" / "template"
    assert {path.name for path in folder.glob("*.js")} == set(SCRIPTS)


def test_nothing_but_text_nodes_is_made_of_data() -> None:
    folder = Path(__file__).parents[2] / "dwbench" / "report" / "page" / "template"
    banned = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function")
    assert not [path.name for path in folder.glob("*.js") if banned.search(path.read_text())]


def test_the_wheel_has_the_template() -> None:
    from hatchling.builders.wheel import WheelBuilder

    builder = WheelBuilder(str(Path(__file__).parents[2]))
    inside = {Path(file.distribution_path) for file in builder.recurse_included_files()}
    template = Path("dwbench/report/page/template")
    assert {template / name for name in (*SCRIPTS, "page.html", "page.css")} <= inside


def test_a_thousand_runs_are_small_enough() -> None:
    data = payload(list(many(1000)), ())
    assert len(data["runs"]) == 1000
    size = len(document(data).encode())
    assert size <= MEGABYTES_AT_MOST * 1e6, f"{size / 1e6:.2f} MB"


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    results = write(tmp_path / "results" / "a", study()).parent
    pages = []
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.html"
        command = [sys.executable, "-m", "dwbench", "report", "--results", str(results), "--out", str(out)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True)
        pages.append(out.read_bytes())
    assert pages[0] == pages[1]


def test_a_page_on_standard_output_is_nothing_but_the_page(tmp_path: Path) -> None:
    results = write(tmp_path / "results" / "a", study()[:2]).parent
    (results / "failed").mkdir()
    (results / "failed" / "x.json").write_text(json.dumps({"run": "x", "error": "no room"}))
    command = [sys.executable, "-m", "dwbench", "report", "--results", str(results), "--out", "/dev/stdout"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("<!DOCTYPE html>")
    assert done.stdout.endswith("</html>\n")
    assert "no room" in done.stdout
    assert "2 runs, " in done.stderr
    assert f"1 run failed: see {results / 'failed'}" in done.stderr
    full = subprocess.run([*command[:-1], "/dev/full"], capture_output=True, text=True)
    assert (full.returncode, full.stderr.count("\n")) == (2, 1)
    assert "No space left" in full.stderr


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = write(tmp_path / "results" / "a", study()).parent
    out = tmp_path / "page.html"
    assert main(["report", "--results", str(results), "--out", str(out)]) == 0
    assert re.fullmatch(rf"{re.escape(str(out))}: 14 runs, \d\.\d MB\n", capsys.readouterr().out)
    assert out.stat().st_size > 1e6


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    results = write(tmp_path / "results" / "a", study()[:1]).parent
    for arguments, told in (
        (["--results", str(tmp_path / "nowhere")], "no such folder of results"),
        (["--results", str(tmp_path / "empty"), "--out", str(tmp_path / "x.html")], "no records: run something first"),
        (["--results", str(results), "--out", str(tmp_path / "no" / "x.html")], "there is no folder"),
        (["--results", str(results), "--out", str(tmp_path)], "is a folder"),
    ):
        assert main(["report", *arguments]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
