"""Records to Weights & Biases: one W&B run a record, never the other way round.

Nothing is asked and nothing waits for long: without an account, a key or a network runs are written
offline, and `wandb sync` uploads them later. A marker file for each record makes publishing idempotent.
Sent are configuration, metrics, costs, losses and the ids of the chosen rows; no texts, commands
or host names.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dwbench.component import key_of
from dwbench.errors import UserError
from dwbench.records import Record
from dwbench.report.str_ratio import Ratio, ratios

if TYPE_CHECKING:
    import wandb

Mode = Literal["auto", "offline", "online"]

# Uploads go on in wandb's own process while later runs are written; this bounds the wait at the end of each.
FINISH_SECONDS = 60.0


@dataclass(frozen=True)
class Published:
    """What `publish` did.

    Attributes:
        count_new: runs written now.
        count_skipped: records that had been published before.
        count_failed: records that W&B refused.
        mode: `online`, `offline` or `disabled`: what it came to, not what was asked.
        where: address of the project or folder of the offline runs; None where nothing was written.
        notice: one line for the user where it went otherwise than asked; None otherwise.
    """

    count_new: int
    count_skipped: int
    count_failed: int
    mode: str
    where: str | None
    notice: str | None


def publish(
    records: Sequence[Record],
    *,
    project: str,
    entity: str | None = None,
    mode: Mode = "auto",
    folder: Path,
    marks: Path,
    reference: Sequence[Record] = (),
    log_loss: bool = True,
    timeout_s: float = 10.0,
) -> Published:
    """Publish those of `records` that are not yet. `reference`: other records whose tuning times serve their STR.

    `auto` goes online where a key is configured and offline otherwise, and leaves alone what was published in
    either way; `online` also uploads what had only been written offline. WANDB_MODE=disabled switches
    everything off, WANDB_MODE=offline holds for `auto`. Without an answer in `timeout_s` seconds: offline.

    wandb's files lie in `folder`, markers in `marks`. Problems of wandb end up in `notice`, none is raised.
    Raises UserError for a project name that W&B does not take or an unknown mode. W&B runs that the
    caller has open in this process are ended.
    """
    _check(project, mode)
    wanted = os.environ.get("WANDB_MODE", "")
    if wanted == "disabled":
        return Published(0, 0, 0, "disabled", None, None)
    if mode == "auto" and wanted in ("offline", "dryrun"):
        mode = "offline"
    target = _Target(project, entity, folder, marks)
    different = {record.content_key: record for record in records}.values()
    waiting = [record for record in different if not target.has(record, mode)]
    skipped = len(records) - len(waiting)
    if not waiting:
        return Published(0, skipped, 0, "online" if mode == "online" else "offline", None, None)
    everything = list({record.run: record for record in [*reference, *records]}.values())
    ratio_of = dict(zip((record.run for record in everything), ratios(everything), strict=True))
    with _wandb_environment(folder):
        writer = _Writer(target, ratio_of, log_loss=log_loss, timeout_s=timeout_s, online=mode != "offline")
        return writer.write_all(waiting, skipped, explicit=mode == "online")


def _check(project: str, mode: str) -> None:
    if not project or len(project) > 128 or set(project) & set("/\\#?%:"):
        raise UserError(f"W&B project {project!r}: give 1 to 128 characters, none of / \\ # ? % :")
    if mode not in ("auto", "offline", "online"):
        raise UserError(f"W&B mode {mode!r}: known: auto, offline, online")


@dataclass(frozen=True)
class _Target:
    """Where runs go, and what is there already."""

    project: str
    entity: str | None
    folder: Path
    marks: Path

    def marker(self, record: Record, mode: str) -> Path:
        return self.marks / f"{record.run}-{record.content_key}-{self._key}-{mode}.json"

    def has(self, record: Record, mode: Mode) -> bool:
        # What is online needs no offline copy. What is offline is uploaded only when asked: else every
        # run on a machine without network would wait for it again.
        enough = ("online",) if mode == "online" else ("online", "offline")
        return any(self.marker(record, one).exists() for one in enough)

    def run_id(self, record: Record) -> str:
        """The run's key; suffixed where another record of that run is there: nothing is overwritten."""
        for marker in (self.marker(record, "online"), self.marker(record, "offline")):
            if marker.exists():
                return str(json.loads(marker.read_text(encoding="utf-8"))["id"])
        changed = any(self.marks.glob(f"{record.run}-*-{self._key}-*.json"))
        return f"{record.run}-{record.content_key[:8]}" if changed else record.run

    @property
    def _key(self) -> str:
        return key_of([self.entity, self.project])[:8]


@contextmanager
def _wandb_environment(folder: Path) -> Iterator[None]:
    # Only by variables can wandb be kept from writing into the home folder and from reporting errors home.
    folder.mkdir(parents=True, exist_ok=True)
    ours = {
        "WANDB_CACHE_DIR": str(folder / "cache"),
        "WANDB_DATA_DIR": str(folder / "data"),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Writer:
    """Writes records as W&B runs; online until that fails, then offline."""

    def __init__(
        self, target: _Target, ratio_of: Mapping[str, Ratio], *, log_loss: bool, timeout_s: float, online: bool
    ) -> None:
        self._target = target
        self._ratio_of = ratio_of
        self._log_loss = log_loss
        self._timeout_s = timeout_s
        self._online = online
        self._where: str | None = None

    def write_all(self, records: Sequence[Record], skipped: int, explicit: bool) -> Published:
        import wandb

        failed: list[str] = []
        notice = None
        try:
            for record in records:
                try:
                    notice = self._write_somewhere(record, explicit) or notice
                except Exception as error:  # publishing must never make a finished run fail, whatever wandb raises
                    failed.append(f"{record.path}: {_one_line(error)}")
        finally:
            wandb.teardown()
        if failed:
            notice = f"{len(failed)} of {len(records)} runs not published, first {failed[0]}"
        return Published(len(records) - len(failed), skipped, len(failed), self._mode, self._where, notice)

    def _write_somewhere(self, record: Record, explicit: bool) -> str | None:
        """Write a record, offline where online fails; a notice where the user should know of that."""
        import wandb

        notice = None
        try:
            self._write(record)
        except Exception as error:  # no account, no key, no network, no permission, an upload that hangs
            if not self._online:
                raise
            # Someone without an account is not told so after every run, unless online was asked for.
            if explicit or not isinstance(error, wandb.errors.UsageError):
                notice = f"W&B can't be reached, runs are written offline: {_one_line(error)}"
            self._go_offline(record)
            self._write(record)
        return notice

    @property
    def _mode(self) -> Literal["online", "offline"]:
        return "online" if self._online else "offline"

    def _go_offline(self, record: Record) -> None:
        import wandb

        # In this process wandb keeps the failed run's id as taken; and its half-made folder is no run.
        wandb.teardown()
        for folder in (self._target.folder / "wandb").glob(f"run-*-{self._target.run_id(record)}"):
            shutil.rmtree(folder, ignore_errors=True)
        self._online = False
        self._where = None

    def _write(self, record: Record) -> None:
        import wandb

        from dwbench.store import write_json

        # Silent for the whole session, not only for the run: the login would speak, and on a terminal ask.
        wandb.setup(settings=wandb.Settings(silent=True))
        run_id = self._target.run_id(record)
        run = wandb.init(
            project=self._target.project,
            entity=self._target.entity,
            dir=self._target.folder,
            id=run_id,
            name=_name(record),
            group=record.experiment,
            job_type=record.selector,
            tags=[tag[:64] for tag in (record.dataset, record.model, record.selector)],
            config=run_config(record),
            mode=self._mode,
            settings=_settings(self._timeout_s),
        )
        try:
            self._fill(run, record)
        except BaseException:
            run.finish(exit_code=1)
            raise
        run.finish()
        self._where = run.project_url if self._online else str(self._target.folder / "wandb")
        write_json(self._target.marker(record, self._mode), {"id": run_id})

    def _fill(self, run: "wandb.Run", record: Record) -> None:
        import wandb

        training = record.training
        if self._log_loss and training is not None:
            for step, loss in training["loss"]:
                run.log({"train/loss": loss}, step=step)
        run.summary.update(run_summary(record, self._ratio_of[record.run]))
        # A file of ours and `immutable`: wandb uploads it from here and leaves no copy elsewhere.
        path = self._target.folder / "selections" / f"{run.id}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"run": record.run, **record.data["selection"]}), encoding="utf-8")
        artifact = wandb.Artifact(f"selection-{run.id}", type="selection")
        artifact.add_file(str(path), name="selection.json", policy="immutable", skip_cache=True)
        run.log_artifact(artifact)


def _settings(timeout_s: float) -> "wandb.Settings":
    import wandb

    # What wandb would add about machine and code is of this process, which computed nothing.
    return wandb.Settings(
        silent=True,
        console="off",
        init_timeout=timeout_s,
        login_timeout=timeout_s,
        finish_timeout=FINISH_SECONDS,
        finish_timeout_raises=True,
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )


def _one_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def _name(record: Record) -> str:
    return f"{record.label} {record.data['budget']['asked']} {record.dataset} {record.model} s{record.seed}"


def _flat(prefix: str, data: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            flat.update(_flat(f"{prefix}/{name}", value))
        else:
            flat[f"{prefix}/{name}"] = value
    return flat


def run_config(record: Record) -> dict[str, Any]:
    """The record's settings as a flat W&B configuration: what one groups and filters by."""
    data = record.data
    training, scorer, embedder = record.training, data["scorer"], data["embedder"]
    selector, evaluation = data["selector"], data["evaluation"]
    return {
        "run": record.run,
        "experiment": record.experiment,
        "dataset": record.dataset,
        "model": record.model,
        "scorer": None if scorer is None else scorer["name"],
        "embedder": None if embedder is None else embedder["name"],
        "selector": record.selector,
        "selector_label": record.label,
        "budget": data["budget"]["asked"],
        "budget_rows": record.rows,
        "pool_rows": data["budget"]["pool"],
        "seed": record.seed,
        **_flat("dataset", {name: data["dataset"][name] for name in ("fingerprints", "rows")}),
        **_flat("selector", {"version": selector["version"], **selector["identity"]}),
        **({} if training is None else _flat("train", {"version": training["version"], **training["identity"]})),
        "split_seed": evaluation["split_seed"],
        **_flat("eval", {"version": evaluation["version"], **evaluation["identity"]}),
        **_flat("environment", record.environment),
        **_flat("environments_differ", data.get("environments_differ", {})),
    }


def run_summary(record: Record, ratio: Ratio) -> dict[str, Any]:
    """Metrics, STR as it is known when the run is published and what it is made of, and cost by stage."""
    data = record.data
    summary: dict[str, Any] = {}
    for name, metric in record.metrics.items():
        summary[f"metrics/{name}"] = metric["value"]
        summary[f"metrics/{name}_n"] = metric["n"]
        if metric["stderr"] is not None:
            summary[f"metrics/{name}_stderr"] = metric["stderr"]
    known = {"seconds": ratio.seconds, "flop": ratio.flop, "estimated": ratio.estimated}
    summary |= {f"str/{name}": value for name, value in known.items() if value is not None}
    summary |= {
        "str/selection_seconds": record.spent("selection", "seconds"),
        "str/selection_flop": record.spent("selection", "flop"),
        "str/training_seconds": record.spent("training", "seconds"),
        "str/training_tokens": 0 if record.training is None else record.training["tokens"],
        "str/full_tuning_tokens": data["full_tuning"]["tokens"],
        "str/full_tuning_flop": data["full_tuning"]["flop"],
    }
    for part, cost in data["cost"].items():
        summary |= _flat(f"cost/{part}", cost["total"])
        for ref, one in cost["stages"].items():
            stage, key = ref.split("/")
            summary |= _flat(f"cost/{part}/{stage}-{key[:8]}", one)
    return summary
