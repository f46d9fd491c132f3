"""`dwbench plot`: figures for papers, from records."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from dwbench.cli import Parser
from dwbench.errors import UserError, nearest
from dwbench.files import check_file, expanded, write_whole
from dwbench.records import Record, load_records
from dwbench.report.plots.choices import plot_agreement, plot_kinds
from dwbench.report.plots.costs import plot_cost
from dwbench.report.plots.perplexity import plot_perplexity
from dwbench.report.plots.quality import plot_budget, plot_str
from dwbench.report.plots.settings import plot_grid, plot_layers
from dwbench.report.plots.style import UNDATED, Form, Plot, content
from dwbench.report.table import Table, table

OF_METRIC: dict[str, Callable[[Table, Mapping[str, Record], str | None], Plot | None]] = {
    "str": plot_str,
    "budget": plot_budget,
    "layers": plot_layers,
    "grid": plot_grid,
}
OF_RECORDS: dict[str, Callable[[Sequence[Record]], Plot | None]] = {
    "agreement": plot_agreement,
    "kinds": plot_kinds,
    "perplexity": plot_perplexity,
}

LACKS = {
    "str": "no selector was tuned and evaluated",
    "budget": "no selector was tuned and evaluated at two budgets",
    "cost": "nothing was selected",
    "layers": "no two runs of data_whisperer differ in its layer alone: run with selector.layer=5,13",
    "grid": "no two runs of data_whisperer differ in n_d and n_q alone: run with selector.n_d=5,10",
    "agreement": "no two selectors chose as many rows of one pool",
    "kinds": "no run has a pool with planted noise: run with plant=noise",
    "perplexity": "no run tells of perplexities, and none of low_ppl or longest_response ranks a pool",
}
"""The kinds of plots, and what is said where the records have nothing for one."""


def plot(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    kinds = [given.kind] if given.kind else list(LACKS)
    if given.out and not given.kind:
        raise UserError(f"--out: one file takes one plot: name it with --kind {', '.join(LACKS)}")
    if given.metric and given.kind and given.kind not in OF_METRIC:
        raise UserError(f"--metric: a plot of kind {given.kind} shows none: leave it out")
    paths = {kind: _path(given.out, given.name, kind) for kind in kinds}
    records = load_records(Path(given.results))
    shown = _of_experiment(records, given.name, given.results)
    tables = OF_METRIC.keys() | {"cost"}
    made = table(shown, reference=records, allow_mixed=given.allow_mixed) if tables & set(kinds) else None
    if made is not None and given.metric:
        _check_metric(made, given.metric)
    drawn = {kind: _plot(kind, made, shown, given.metric) for kind in kinds}
    lacking = [f"{kind}: {LACKS[kind]}" for kind, found in drawn.items() if found is None]
    if len(lacking) == len(kinds):
        raise UserError(f"{given.results}: nothing to plot: {'; '.join(lacking)}")
    for kind, found in drawn.items():
        if found is not None:
            _write(paths[kind], content(found.figure, _form(paths[kind])))
            print("\n  ".join([str(paths[kind]), *found.notes]))
    for told in lacking:
        print(f"left out: {told}")
    return 0


def _parser() -> Parser:
    parser = Parser(prog="dwbench plot", description="Figures for papers, from records.")
    parser.add_argument("name", nargs="?", help="an experiment; all records without it")
    parser.add_argument("--results", default="results", help="folder of records (results)")
    parser.add_argument("--kind", choices=list(LACKS), help="which plot; without it a file for each that records allow")
    parser.add_argument("--out", help="file to write, .svg, .pdf or .png (NAME-KIND.svg)")
    parser.add_argument("--metric", help="of str, budget, layers and grid (the task's own)")
    parser.add_argument("--allow-mixed", action="store_true", help="show other library versions or hardware too")
    return parser


def _path(out: str | None, name: str | None, kind: str) -> Path:
    """Where the plot goes; a file that can be written."""
    path = expanded(out or f"{(name or 'all').replace('/', '_')}-{kind}.svg")
    what = f"--out {out}" if out else str(path)
    if path.suffix.removeprefix(".") not in UNDATED:
        raise UserError(f"{what}: no format for figures: end it in .svg, .pdf or .png")
    check_file(path, what)
    return path


def _write(path: Path, figure: bytes) -> None:
    try:
        write_whole(path, figure)
    except OSError as error:
        raise UserError(f"{path}: can't be written ({error.strerror}): name another file") from error


def _form(path: Path) -> Form:
    return cast(Form, path.suffix.removeprefix("."))


def _of_experiment(records: Sequence[Record], name: str | None, results: str) -> list[Record]:
    shown = [record for record in records if name in (None, record.experiment or "runs")]
    if shown:
        return shown
    known = {record.experiment or "runs" for record in records}
    hint = nearest(name, known) if name and known else "run something first"
    raise UserError(f"{results}: no records{f' of experiment {name}' if name else ''}: {hint}")


def _check_metric(made: Table, metric: str) -> None:
    known = {name for section in made.sections for name in section.metrics}
    if metric not in known:
        raise UserError(f"--metric {metric}: no record has it: {nearest(metric, known)}")


def _plot(kind: str, made: Table | None, shown: Sequence[Record], metric: str | None) -> Plot | None:
    if made is None or kind in OF_RECORDS:
        return OF_RECORDS[kind](shown)
    by_run = {record.run: record for record in shown}
    return plot_cost(made, by_run) if kind == "cost" else OF_METRIC[kind](made, by_run, metric)
