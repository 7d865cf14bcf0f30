"""The state of the warehouse as metrics for Prometheus.

run history, lock, published manifest, sizes on disk -> `metrics_text` -> stdout, or a file that the
node exporter's textfile collector reads, written anew when a run has ended

All are gauges: they tell what is, and a new process starts from the same history. Nothing of it
opens the warehouse. Left out: names that change with every run, such as its id, because each would
be a time series of its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.durable import sync
from ingestion.errors import SettingsError
from ingestion.lock import current_owner, lock_path
from ingestion.settings import Settings
from runner.history import History
from runner.landers import lander_fields
from runner.observers import Ending, Observer
from runner.runs import as_it_is, seconds_between
from runner.status import status_fields
from runner.versions import all_versions, current_version, waiting_version
from runner.watch.state import last_state, watch_fields

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

    from runner.steps import Run

STATUSES = ("succeeded", "partly", "failed", "interrupted", "running")
_VERDICTS = {"passed": "ok", "warned": "warned", "failed": "failed", "skipped": "skipped"}
# The last audit that asked tests: one of the same code and rows asks none.
_LAST_TESTS = """
    select status, count(*) as tests
    from step_items
    where step = 'audit' and kind = 'test' and run_id = (
        select run_id from runs
        where exists (
            select 1 from step_items
            where step_items.run_id = runs.run_id and step = 'audit' and kind = 'test'
        )
        order by number desc limit 1
    )
    group by status
"""
# SQLite takes what is not aggregated from the row that has the maximum.
_LAST_FRESHNESS = """
    select name, status, max(recorded_at) from step_items where kind = 'freshness' group by name
"""
_OPEN_PROBLEMS = "select count(*) as problems from problems where cleared_at is null"
_LAST_SUCCESS = "select max(finished_at) as moment from runs where status = 'succeeded'"


def metrics_text(settings: Settings, own_run: str | None = None) -> bytes:
    """All metrics in Prometheus's text format.

    Args:
        settings: The project's settings.
        own_run: Run id of the run that asks, whose lock does not count as held.

    Raises:
        IngestionError: The run history is damaged.
    """
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(list(_families(settings, own_run))))
    return bytes(generate_latest(registry))


def write_metrics(settings: Settings, path: Path, own_run: str | None = None) -> None:
    """Writes all metrics to a file, which is complete at any moment.

    Args:
        settings: The project's settings.
        path: The file; its folder exists, as the collector's does.
        own_run: Run id of the run that asks.

    Raises:
        SettingsError: The file cannot be written.
    """
    text = metrics_text(settings, own_run)
    # The collector reads names that end in `.prom`: it must not see the unfinished one.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        unfinished.chmod(0o644)
        unfinished.replace(path)
        sync(path.parent)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise SettingsError(
            f"the metrics cannot be written to {path}: {error.strerror or error}",
            key="metrics.file",
            hint="Make the folder and give this user the right to write there.",
        ) from error


class MetricsFile(Observer):
    """Writes the metrics when a run has ended, however it ended."""

    name = "metrics"

    def on_end(self, run: Run, ending: Ending) -> None:
        """Writes the file."""
        path = run.settings.project_dir / Path(run.settings.metrics.file).expanduser()
        write_metrics(run.settings, path, run.run_id)


class _Collector:
    """Hands over what was gathered before."""

    def __init__(self, families: Sequence[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Sequence[GaugeMetricFamily]:
        """What there is."""
        return self._families


def _gauge(
    name: str, text: str, value: float | None, labels: Mapping[str, Any] | None = None
) -> Iterator[GaugeMetricFamily]:
    """A metric without labels, or with one label whose values are the keys; none for None."""
    from prometheus_client.core import GaugeMetricFamily

    if labels is not None:
        [(label, values)] = labels.items()
        known = {key: amount for key, amount in values.items() if amount is not None}
        family = GaugeMetricFamily(f"wellspring_{name}", text, labels=[label])
        for key, amount in known.items():
            family.add_metric([key], amount)
        if known:
            yield family
    elif value is not None:
        yield GaugeMetricFamily(f"wellspring_{name}", text, value=value)


def _families(settings: Settings, own_run: str | None) -> Iterator[GaugeMetricFamily]:
    owner = current_owner(lock_path(settings))
    is_held = owner is not None and owner.run_id != own_run
    yield from _gauge("lock_held", "Whether a run is under way (1) or not (0).", float(is_held))
    path = settings.state_dir / "history.sqlite"
    if path.is_file():
        with closing(History(path)) as history:
            yield from _run_families(history, owner.run_id if owner else None)
            yield from _test_families(history)
            [found] = history.rows(_OPEN_PROBLEMS)
            text = "Failures that people were told of and that have not recovered."
            yield from _gauge("open_problems", text, found["problems"])
        yield from _source_families(status_fields(settings)["sources"])
    yield from _lander_families(settings)
    yield from _watch_families(settings)
    yield from _version_families(settings)
    yield from _size_families(settings)


def _run_families(history: History, running: str | None) -> Iterator[GaugeMetricFamily]:
    found = history.rows("select * from runs order by number desc limit 1")
    if not found:
        return
    run = as_it_is(found[0], running)
    last = "of the last run"
    began, ended = _unix(run["started_at"]), _unix(run["finished_at"])
    yield from _gauge("last_run_start_timestamp_seconds", f"Start {last}, Unix time.", began)
    yield from _gauge("last_run_end_timestamp_seconds", f"End {last}, Unix time.", ended)
    yield from _gauge("last_run_duration_seconds", f"Duration {last}.", seconds_between(run))
    yield from _gauge("last_run_exit_code", f"Exit code {last}.", run["exit_code"])
    states = {status: float(status == run["status"]) for status in STATUSES}
    yield from _gauge("last_run_status", f"1 for the status {last}.", None, {"status": states})
    success = history.rows(_LAST_SUCCESS)[0]["moment"]
    text = "End of the last run that succeeded, Unix time."
    yield from _gauge("last_success_timestamp_seconds", text, _unix(success))
    text = f"Most memory in use at once {last}."
    yield from _gauge("last_run_peak_memory_bytes", text, run["peak_memory_bytes"])
    yield from _gauge("last_run_loaded_rows", f"Rows loaded {last}.", run["loaded_rows"])
    yield from _gauge("last_run_loaded_bytes", f"Size of files loaded {last}.", run["loaded_bytes"])
    steps = history.rows("select step, seconds from steps where run_id = ?", (run["run_id"],))
    seconds = {step["step"]: step["seconds"] for step in steps}
    yield from _gauge("last_run_step_duration_seconds", f"By step {last}.", None, {"step": seconds})


def _test_families(history: History) -> Iterator[GaugeMetricFamily]:
    found = {row["status"]: row["tests"] for row in history.rows(_LAST_TESTS)}
    if found:
        verdicts = {word: found.get(status, 0) for word, status in _VERDICTS.items()}
        text = "Data tests by verdict, as they were asked last."
        yield from _gauge("tests", text, None, {"verdict": verdicts})
    stale: dict[str, int] = {}
    for row in history.rows(_LAST_FRESHNESS):
        source = row["name"].partition(".")[0]
        stale[source] = stale.get(source, 0) + (row["status"] in ("failed", "warned"))
    text = "Tables that are older than their declaration allows."
    yield from _gauge("source_stale_tables", text, None, {"source": stale})


def _source_families(sources: Mapping[str, Mapping[str, Any]]) -> Iterator[GaugeMetricFamily]:
    def of(name: str, text: str, values: Mapping[str, Any]) -> Iterator[GaugeMetricFamily]:
        return _gauge(f"source_{name}", text, None, {"source": values})

    def column(key: str) -> dict[str, Any]:
        return {source: figures.get(key) for source, figures in sources.items()}

    yield from of("rows", "Rows loaded in all.", column("rows"))
    yield from of("files", "Files loaded in all.", column("files"))
    yield from of("rejected_records", "Records that could not be read.", column("rejected"))
    yield from of("quarantined_rows", "Rows that broke a rule.", column("quarantined"))
    moments = {source: _unix(f.get("last_success")) for source, f in sources.items()}
    yield from of(
        "last_success_timestamp_seconds", "Last successful extraction, Unix time.", moments
    )
    failing = {
        source: float((f.get("last_failure") or "") > (f.get("last_success") or ""))
        for source, f in sources.items()
    }
    yield from of("failing", "Whether the last extraction failed (1) or not (0).", failing)


def _lander_families(settings: Settings) -> Iterator[GaugeMetricFamily]:
    landers = lander_fields(settings)
    if not landers:
        return

    def of(name: str, text: str, values: Mapping[str, Any]) -> Iterator[GaugeMetricFamily]:
        return _gauge(f"lander_{name}", text, None, {"lander": values})

    def column(key: str) -> dict[str, Any]:
        return {name: fields.get(key) for name, fields in landers.items()}

    alive = {name: float(fields["is_alive"]) for name, fields in landers.items()}
    yield from of("up", "Whether a lander is at work (1) or not (0).", alive)
    yield from of("lag_messages", "Messages that wait to be landed.", column("lag"))
    yield from of("rows", "Messages landed since the lander was started.", column("rows"))
    yield from of("rate", "Messages landed in a second, of late.", column("rate"))
    yield from of("faults", "Messages that could not be decoded.", column("faults"))
    text = "When the last file was made durable, Unix time."
    yield from of("last_landed_timestamp_seconds", text, column("last_landed_at"))


def _watch_families(settings: Settings) -> Iterator[GaugeMetricFamily]:
    last = last_state(settings)
    if last is None:
        return
    is_up = watch_fields(settings) is not None
    yield from _gauge("watch_up", "Whether a watch is at work (1) or not (0).", float(is_up))
    failing = "Whether readers keep a former live version because of a failure (1) or not (0)."
    yield from _gauge("watch_failing", failing, float(bool(last["failing"])))
    cycles = "Cycles of the watch that loaded or built anything."
    yield from _gauge("watch_cycles", cycles, last["cycles"])
    yield from _gauge("watch_cycle_seconds", "Duration of its last cycle.", last["cycle_seconds"])
    yield from _gauge("watch_rows", "Rows that it has loaded.", last["rows"])
    lag = "From the landing of the newest rows to the live version that has them."
    yield from _gauge("watch_lag_seconds", lag, last["lag_seconds"])
    made = "When the current live version was made, Unix time."
    yield from _gauge("live_version_timestamp_seconds", made, _unix(last["published_at"]))


def _version_families(settings: Settings) -> Iterator[GaugeMetricFamily]:
    yield from _gauge("versions", "Published versions that are kept.", len(all_versions(settings)))
    text = "Whether a version waits for a person to approve it (1) or not (0)."
    yield from _gauge("version_waiting", text, float(waiting_version(settings) is not None))
    version = current_version(settings)
    if version is None:
        return
    manifest = version.manifest()
    made = _unix(manifest["created_at"])
    rows = sum(table["rows"] for table in manifest["tables"])
    size = version.database.stat().st_size
    withheld = len(manifest.get("withheld", {}))
    text = "Tables that stayed at their last good version because of a failure."
    yield from _gauge("withheld_tables", text, withheld)
    yield from _gauge("published_timestamp_seconds", "When the current version was made.", made)
    yield from _gauge("published_tables", "Tables readers get.", len(manifest["tables"]))
    yield from _gauge("published_rows", "Rows readers get.", rows)
    yield from _gauge("published_bytes", "Size of the database that readers get.", size)


def _size_families(settings: Settings) -> Iterator[GaugeMetricFamily]:
    warehouse = settings.warehouse_path
    size = warehouse.stat().st_size if warehouse.is_file() else 0
    yield from _gauge("warehouse_bytes", "Size of the warehouse file.", size)
    yield from _gauge("landing_bytes", "Size of landing.", _folder_size(settings.landing_dir))
    if settings.data_dir.is_dir():
        free = shutil.disk_usage(settings.data_dir).free
        yield from _gauge("disk_free_bytes", "Free on the disk of the data folder.", free)


def _folder_size(folder: Path) -> int:
    size, ahead = 0, [folder] if folder.is_dir() else []
    while ahead:
        with os.scandir(ahead.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    ahead.append(Path(entry.path))
                else:
                    size += entry.stat(follow_symlinks=False).st_size
    return size


def _unix(moment: str | None) -> float | None:
    return datetime.fromisoformat(moment).timestamp() if moment else None
