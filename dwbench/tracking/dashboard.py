"""A W&B report on STR efficiency: what each selector's choice is worth, beside what choosing it cost.

The report holds no numbers of its own: its panels read the runs that `publish` wrote, by the names in `run_data`.
Making it again replaces the same report, as long as the marker of where it is lies beside those of the runs.
"""

import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dwbench.component import key_of
from dwbench.errors import UserError
from dwbench.records import Record
from dwbench.report.formats import arrow
from dwbench.tracking import run_data
from dwbench.tracking.to_wandb import one_line
from dwbench.tracking.wandb_runs import TABLE, TABLE_RUN, wandb_environment

if TYPE_CHECKING:
    import wandb

TITLE = "Data selection: quality against STR"
WIDTH, HEIGHT = 12, 9
"""Of a panel; a report is 24 wide."""

INTRODUCTION = """\
**STR**, the Selection-to-Tuning Ratio, is the time (or the FLOP) that a selection took, over that of tuning on the
whole pool: below 1 it may pay to choose. A good selector has a good score and lies far to the left. `full` and
`zero_shot` choose nothing: their STR is 0, and a logarithmic axis leaves them out.

Made by `dwbench publish --dashboard`; whatever is changed here is overwritten when that is called again.
"""

TABLE_TEXT = "Every run and metric, as `dwbench table` has them. Click on a column to sort; filter by metric."


def check(mode: str) -> None:
    """Raise UserError where no dashboard can be made: its package is missing, or W&B is to be left alone."""
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise UserError("--dashboard: its package is missing: pip install 'dwbench[dashboard]'")
    if mode == "offline" or os.environ.get("WANDB_MODE", "online") != "online":
        raise UserError("--dashboard: a report lies at W&B only: leave out --mode offline and WANDB_MODE")


def save(records: Sequence[Record], *, project: str, entity: str | None, folder: Path, marks: Path) -> str:
    """Make the report, or make it anew where it is there, and return its address.

    Raises UserError without an account, without a network, and for whatever W&B refuses.
    """
    from dwbench.store import write_json

    marker = marks / f"dashboard-{key_of([entity, project])[:8]}.json"
    with wandb_environment(folder):
        owner = entity or _account().default_entity
        made = report(records, project, str(owner))
        if marker.exists():
            made.id = str(json.loads(marker.read_text(encoding="utf-8"))["id"])
        try:
            made.save()
        except Exception as error:  # its own kinds of errors, those of wandb and of HTTP
            again = f" (is it gone? Then delete {marker})" if made.id else ""
            raise UserError(f"--dashboard: W&B refused the report: {one_line(error)}{again}") from error
    write_json(marker, {"id": made.id, "url": made.url})
    return str(made.url)


def check_account(folder: Path) -> None:
    """Raise UserError where there is no W&B account, or none that can be reached. Asks nothing."""
    with wandb_environment(folder):
        _account()


def _account() -> "wandb.Api":
    import wandb

    wandb.setup(settings=wandb.Settings(silent=True))  # a terminal would be asked for a key
    try:
        return wandb.Api(timeout=10)
    except wandb.errors.UsageError:
        raise UserError("--dashboard: needs a W&B account: `wandb login`, or set WANDB_API_KEY") from None
    except Exception as error:  # of wandb, or of the network beneath it
        raise UserError(f"--dashboard: W&B can't be reached with this key: {one_line(error)}") from error


def report(records: Sequence[Record], project: str, entity: str) -> Any:
    """The report on `records`, not saved: the table of all runs, then a section for each data set and model."""
    import wandb_workspaces.reports.v2 as wr
    from wandb_workspaces import expr

    made = wr.Report(project=project, entity=entity, title=TITLE, width="fluid")
    summary = wr.Runset(name="table", filters=expr.And(expr.Metric("ID") == TABLE_RUN))
    layout = wr.Layout(w=2 * WIDTH, h=2 * HEIGHT)
    table = wr.PanelGrid(runsets=[summary], panels=[wr.WeavePanelSummaryTable(table_name=TABLE, layout=layout)])
    made.blocks = [wr.MarkdownBlock(INTRODUCTION), wr.TableOfContents(), wr.H1("All runs"), wr.P(TABLE_TEXT), table]
    for dataset, model in sorted({_place(record) for record in records}):
        same = expr.And(expr.Config("dataset") == dataset, expr.Config("model") == model)
        runs = wr.Runset(name=f"{dataset}, {model}", filters=same)
        mine = [record for record in records if _place(record) == (dataset, model)]
        made.blocks += [wr.H1(f"{dataset}, {model}"), wr.PanelGrid(runsets=[runs], panels=_panels(mine))]
    return made


def _place(record: Record) -> tuple[str, str]:
    """Data set and model, as they are published."""
    dataset, model = run_data.without_paths([record.dataset, record.model])
    return dataset, model


def _panels(records: Sequence[Record]) -> list[Any]:
    """Of one data set and model: quality against STR and by selector for each metric of which it is known whether more
    is better, then what selecting cost, and what else the records tell of."""
    import wandb_workspaces.reports.v2 as wr

    panels: list[Any] = []
    for name in dict.fromkeys(name for record in records for name in record.metrics if arrow(name)):
        value, better = wr.SummaryMetric(f"metrics/{name}"), f"{name} {arrow(name)}"
        for unit in ("seconds", "FLOP"):
            strs = wr.SummaryMetric(f"str/{unit.lower()}")
            panels.append(wr.ScatterPlot(title=f"{better} against STR ({unit})", x=strs, y=value, log_x=True))
        panels.append(_bars(f"{better} by selector", f"metrics/{name}"))
        panels.append(_columns(name))
    panels.append(_bars("STR (seconds) by selector", "str/seconds"))
    panels.append(_bars("STR (FLOP) by selector", "str/flop"))
    panels.append(_bars("Seconds of selecting, by selector", "str/selection_seconds"))
    if any(record.data["selection"].get("kinds") for record in records):
        panels.append(_bars("Planted noise among the chosen rows (share)", "selection/planted_share"))
    if any(record.training for record in records):
        panels.append(wr.LinePlot(title="Training loss", x="Step", y=[run_data.LOSS], max_runs_to_show=50))
    for place, panel in enumerate(panels):
        panel.layout = wr.Layout(x=place % 2 * WIDTH, y=place // 2 * HEIGHT, w=WIDTH, h=HEIGHT)
    return panels


def _bars(title: str, metric: str) -> Any:
    """Means over the runs of each selector, seeds and budgets together, with the least and the most."""
    import wandb_workspaces.reports.v2 as wr

    return wr.BarPlot(
        title=title,
        metrics=[metric],
        groupby=wr.Config("selector_label"),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_bars_to_show=50,
    )


def _columns(metric: str) -> Any:
    """A line for each run, from its budget over its costs to its quality."""
    import wandb_workspaces.reports.v2 as wr

    axes = [wr.Config("selector_label"), wr.Config("budget_rows")]
    axes += [wr.SummaryMetric(name) for name in ("str/seconds", "str/flop", f"metrics/{metric}")]
    columns = [wr.ParallelCoordinatesPlotColumn(axis) for axis in axes]
    return wr.ParallelCoordinatesPlot(title=f"Budget, STR and {metric}", columns=columns)
