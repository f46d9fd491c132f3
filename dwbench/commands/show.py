"""`dwbench table`, `dwbench list`: nothing is computed."""

from collections.abc import Sequence
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from dwbench.cli import Parser
from dwbench.config import conf_folders, names, selector_named, settings_of
from dwbench.errors import UserError, nearest

if TYPE_CHECKING:
    from dwbench.records import Record
    from dwbench.report.published import Published

GRIDS = {
    "agreement": "no two selectors chose as many rows of one pool, and none did under two seeds: run some more",
    "diversity": "no run tells of it: run again with diversity=true",
    "perplexity": "no run tells of it: run again with perplexity=true",
    "kinds": "no run has a pool with planted noise: run with plant=noise",
}
"""Views that are grids without CSV, and what is said where there is nothing to show."""

KINDS = {"selectors": "selector", "models": "model", "datasets": "dataset", "experiments": "experiment"}


def table(arguments: Sequence[str]) -> int:
    from dwbench.records import load_records
    from dwbench.report.published import published

    given = _table_parser().parse_args(arguments)
    grids = [name for name in GRIDS if getattr(given, name)]
    if grids and given.format == "csv":
        raise UserError(f"--format csv: --{grids[0]} has text, md and latex")
    view = grids or given.leaderboard or given.plain
    numbers = () if view or given.name is None else published(given.name)
    folder = Path(given.results)
    # What a paper says can be shown before anything has run.
    records = [] if numbers and not folder.is_dir() else load_records(folder)
    shown = [record for record in records if given.name in (None, record.experiment or "runs")]
    if not shown and not numbers:
        known = sorted({record.experiment for record in records if record.experiment})
        hint = nearest(given.name, known) if given.name and known else "run something first"
        raise UserError(f"{given.results}: no records{f' of experiment {given.name}' if given.name else ''}: {hint}")
    width = max(80, get_terminal_size().columns)
    if grids:
        text = _grids(grids[0], shown, given.format)
    elif given.leaderboard:
        text = _leaderboard(shown, given.format, given.allow_mixed, width)
    else:
        text = _table(shown, records, numbers, given.format, given.allow_mixed, width)
        if not view and given.format != "csv":
            text += _perplexities(shown, given.format)
    print(text, end="")
    return 0


def _table_parser() -> Parser:
    parser = Parser(prog="dwbench table", description="Tables from records.")
    parser.add_argument(
        "name", nargs="?", help="an experiment: its paper's numbers with ours, or the records' own table"
    )
    parser.add_argument("--results", default="results", help="folder of records (results)")
    parser.add_argument("--format", default="text", choices=["text", "md", "csv", "latex"])
    parser.add_argument("--allow-mixed", action="store_true", help="show other library versions or hardware too")
    views = parser.add_mutually_exclusive_group()
    views.add_argument(
        "--plain", action="store_true", help="the records' own table, with costs, without the paper's numbers"
    )
    views.add_argument("--leaderboard", action="store_true", help="selectors by quality, and what of it is not chance")
    agreement = "how far selectors agree, and each with itself under other seeds (text, md or latex)"
    views.add_argument("--agreement", action="store_true", help=agreement)
    views.add_argument("--diversity", action="store_true", help="how diverse what they chose is (text, md or latex)")
    views.add_argument(
        "--perplexity", action="store_true", help="perplexity of what they chose beside the pool's (text, md or latex)"
    )
    views.add_argument("--kinds", action="store_true", help="what they chose of planted noise (text, md or latex)")
    return parser


def _table(
    shown: "Sequence[Record]",
    reference: "Sequence[Record]",
    numbers: "Sequence[Published]",
    form: str,
    allow_mixed: bool,
    width: int,
) -> str:
    from dwbench.report import comparison, comparison_view, formats
    from dwbench.report.table import table as make_table

    made = make_table(shown, reference=reference, allow_mixed=allow_mixed)
    if not numbers:
        return formats.render(made, form, width=width)
    return comparison_view.render(comparison.compare(made, numbers), made, form, width=width)


def _leaderboard(shown: "Sequence[Record]", form: str, allow_mixed: bool, width: int) -> str:
    from dwbench.report.leaderboard import leaderboards
    from dwbench.report.leaderboard_view import render

    return render(leaderboards(shown, allow_mixed=allow_mixed), form, width=width)


def _perplexities(shown: "Sequence[Record]", form: str) -> str:
    """The grids of perplexity behind an experiment's own table; nothing where no run tells of it."""
    from dwbench.report import perplexity

    found = perplexity.perplexities(shown)
    return "\n" + perplexity.render(found, form) if found else ""


def _grids(view: str, shown: "Sequence[Record]", form: str) -> str:
    from dwbench.report import diversity, kinds, perplexity

    text = ""
    if view == "agreement":
        text = _agreements(shown, form)
    elif view == "diversity" and (diversities := diversity.diversities(shown)):
        text = diversity.render(diversities, form)
    elif view == "perplexity" and (perplexities := perplexity.perplexities(shown)):
        text = perplexity.render(perplexities, form)
    elif view == "kinds" and (audits := kinds.audits(shown)):
        text = kinds.render(audits, form)
    if not text:
        raise UserError(f"--{view}: {GRIDS[view]}")
    return text


def _agreements(shown: "Sequence[Record]", form: str) -> str:
    from dwbench.report import agreement, steadiness

    pairs, seeds = agreement.agreements(shown), steadiness.steadiness(shown)
    parts = [agreement.render(pairs, form)] if pairs else []
    return "\n".join(parts + ([steadiness.render(seeds, form)] if seeds else []))


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
