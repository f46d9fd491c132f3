"""`dwbench publish`: records to W&B, with a table of them all, and the dashboard that shows them."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dwbench.cli import Parser
from dwbench.errors import UserError

if TYPE_CHECKING:
    from dwbench.tracking import to_wandb


def publish(arguments: Sequence[str]) -> int:
    from dwbench.records import load_records
    from dwbench.tracking import dashboard, to_wandb

    given = _parser().parse_args(arguments)
    records = load_records(Path(given.results))
    if not records:
        raise UserError(f"{given.results}: no records: run something first")
    folder, marks = Path(given.folder) / "wandb", Path(given.folder) / "published"
    if given.dashboard:
        dashboard.check(given.mode)
        dashboard.check_account(folder)
    told = to_wandb.publish(
        records,
        project=given.project,
        entity=given.entity,
        mode="online" if given.dashboard else given.mode,
        folder=folder,
        marks=marks,
        table=True,
    )
    print(_said(told))
    if told.notice:
        print(f"W&B: {told.notice}")
    if told.count_failed or (given.dashboard and told.mode != "online"):
        return 1
    if given.dashboard:
        saved = dashboard.save(records, project=given.project, entity=given.entity, folder=folder, marks=marks)
        print(f"dashboard: {saved}")
    return 0


def _said(told: "to_wandb.Published") -> str:
    how = f" ({told.mode})" if told.where or told.mode == "disabled" else ""  # of nothing, nowhere
    where = f" in {told.where}" if told.where else ""
    table = "; the table of all runs anew" if told.table else ""
    return f"{told.count_new} published{how}{where}, {told.count_skipped} were already{table}"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="dwbench publish", description="Records to W&B, each once, and a table of them all.")
    parser.add_argument("--results", default="results", help="folder of records (results)")
    parser.add_argument("--project", default="dwbench")
    parser.add_argument("--entity")
    parser.add_argument("--mode", default="auto", choices=["auto", "offline", "online"])
    parser.add_argument(
        "--dashboard",
        action="store_true",
        help="also a report on quality against STR; needs an account and pip install 'dwbench[dashboard]'",
    )
    parser.add_argument("--folder", default=".dwbench", help="where W&B's files and the marks of what is published lie")
    return parser
