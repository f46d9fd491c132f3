"""Records to Weights & Biases: one W&B run a record, never the other way round, and one with the table of them all.

Nothing is asked and nothing waits for long: without an account, a key or a network runs are written
offline, and `wandb sync` uploads them later. A marker file for each record makes publishing idempotent.
Sent are configuration, metrics, costs, losses and the ids of the chosen rows; no texts, commands
or host names.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dwbench.errors import UserError
from dwbench.records import Record
from dwbench.tracking import run_data
from dwbench.tracking.wandb_runs import Entry, Mode, OfRecord, OfTable, Target, mark, wandb_environment

if TYPE_CHECKING:
    import wandb

# Uploads go on in wandb's own process while later runs are written; this bounds the wait at the end of each.
FINISH_SECONDS = 60.0


@dataclass(frozen=True)
class Published:
    """What `publish` did.

    Attributes:
        count_new: runs written now.
        count_skipped: records that had been published before.
        count_failed: runs that W&B refused, the table's among them.
        mode: `online`, `offline` or `disabled`: what it came to, not what was asked.
        where: address of the project or folder of the offline runs; None where nothing was written.
        notice: one line for the user where it went otherwise than asked; None otherwise.
        table: the table of all runs was written now.
    """

    count_new: int
    count_skipped: int
    count_failed: int
    mode: str
    where: str | None
    notice: str | None
    table: bool = False


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
    table: bool = False,
    timeout_s: float = 10.0,
) -> Published:
    """Publish those of `records` that are not yet. `reference`: other records whose tuning times serve their STR.

    With `table` one more W&B run has the table of all `records` and `reference`; it is written anew, in place of what
    was there, whenever the table has changed.

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
    target = Target(project, entity, folder, marks)
    different = {record.content_key: record for record in records}.values()
    waiting = [record for record in different if not target.has(mark(record), record.content_key, mode)]
    skipped = len(records) - len(waiting)
    entries: list[Entry] = []
    if waiting or table:
        everything = [*reference, *records]
        known = run_data.ratio_of(everything)
        entries += [OfRecord(record, known[record.run], log_loss) for record in waiting]
        whole = OfTable(run_data.table_rows(everything, known))
        if table and everything and not target.has(whole.mark, whole.content, mode):
            entries.append(whole)
    if not entries:
        return Published(0, skipped, 0, "online" if mode == "online" else "offline", None, None)
    with wandb_environment(folder):
        writer = _Writer(target, timeout_s=timeout_s, online=mode != "offline")
        return writer.write_all(entries, skipped, explicit=mode == "online")


def _check(project: str, mode: str) -> None:
    if not project or len(project) > 128 or set(project) & set("/\\#?%:"):
        raise UserError(f"W&B project {project!r}: give 1 to 128 characters, none of / \\ # ? % :")
    if mode not in ("auto", "offline", "online"):
        raise UserError(f"W&B mode {mode!r}: known: auto, offline, online")


class _Writer:
    """Writes entries as W&B runs; online until that fails, then offline."""

    def __init__(self, target: Target, *, timeout_s: float, online: bool) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._online = online
        self._where: str | None = None

    def write_all(self, entries: Sequence[Entry], skipped: int, explicit: bool) -> Published:
        import wandb

        written: list[Entry] = []
        failed: list[str] = []
        notice = None
        try:
            for entry in entries:
                try:
                    notice = self._write_somewhere(entry, explicit) or notice
                    written.append(entry)
                except Exception as error:  # publishing must never make a finished run fail, whatever wandb raises
                    failed.append(f"{entry.what}: {one_line(error)}")
        finally:
            wandb.teardown()
        if failed:
            notice = f"{len(failed)} of {len(entries)} runs not published, first {failed[0]}"
        table = any(isinstance(entry, OfTable) for entry in written)
        return Published(len(written) - table, skipped, len(failed), self._mode, self._where, notice, table)

    def _write_somewhere(self, entry: Entry, explicit: bool) -> str | None:
        """Write an entry, offline where online fails; a notice where the user should know of that."""
        import wandb

        notice = None
        try:
            self._write(entry)
        except Exception as error:  # no account, no key, no network, no permission, an upload that hangs
            if not self._online:
                raise
            # Someone without an account is not told so after every run, unless online was asked for.
            if explicit or not isinstance(error, wandb.errors.UsageError):
                notice = f"W&B can't be reached, runs are written offline: {one_line(error)}"
            self._go_offline(entry)
            self._write(entry)
        return notice

    @property
    def _mode(self) -> Literal["online", "offline"]:
        return "online" if self._online else "offline"

    def _go_offline(self, entry: Entry) -> None:
        import wandb

        # In this process wandb keeps the failed run's id as taken; and its half-made folder is no run.
        wandb.teardown()
        for folder in (self._target.folder / "wandb").glob(f"run-*-{entry.run_id(self._target)}"):
            shutil.rmtree(folder, ignore_errors=True)
        self._online = False
        self._where = None

    def _write(self, entry: Entry) -> None:
        import wandb

        from dwbench.store import write_json

        # Silent for the whole session, not only for the run: the login would speak, and on a terminal ask.
        wandb.setup(settings=wandb.Settings(silent=True))
        run_id, about = entry.run_id(self._target), entry.about()
        run = wandb.init(
            project=self._target.project,
            entity=self._target.entity,
            dir=self._target.folder,
            id=run_id,
            name=about.name,
            group=about.group,
            job_type=about.job_type,
            tags=about.tags,
            config=about.config,
            mode=self._mode,
            resume=entry.resume,
            settings=_settings(self._timeout_s),
        )
        folder = Path(run.dir).parent
        try:
            entry.fill(run, self._target)
        except BaseException:
            run.finish(exit_code=1)
            raise
        run.finish()
        self._where = run.project_url if self._online else str(self._target.folder / "wandb")
        entry.supersede(self._target, folder)
        told = {"id": run_id, "content": entry.content, "folder": str(folder)}
        write_json(self._target.marker(entry.mark, self._mode), told)


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
        host="",
        x_disable_stats=True,
        x_save_requirements=False,
    )


def one_line(error: Exception) -> str:
    """An error's first line, or its kind where it says nothing."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
