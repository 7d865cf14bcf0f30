"""Makes the warehouse anew from landing alone, beside the present one, and swaps it in.

landing -> load -> build -> audit, all in `state/rebuild` -> renamed over the warehouse -> publish

Until the rename the present warehouse stays as it is, and it stays for good if the new one cannot
be built or does not pass its audit; what was made lies there then to be looked at, until the next
rebuild. The file keeps its base name throughout, because DuckDB names the catalog after it. Left
out: landing, of which nothing is changed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from ingestion.durable import sync
from ingestion.errors import BadInput, IngestionError
from ingestion.failpoints import failpoint
from ingestion.landing import check_whole
from ingestion.settings import DATA_VARIABLE, Settings
from ingestion.warehouse import connect
from runner.fingerprint import fingerprint
from runner.machine import StepResult, Task
from runner.report import count
from runner.steps import Run, audit_step, build_step, load_step
from runner.transform import Dbt
from runner.veracity.observe import Observed

# What the trial shares with the project: the log of dbt is looked for there, extensions are there.
_SHARED = ("logs", "duckdb_extensions")
_TOLD = 20


def rebuild_folder(settings: Settings) -> Path:
    """Where a rebuild works until it swaps."""
    return settings.state_dir / "rebuild"


class Rebuild:
    """One rebuild, as steps of a run."""

    def __init__(self) -> None:
        self._beside: Run | None = None

    def steps(self, publish: bool) -> list[str | Task]:
        """The steps for the pipeline.

        Args:
            publish: Whether to publish the new warehouse, too.
        """
        own: list[str | Task] = [
            Task("load", "Load all of landing into a new warehouse.", self._load),
            Task("build", "Build seeds and models in it.", self._in_trial(build_step)),
            Task("audit", "Run the data tests on it.", self._in_trial(audit_step)),
            Task("swap", "Put it in the place of the present warehouse.", self._swap),
        ]
        return [*own, "publish", "docs"] if publish else own

    def _load(self, run: Run) -> StepResult:
        check_whole(run.settings)
        _require_free(run.settings)
        self._beside = _trial_of(run)
        result = self._in_trial(load_step)(run)
        lost = _lost(run.settings, self._trial.settings)
        if not lost:
            return result
        listed = "\n".join(f"  {name}" for name in lost[:_TOLD])
        fault = BadInput(
            f"landing does not give {count(len(lost), 'file')} any more that the present warehouse "
            f"has:\n{listed}",
            file=run.settings.landing_dir,
            hint="Restore landing from a backup (`wellspring restore`), then rebuild.",
        )
        return replace(result, status="failed", stop=fault)

    def _in_trial(self, work: Callable[[Run], StepResult]) -> Callable[[Run], StepResult]:
        """A step's work, done in the new warehouse; what it found is told of the run."""

        def done(run: Run) -> StepResult:
            trial = self._trial
            trial.step = run.step
            former = os.environ.get(DATA_VARIABLE)
            try:
                result = work(trial)
            finally:
                # dbt was told of the trial's folder.
                os.environ.pop(DATA_VARIABLE, None)
                if former is not None:
                    os.environ[DATA_VARIABLE] = former
            run.failed_tests, run.observed = trial.failed_tests, trial.observed
            return result

        return done

    @property
    def _trial(self) -> Run:
        assert self._beside is not None, "load comes first"
        return self._beside

    def _swap(self, run: Run) -> StepResult:
        made, present = self._trial.settings.warehouse_path, run.settings.warehouse_path
        if fingerprint(made) is None:
            raise IngestionError(
                "the new warehouse is not closed, so it does not take the place of the present one",
                file=made,
                hint="Run `wellspring rebuild` again. This is a fault of Wellspring: please "
                "report it.",
            )
        with made.open("rb") as handle:
            os.fsync(handle.fileno())
        _require_free(run.settings)
        # DuckDB would apply the log of the former file to the new one.
        present.with_name(f"{present.name}.wal").unlink(missing_ok=True)
        present.parent.mkdir(parents=True, exist_ok=True)
        failpoint("rebuild.before_swap")
        made.replace(present)
        sync(present.parent)
        failpoint("rebuild.after_swap")
        shutil.rmtree(rebuild_folder(run.settings), ignore_errors=True)
        return StepResult("ok", f"{present.stat().st_size / 2**20:,.1f} MiB in place")


def _trial_of(run: Run) -> Run:
    """The run as it would be in a data folder that has nothing but landing."""
    folder = rebuild_folder(run.settings)
    shutil.rmtree(folder, ignore_errors=True)
    settings = replace(run.settings, data_dir=folder)
    settings.state_dir.mkdir(parents=True)
    settings.warehouse_path.parent.mkdir()
    run.settings.landing_dir.mkdir(parents=True, exist_ok=True)
    settings.landing_dir.symlink_to(run.settings.landing_dir)
    # The new warehouse shows its raw files where they are to stay.
    run.settings.raw_dir.mkdir(exist_ok=True)
    settings.raw_dir.symlink_to(run.settings.raw_dir)
    for name in _SHARED:
        shared = run.settings.state_dir / name
        shared.mkdir(parents=True, exist_ok=True)
        (settings.state_dir / name).symlink_to(shared)
    trial = replace(
        run, settings=settings, full_refresh=True, lazy=False, failed_tests=[], observed=Observed()
    )
    # Parsed once, for the real folder: dbt's partial parse would be lost to another one.
    trial.dbt = Dbt(settings, trial.on_node, run.dbt.manifest, trial.on_built)
    return trial


def _lost(present: Settings, made: Settings) -> list[str]:
    """Files that are loaded in the present warehouse, and not in the new one."""
    import duckdb

    def loaded(settings: Settings, table: str = "files") -> set[str]:
        if not settings.warehouse_path.is_file():
            return set()
        try:
            with closing(connect(settings, read_only=True)) as connection:
                rows = connection.execute(
                    f"select source || '.' || table_name || ': ' || file from ledger.{table} "
                    "where status = 'loaded'"
                ).fetchall()
        except (BadInput, duckdb.Error):
            # Damaged, or never loaded: then nothing can be said to be lost.
            return set()
        return {str(name) for (name,) in rows}

    return sorted(loaded(present) - loaded(made) - loaded(made, "expired_files"))


def _require_free(settings: Settings) -> None:
    """Folds the present warehouse's log into it, and refuses if somebody has it open.

    Raises:
        LockHeld: Somebody has.
    """
    if not settings.warehouse_path.is_file():
        return
    try:
        connect(settings).close()
    except BadInput:
        # It is damaged, which may be why it is made anew.
        return
