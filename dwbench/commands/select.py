"""`dwbench select`: choose rows of the user's own data; nothing is tuned."""

import inspect
import json
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from dwbench.budget import parse_budget
from dwbench.checks import check_selector
from dwbench.cli import Parser
from dwbench.config import build, embedder_named, model_named, names, selector_named, settings_of
from dwbench.cost import Cost
from dwbench.data.base import Splits
from dwbench.data.jsonl import UserFile
from dwbench.data.readers import check_output, write_fields, write_output, write_rows
from dwbench.data.sources import on_hub, read_source
from dwbench.errors import UserError
from dwbench.files import check_file, check_folder, expanded
from dwbench.job import progress, quiet_libraries, say
from dwbench.models.encoder import check_encoder
from dwbench.models.loading import check_model
from dwbench.models.spec import LM
from dwbench.run import Selection, training_pairs
from dwbench.run import select as choose
from dwbench.selectors.base import Selector
from dwbench.selectors.context import Context
from dwbench.selectors.material import Material
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store

EMBEDDED = "smollm2-135m"
EMBEDDED_ENCODER = "all-minilm-l6-v2"

OPTIONS = {
    "dataset.path": "POOL",
    "dataset.target_path": "--target",
    "dataset.input_column": "--input-column",
    "dataset.response_column": "--response-column",
    "model.source": "--model",
    "model.max_length": "--max-length",
    "embedder.source": "--embedder",
}
"""What the keys of `dwbench run`, which most messages name, are called here."""


def _parser() -> Parser:
    parser = Parser(prog="dwbench select", description="Choose the rows of your own data that are worth tuning on.")
    parser.add_argument("pool", metavar="POOL", help="a .jsonl, .json, .csv or .parquet file, or owner/name on the hub")
    parser.add_argument("--selector", required=True, help="a method: `dwbench list selectors`")
    parser.add_argument("--budget", default="10%", help="5%%, 0.05, 50 or 100%% (default 10%%)")
    parser.add_argument("--model", help=f"scorer: configured name, folder or hub id (default {EMBEDDED})")
    parser.add_argument("--max-length", type=int, metavar="TOKENS", help="longest sequence that the scorer is given")
    parser.add_argument("--embedder", default=EMBEDDED_ENCODER, help="text encoder: configured name, folder or hub id")
    parser.add_argument("--train", default="paper", choices=names("train"), help="how methods that tune a model do it")
    parser.add_argument("--target", metavar="FILE", help="labelled rows for targeted selectors")
    parser.add_argument("--out", metavar="FILE", help="the chosen rows, exactly as they were, in the pool's order")
    parser.add_argument("--scores", metavar="FILE", help="a JSON line for every row: id, score, rank, selected, reason")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the selector")
    parser.add_argument("--input-column", help="column of the prompt, where it has an unusual name")
    parser.add_argument("--response-column", help="column of the response")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", default=".dwbench/store", help="folder of stored stages")
    return parser


def select(arguments: Sequence[str]) -> int:
    try:
        return _select(arguments)
    except UserError as error:
        keys = "|".join(map(re.escape, OPTIONS))
        line = re.sub(rf"\b({keys})\b(=\.\.\.)?", lambda found: OPTIONS[found[1]], str(error))
        raise UserError(line) from error


def _select(arguments: Sequence[str]) -> int:
    quiet_libraries()
    given = _parser().parse_args(arguments)
    budget = parse_budget(given.budget)
    selector, label = selector_named(given.selector, _settings(given.set))
    if selector.fixed_share == 0.0:
        raise UserError(f"--selector {given.selector}: chooses no rows: take another one")
    embedder = embedder_named(given.embedder, "--embedder")
    train = build("--train", settings_of("train", given.train))
    if given.seed < 0:
        raise UserError(f"--seed {given.seed}: must be a whole number from 0")
    if given.max_length is not None and given.max_length < 2:
        raise UserError(f"--max-length {given.max_length}: must be at least 2")
    for option in ("out", "scores", "target", "store"):
        if getattr(given, option) == "":
            raise UserError(f"--{option}: is empty: give a name")
    source = None if on_hub(given.pool) else expanded(given.pool)
    out, scores = (None if name is None else expanded(name) for name in (given.out, given.scores))
    _check_outputs(source, given.target, out, scores)
    store = expanded(given.store)
    check_folder(store, f"--store {store}")
    model = model_named(given.model or EMBEDDED, "--model")
    if given.max_length is not None:
        model = replace(model, max_length=given.max_length)
    dataset = _dataset(given, "target" in selector.needs)
    splits = dataset.load(given.seed)
    k = budget.rows(len(splits.pool)) if selector.fixed_share is None else len(splits.pool)
    bench, models = Bench(Store(store), progress()), LoadedModels()
    untrainable: dict[str, str] = {}
    if given.model is not None or {"scorer", "model", "tokenizer"} & selector.needs:
        if given.model is None:
            say(f"scorer: {EMBEDDED} (name another with --model)")
        check_model(model)
        untrainable = _untrainable(models, model, dataset, splits)
    if "embedder" in selector.needs:
        check_encoder(embedder)
    material = Material(splits, dataset.task, model, model, embedder, train, given.seed)
    try:
        check_selector(selector, Context(selector.needs, bench, material, models))
        chosen = choose(bench, models, selector, material, k, untrainable)
    except UserError:
        raise
    except Exception as error:
        say(f"dwbench: {label} failed: {_defect(selector, error)}")
        return 1
    _tell(label, chosen, splits, bench)
    if scores is not None:
        lines = (json.dumps(line, ensure_ascii=False) + "\n" for line in score_lines(chosen, k))
        write_output(scores, "".join(lines).encode())
    ids = {row.id for row in chosen.chosen}
    if out is not None:
        positions = [position for position, row in enumerate(dataset.raw_pool()) if row.id in ids]
        if source is None:
            rows = read_source(given.pool, dataset.hub_split, dataset.revision)
            write_fields([rows[position][1] for position in positions], out)
        else:
            write_rows(source, positions, out)
        say(f"{len(positions)} rows in {out}")
    elif scores is None:
        print("\n".join(row.id for row in splits.pool if row.id in ids))
    return 0


def _check_outputs(source: Path | None, target: str | None, out: Path | None, scores: Path | None) -> None:
    """Raise UserError where a file can't be written, or would take the place of another that is named."""
    if out is not None:
        check_output(source, out)
    if scores is not None:
        check_file(scores, f"--scores {scores}")
    named: dict[Path, str] = {source.resolve(): "the pool itself"} if source else {}
    if target is not None:
        named[expanded(target).resolve()] = "the target set"
    for path in (out, scores):
        if path is not None:
            if path.resolve() in named:
                raise UserError(f"{path}: is {named[path.resolve()]}: name another file")
            named[path.resolve()] = "where the chosen rows go"


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--set {pair}: write --set key=value")
        try:
            settings[key.removeprefix("selector.")] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--set {pair}: the value can't be read: quote it as YAML") from None
    return settings


def _dataset(given: Any, needs_target: bool) -> UserFile:
    config = settings_of("dataset", "jsonl") | {
        "path": given.pool,
        "target_path": given.target,
        "input_column": given.input_column,
        "response_column": given.response_column,
        "target_rows": None if needs_target or given.target else 0,
        "test_rows": 0,
    }
    built = build("dataset", config)
    assert isinstance(built, UserFile)
    return built


def _untrainable(models: LoadedModels, model: LM, dataset: UserFile, splits: Splits) -> dict[str, str]:
    pairs = training_pairs(models.chat(model), dataset, splits.pool)
    if not pairs:
        raise UserError(
            f"--model {model.name}: no row of the pool fits into {model.max_length} tokens with any of its response: "
            f"raise --max-length, or give a model that takes more"
        )
    reason = f"no response token fits behind the prompt within {model.max_length} tokens"
    return {row.uid: reason for row in splits.pool if row.uid not in pairs}


def _defect(selector: Selector, error: Exception) -> str:
    """One line on an exception, with the deepest line of the selector's own file, or else where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == inspect.getfile(type(selector))]
    frame = (own or frames)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({frame.filename}:{frame.lineno})"


def score_lines(chosen: Selection, k: int) -> list[Mapping[str, Any]]:
    """For every row of the pool, in the pool's order: id, score (None where undefined), rank (1 = first choice),
    selected, and reason where the row is invalid."""
    rank = {int(position): place for place, position in enumerate(chosen.ranking.order, 1)}
    lines = []
    for position, row in enumerate(chosen.rows):
        value = float(chosen.scores.values[position])
        line: dict[str, Any] = {
            "id": row.id,
            "score": value if value == value and abs(value) != float("inf") else None,
            "rank": rank[position],
            "selected": rank[position] <= k,
        }
        if chosen.scores.reasons[position]:
            line["reason"] = chosen.scores.reasons[position]
        lines.append((row.index, line))
    return [line for _, line in sorted(lines, key=lambda pair: pair[0])]


def _tell(label: str, chosen: Selection, splits: Splits, bench: Bench) -> None:
    for note in splits.notes:
        say(note)
    reasons = [reason for reason in chosen.scores.reasons if reason]
    for reason in sorted(set(reasons)):
        count = reasons.count(reason)
        say(f"{count} {'row' if count == 1 else 'rows'} can't be scored: {reason}")
    invalid = sum(bool(chosen.scores.reasons[position]) for position in chosen.ranking.order[: len(chosen.chosen)])
    if invalid:
        say(f"chosen all the same, as there are no others: {invalid} of these: take them out, or lower --budget")
    for name, value in chosen.scores.notes.items():
        say(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    stages = bench.store.closure((chosen.artefact.ref,)) if chosen.artefact else {}
    cost = sum((stage.cost for stage in stages.values()), Cost())
    ties = f", {chosen.ranking.ties_at_cut} tied at the cut" if chosen.ranking.ties_at_cut else ""
    say(
        f"{label}: {len(chosen.chosen)} of {len(splits.pool)} rows{ties}; {cost.seconds:.1f} s, "
        f"{cost.forward_tokens:,} tokens forward"
    )
