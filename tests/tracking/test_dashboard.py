"""The W&B report: its panels read what is published. W&B itself is never reached: there is no account here."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
from made_records import made

from dwbench.cli import main
from dwbench.errors import UserError
from dwbench.report.str_ratio import Ratio
from dwbench.store import write_json
from dwbench.tracking import dashboard
from dwbench.tracking.run_data import LOSS, run_config, run_summary

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1")  # the package's own

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("wandb_workspaces") is None, reason="pip install 'dwbench[dashboard]'"
)

RECORDS = [
    made("ifd"),
    made("random"),
    made("full"),
    made("ifd", dataset="gsm8k", metrics={"exact_match": (0.5, None), "response_tokens_mean": (9.0, None)}),
]


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No account and no network."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")


def spec(records: list[Any]) -> list[dict[str, Any]]:
    """The blocks that would be sent to W&B."""
    sent = dashboard.report(records, "p", "nobody")._to_model().spec.model_dump(by_alias=True, exclude_none=True)
    return list(sent["blocks"])


def grids(records: list[Any]) -> list[dict[str, Any]]:
    return [block["metadata"] for block in spec(records) if block["type"] == "panel-grid"]


def panels(grid: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(panel["viewType"], panel["config"]) for panel in grid["panelBankSectionConfig"]["panels"]]


@needs_package
def test_a_section_for_each_data_set_and_the_table_first() -> None:
    headings = [block["children"][0]["text"] for block in spec(RECORDS) if block["type"] == "heading"]
    assert headings == ["All runs", "dialogsum, smollm2-135m", "gsm8k, smollm2-135m"]
    table, dialogsum, gsm8k = grids(RECORDS)
    ((kind, config),) = panels(table)
    assert kind == "Weave"
    assert '"runs"' in str(config).replace("'", '"')
    assert "dwbench-runs" in str(table["runSets"])
    for grid, name in ((dialogsum, "dialogsum"), (gsm8k, "gsm8k")):
        (runs,) = grid["runSets"]
        filters = str(runs["filters"])
        assert f"'{name}'" in filters
        assert "'smollm2-135m'" in filters
        assert "dataset" in filters


@needs_package
def test_panels_show_each_metric_against_str() -> None:
    _, dialogsum, gsm8k = grids(RECORDS)
    scatter = [config for kind, config in panels(dialogsum) if kind == "Scatter Plot"]
    assert {(config["xAxis"], config["yAxis"], config["xAxisLogScale"]) for config in scatter} == {
        ("summary:str/seconds", "summary:metrics/rouge_l", True), ("summary:str/flop", "summary:metrics/rouge_l", True),
        ("summary:str/seconds", "summary:metrics/nll", True), ("summary:str/flop", "summary:metrics/nll", True),
    }  # fmt: skip
    assert "rouge_l ↑ against STR (seconds)" in {config["chartTitle"] for config in scatter}
    bars = {config["metrics"][0]: config for kind, config in panels(dialogsum) if kind == "Bar Chart"}
    assert {"str/seconds", "str/flop", "str/selection_seconds", "metrics/rouge_l", "metrics/nll"} == set(bars)
    assert all("selector_label" in config["groupBy"] for config in bars.values())
    (loss,) = [config for kind, config in panels(dialogsum) if kind == "Run History Line Plot"]
    assert loss["metrics"] == [LOSS]
    # Of a metric of which it is not known whether more is better there is nothing to say.
    assert "response_tokens_mean" not in str(gsm8k)
    assert "metrics/exact_match" in str(gsm8k)


@needs_package
def test_panels_read_what_is_published() -> None:
    record = made("ifd")
    published = set(run_summary(record, Ratio(0.1, 0.2, False))) | {LOSS}
    config = set(run_config(record))
    _, grid = grids([record])
    shown = set()
    for kind, panel in panels(grid):
        if kind == "Parallel Coordinates Plot":
            for column in panel["columns"]:
                section, _, name = column["accessor"].partition(":")
                if section == "config":
                    assert name.removesuffix(".value") in config
                else:
                    shown.add(name)
        elif kind == "Scatter Plot":
            shown |= {panel[axis].removeprefix("summary:") for axis in ("xAxis", "yAxis")}
        else:
            shown |= set(panel["metrics"])
    assert shown <= published
    assert len(shown) >= 6


@needs_package
def test_planted_noise_gets_a_panel_where_there_is_some() -> None:
    record = made("ifd")
    selection = {**record.data["selection"], "kinds": {"clean": 99, "copy": 1}}
    noisy = type(record)(record.path, {**record.data, "selection": selection})
    assert "selection/planted_share" in str(grids([noisy]))
    assert "selection/planted_share" not in str(grids([record]))


@needs_package
def test_panels_do_not_lie_on_each_other() -> None:
    _, grid, _ = grids(RECORDS)
    places = [panel["layout"] for panel in grid["panelBankSectionConfig"]["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(at["x"] + at["w"] <= 24 for at in places)


def published(tmp_path: Path, *arguments: str) -> int:
    write_json(tmp_path / "results" / "r.json", made("ifd").data)
    folders = ["--results", str(tmp_path / "results"), "--folder", str(tmp_path / "dw")]
    return main(["publish", *folders, "--dashboard", *arguments])


@needs_package
def test_without_an_account_one_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert published(tmp_path) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "dwbench: --dashboard: needs a W&B account: `wandb login`, or set WANDB_API_KEY\n"
    assert not list(tmp_path.glob("dw/published/*"))


@needs_package
def test_with_a_key_and_no_network_one_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    assert published(tmp_path) == 2
    err = capsys.readouterr().err
    assert err.startswith("dwbench: --dashboard: W&B can't be reached with this key: ")
    assert len(err.splitlines()) == 1
    assert "f" * 40 not in err


@needs_package
def test_offline_there_is_no_dashboard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert published(tmp_path, "--mode", "offline") == 2
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert published(tmp_path) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == second
    assert "leave out --mode offline and WANDB_MODE" in first


def test_without_its_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'dwbench\[dashboard\]'"):
        dashboard.check("auto")
