"""`dwbench table`, `dwbench list`, `dwbench publish`: nothing is computed."""

from collections.abc import Sequence
from pathlib import Path
from shutil import get_terminal_size

from dwbench.cli import Parser
from dwbench.config import conf_folders, names, selector_named, settings_of
from dwbench.errors import UserError, nearest

KINDS = {"selectors": "selector", "models": "model", "datasets": "dataset", "experiments": "experiment"}


def table(arguments: Sequence[str]) -> int:
    from dwbench.records import load_records
    from dwbench.report.agreement import agreements
    from dwbench.report.agreement import render as render_agreement
    from dwbench.report.formats import render
    from dwbench.report.table import table as make_table

    parser = Parser(prog="dwbench table", description="Tables from records.")
    parser.add_argument("name", nargs="?", help="an experiment: a folder below the results")
    parser.add_argument("--results", default="results", help="folder of records (results)")
    parser.add_argument("--format", default="text", choices=["text", "md", "csv", "latex"])
    parser.add_argument("--allow-mixed", action="store_true", help="show other library versions or hardware too")
    parser.add_argument("--agreement", action="store_true", help="how far selectors agree, instead (text or md)")
    given = parser.parse_args(arguments)
    if given.agreement and given.format not in ("text", "md"):
        raise UserError(f"--format {given.format}: --agreement has text and md")
    records = load_records(Path(given.results))
    shown = [record for record in records if given.name in (None, record.experiment or "runs")]
    if not shown:
        known = sorted({record.experiment for record in records if record.experiment})
        hint = nearest(given.name, known) if given.name and known else "run something first"
        raise UserError(f"{given.results}: no records{f' of experiment {given.name}' if given.name else ''}: {hint}")
    if given.agreement:
        found = agreements(shown)
        if not found:
            raise UserError(f"{given.results}: no two selectors chose as many rows of one pool: run some more")
        print(render_agreement(found, given.format), end="")
        return 0
    shown_table = make_table(shown, reference=records, allow_mixed=given.allow_mixed)
    print(render(shown_table, given.format, width=max(80, get_terminal_size().columns)))
    return 0


def list_names(arguments: Sequence[str]) -> int:
    parser = Parser(prog="dwbench list", description="What there is.")
    parser.add_argument("what", nargs="?", choices=list(KINDS))
    given = parser.parse_args(arguments)
    for kind in [given.what] if given.what else list(KINDS):
        print(f"{kind}:")
        for name in names(KINDS[kind]):
            print(f"  {name:24}{_about(kind, name)}".rstrip())
    return 0


def _about(kind: str, name: str) -> str:
    if kind == "selectors":
        try:
            selector, _ = selector_named(name, {})
        except UserError as error:  # a file of the user's own must not hide all others
            return f"can't be used: {error}"
        needs = ", ".join(sorted(selector.needs)) or "nothing"
        return f"{selector.paper} | needs {needs} | {selector.cost_class}"
    if kind == "models":
        return str(settings_of("model", name)["source"])
    paths = [folder / KINDS[kind] / f"{name}.yaml" for folder in conf_folders()]
    text = next(path for path in paths if path.exists()).read_text(encoding="utf-8")
    comments = [line[2:] for line in text.splitlines() if line.startswith("# ") and "@package" not in line]
    return comments[0] if comments else ""


def publish(arguments: Sequence[str]) -> int:
    from dwbench.publish import publish as publish_records
    from dwbench.records import load_records

    parser = Parser(prog="dwbench publish", description="Records to W&B, each once.")
    parser.add_argument("--results", default="results", help="folder of records (results)")
    parser.add_argument("--project", default="dwbench")
    parser.add_argument("--entity")
    parser.add_argument("--mode", default="auto", choices=["auto", "offline", "online"])
    parser.add_argument("--folder", default=".dwbench", help="where W&B's files and the marks of what is published lie")
    given = parser.parse_args(arguments)
    folder = Path(given.folder)
    told = publish_records(
        load_records(Path(given.results)),
        project=given.project,
        entity=given.entity,
        mode=given.mode,
        folder=folder / "wandb",
        marks=folder / "published",
    )
    where = f" in {told.where}" if told.where else ""
    print(f"{told.count_new} published ({told.mode}){where}, {told.count_skipped} were already")
    if told.notice:
        print(f"W&B: {told.notice}")
    return 1 if told.count_failed else 0
