"""The one place that knows settings and paths.

wellspring.toml at the project's root, then the environment -> `load_settings` -> `Settings`

Standard library only, so that `wellspring --help` stays quick. Left out: secrets, which
`connections.py` reads through dlt's configuration.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

from ingestion.errors import SettingsError
from ingestion.units import is_size, is_time

SETTINGS_FILE = "wellspring.toml"
DATA_VARIABLE = "WELLSPRING_DATA"
_PREFIX = "WELLSPRING__"


@dataclass(frozen=True)
class PathSettings:
    """Section `[paths]`.

    Attributes:
        data: Folder for everything that is not code; relative to the project's root.
    """

    data: str = "data"


@dataclass(frozen=True)
class CompanionSettings:
    """Section `[companion]`.

    Attributes:
        command: Command line of a process to start for a run; empty for none.
    """

    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExtractSettings:
    """Section `[extract]`.

    Attributes:
        parallel_sources: How many sources are read at the same time, at least 1.
    """

    parallel_sources: int = 4


@dataclass(frozen=True)
class LandSettings:
    """Section `[land]`: landers of streams and change logs, and watched folders.

    Attributes:
        processes: Over how many processes they are shared out, at least 1.
        look_seconds: How often watched folders are looked at where the file system gives no notice.
        settle_seconds: A file is whole when it has not changed for so long.
    """

    processes: int = 2
    look_seconds: int = 30
    settle_seconds: int = 2


@dataclass(frozen=True)
class RunSettings:
    """Section `[run]`.

    Attributes:
        wait_for_lock: How long to wait while another process holds the warehouse; `0s` refuses.
    """

    wait_for_lock: str = "0s"


@dataclass(frozen=True)
class LimitsSettings:
    """Section `[limits]`.

    Attributes:
        memory: What a process may take: a share of the machine (`25%`) or a size (`4GB`).
        disk: What DuckDB may write to its temporary folder: a share of what is free, or a size.
        min_free: With less free space than this, a size or a share of the disk, a run does not
            start, and one that is under way ends between two steps; `0` switches it off.
    """

    memory: str = "25%"
    disk: str = "90%"
    min_free: str = "1GB"


@dataclass(frozen=True)
class NotificationsSettings:
    """Section `[notifications]`: who is told of new problems and of recoveries.

    Attributes:
        command: Command line of a program that gets the message as JSON on its standard input.
        webhooks: Names of connections whose `url` takes the message as JSON by POST.
        mail_server: Name of a connection whose `url` is `smtp://user:password@host:587`, or
            `smtps://` for TLS from the first byte; empty for no mail.
        mail_from: Sender of the mail.
        mail_to: Its recipients.
    """

    command: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = ()
    mail_server: str = ""
    mail_from: str = ""
    mail_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishSettings:
    """Section `[publish]`.

    Attributes:
        keep: How many published versions are kept, at least 1.
        keep_days: Versions younger than so many days are kept whatever their number; 0 for none.
    """

    keep: int = 5
    keep_days: int = 0


@dataclass(frozen=True)
class MeasuresSettings:
    """Section `[measures]`.

    Attributes:
        keep_days: How many days measures and scores are kept in the run history, at least 1.
        as_of: The moment that a run stands for, such as `2026-06-30T06:00Z`, for a simulation or
            a run that catches up; empty for the time of the run.
    """

    keep_days: int = 400
    as_of: str = ""


@dataclass(frozen=True)
class RetrySettings:
    """Section `[retry]`: faults that may pass, such as a server that does not answer.

    Attributes:
        attempts: How often a source or a step is tried in all, at least 1.
        first_wait_seconds: Wait before the second attempt; each further one waits twice as long.
        longest_wait_seconds: No wait is longer; 0 tries again at once.
    """

    attempts: int = 3
    first_wait_seconds: int = 2
    longest_wait_seconds: int = 60


@dataclass(frozen=True)
class FailuresSettings:
    """Section `[failures]`: what a failure does to what depends on it, and to the rest.

    Attributes:
        source: A source failed: `withhold` what is made from it, so that it keeps its last good
            version; or `go_on` with the rows that it had.
        build: A model failed: `withhold` what is made from it, or `stop` the run.
        tests: A test of error severity failed: `stop` the run, so that nothing is published, or
            `withhold` what is made from the tested model.
    """

    source: str = "withhold"
    build: str = "withhold"
    tests: str = "stop"


@dataclass(frozen=True)
class BackupSettings:
    """Section `[backup]`.

    Attributes:
        url: Where backups go: a folder, or any address that fsspec knows, such as
            `s3://bucket/warehouse`; empty if it is always given on the command line. Secrets do
            not belong here.
        connection: Name of the connection that holds the login and further keys of that place;
            empty if the environment has them, or none is needed.
        keep: How many backups are kept, at least 1.
    """

    url: str = ""
    connection: str = ""
    keep: int = 30


@dataclass(frozen=True)
class RetentionSettings:
    """Section `[retention]`: how long is kept what no other section speaks of.

    Attributes:
        logs: How many logs of runs are kept, at least 1.
        logs_days: How many days other logs and those of runs are kept, at least 1.
        runs_days: How many days runs, their steps and audits stay in the run history, at least 1.
    """

    logs: int = 30
    logs_days: int = 90
    runs_days: int = 400


@dataclass(frozen=True)
class MetricsSettings:
    """Section `[metrics]`.

    Attributes:
        file: File for Prometheus's node exporter, written when a run has ended; relative to the
            project's root, empty for none. Its textfile collector reads names that end in `.prom`.
    """

    file: str = ""


@dataclass(frozen=True)
class OpenLineageSettings:
    """Section `[openlineage]`: events about runs for a lineage server.

    Attributes:
        file: File to append events to, one JSON object a line; relative to the project's root.
        url: Where a server takes them, such as `https://lineage.example.com/api/v1/lineage`.
        namespace: Namespace of this project's jobs; empty for the name of the dbt project.
        timeout_seconds: How long a run waits for the server, in all.
    """

    file: str = ""
    url: str = ""
    namespace: str = ""
    timeout_seconds: int = 5


@dataclass(frozen=True)
class WatchSettings:
    """Section `[watch]`.

    Attributes:
        pause: How long `wellspring watch` waits between two cycles at least.
        keep: How many live versions are kept, at least 1.
        tests: `ask` the tests of live models in each cycle and publish only what passes, or
            `leave_to_audit`, where they take too long.
    """

    pause: str = "1s"
    keep: int = 3
    tests: str = "ask"


_CHOICES = {
    ("watch", "tests"): ("ask", "leave_to_audit"),
    ("failures", "source"): ("withhold", "go_on"),
    ("failures", "build"): ("withhold", "stop"),
    ("failures", "tests"): ("stop", "withhold"),
}
# What a whole number is at least, where that is not 1.
_LEAST = {("publish", "keep_days"): 0, ("retry", "longest_wait_seconds"): 0}
_SECTIONS: dict[str, type[Any]] = {
    "paths": PathSettings,
    "companion": CompanionSettings,
    "extract": ExtractSettings,
    "land": LandSettings,
    "run": RunSettings,
    "limits": LimitsSettings,
    "notifications": NotificationsSettings,
    "publish": PublishSettings,
    "measures": MeasuresSettings,
    "metrics": MetricsSettings,
    "openlineage": OpenLineageSettings,
    "retry": RetrySettings,
    "failures": FailuresSettings,
    "backup": BackupSettings,
    "retention": RetentionSettings,
    "watch": WatchSettings,
}
# Former names, still heard where the present one is not set.
_MOVED = {("load", "memory"): ("limits", "memory")}
# What a text must look like, beyond being one.
_FORMS: dict[tuple[str, str], tuple[Callable[[str], bool], str]] = {
    ("run", "wait_for_lock"): (is_time, 'a time, such as "10m"'),
    ("watch", "pause"): (is_time, 'a time, such as "1s"'),
    ("limits", "memory"): (is_size, 'a share or a size, such as "25%" or "4GB"'),
    ("limits", "disk"): (is_size, 'a share or a size, such as "90%" or "50GB"'),
    ("limits", "min_free"): (is_size, 'a share or a size, such as "5%" or "1GB"'),
}


@dataclass(frozen=True)
class Settings:
    """Settings of a project and the places that follow from them.

    Attributes:
        project_dir: The project's root, where `dbt_project.yml` lies.
        data_dir: Folder for everything that is not code.
        companion: Section `[companion]`.
        extract: Section `[extract]`.
        land: Section `[land]`.
        run: Section `[run]`.
        limits: Section `[limits]`.
        notifications: Section `[notifications]`.
        publish: Section `[publish]`.
        measures: Section `[measures]`.
        metrics: Section `[metrics]`.
        openlineage: Section `[openlineage]`.
        retry: Section `[retry]`.
        failures: Section `[failures]`.
        backup: Section `[backup]`.
        retention: Section `[retention]`.
        watch: Section `[watch]`.
    """

    project_dir: Path
    data_dir: Path
    companion: CompanionSettings = field(default_factory=CompanionSettings)
    extract: ExtractSettings = field(default_factory=ExtractSettings)
    land: LandSettings = field(default_factory=LandSettings)
    run: RunSettings = field(default_factory=RunSettings)
    limits: LimitsSettings = field(default_factory=LimitsSettings)
    notifications: NotificationsSettings = field(default_factory=NotificationsSettings)
    publish: PublishSettings = field(default_factory=PublishSettings)
    measures: MeasuresSettings = field(default_factory=MeasuresSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    openlineage: OpenLineageSettings = field(default_factory=OpenLineageSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    failures: FailuresSettings = field(default_factory=FailuresSettings)
    backup: BackupSettings = field(default_factory=BackupSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    watch: WatchSettings = field(default_factory=WatchSettings)

    @cached_property
    def landing_dir(self) -> Path:
        """Immutable files as extracted, one folder a source."""
        return self.data_dir / "landing"

    @property
    def warehouse_path(self) -> Path:
        """The DuckDB file that load and dbt write; no reader opens it."""
        return self.data_dir / "warehouse" / "wellspring.duckdb"

    @property
    def raw_dir(self) -> Path:
        """Raw rows of tables declared `raw: parquet`; with the warehouse, made from landing."""
        return self.data_dir / "raw"

    @property
    def published_dir(self) -> Path:
        """Published versions and the link `current`."""
        return self.data_dir / "published"

    @cached_property
    def state_dir(self) -> Path:
        """Working folders, run history, lock and logs."""
        return self.data_dir / "state"

    @property
    def history_path(self) -> Path:
        """The run history; with landing all that has to be kept."""
        return self.state_dir / "history.sqlite"

    @property
    def restore_mark(self) -> Path:
        """Lies there while a restore is under way: until it is gone, landing is not whole."""
        return self.data_dir / "restore.json"

    @property
    def dlt_dir(self) -> Path:
        """Working folders of dlt; may be wiped, dlt restores its state from landing."""
        return self.state_dir / "dlt"

    @property
    def spool_dir(self) -> Path:
        """Short-lived files between a source and landing; may be wiped."""
        return self.state_dir / "spool"

    @property
    def temporary_dir(self) -> Path:
        """Where DuckDB writes what does not fit into memory, a folder a process; may be wiped."""
        return self.state_dir / "duckdb_tmp"

    @property
    def logs_dir(self) -> Path:
        """Logs of dbt and of the companion."""
        return self.state_dir / "logs"

    @property
    def extensions_dir(self) -> Path:
        """DuckDB's extensions, linked from the environment's wheels; may be wiped."""
        return self.state_dir / "duckdb_extensions"

    def environment(self) -> dict[str, str]:
        """Variables that dbt, dlt and a companion need to find this project's places."""
        return {
            DATA_VARIABLE: str(self.data_dir),
            "DLT_PROJECT_DIR": str(self.project_dir),
            "DLT_DATA_DIR": str(self.dlt_dir),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DO_NOT_TRACK": "1",
        }


def find_project(start: Path | None = None) -> Path:
    """The nearest folder with a `dbt_project.yml`, from `start` (default: here) upwards.

    Raises:
        SettingsError: There is none.
    """
    begin = (start or Path.cwd()).resolve()
    for folder in (begin, *begin.parents):
        if (folder / "dbt_project.yml").is_file():
            return folder
    raise SettingsError(
        f"no dbt_project.yml in {begin} or any folder above it",
        hint="Run the command inside a Wellspring project.",
    )


def load_settings(project_dir: Path | None = None) -> Settings:
    """Reads `wellspring.toml` and the environment.

    Args:
        project_dir: The project's root; by default it is looked for from here upwards.

    Raises:
        SettingsError: No project, no valid TOML, an unknown key or a value of the wrong type.
    """
    root = project_dir.resolve() if project_dir else find_project()
    path = root / SETTINGS_FILE
    values = _with_present_names(_read_toml(path))
    _check_names(values, path)
    sections = {
        name: _section(name, kind, values.get(name, {}), path) for name, kind in _SECTIONS.items()
    }
    data = Path(os.environ.get(DATA_VARIABLE) or sections["paths"].data).expanduser()
    if "%" in str(root / data):
        raise SettingsError(
            f"the data folder {root / data} has a % in its name, which dlt takes for a placeholder",
            key=DATA_VARIABLE if os.environ.get(DATA_VARIABLE) else "paths.data",
            hint="Choose a folder without it.",
        )
    return Settings(
        project_dir=root,
        data_dir=(root / data).resolve(),
        **{name: section for name, section in sections.items() if name != "paths"},
    )


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"not valid TOML: {error}", file=path, hint="Mend that line and run again."
        ) from error


def former_names(root: Path) -> dict[str, str]:
    """Settings of a project that stand under a former name: that name, and the present one."""
    values = _read_toml(root / SETTINGS_FILE)
    found = {}
    for (section, key), (present, name) in _MOVED.items():
        variable = f"{_PREFIX}{section.upper()}__{key.upper()}"
        if variable in os.environ:
            found[variable] = f"{_PREFIX}{present.upper()}__{name.upper()}"
        if key in values.get(section, {}):
            found[f"[{section}] {key}"] = f"[{present}] {name}"
    return found


def _with_present_names(values: dict[str, Any]) -> dict[str, Any]:
    """What stands under a former name, under its present one."""
    found = {name: dict(keys) if isinstance(keys, dict) else keys for name, keys in values.items()}
    for (section, key), (present, name) in _MOVED.items():
        keys = found.get(section)
        if isinstance(keys, dict) and key in keys:
            value = keys.pop(key)
            found.setdefault(present, {}).setdefault(name, value)
            if not keys and section not in _SECTIONS:
                del found[section]
    return found


def _check_names(values: dict[str, Any], path: Path) -> None:
    for name in values:
        if name not in _SECTIONS:
            raise _unknown(f"[{name}]", name, list(_SECTIONS), path)
    for variable in os.environ:
        if not variable.startswith(_PREFIX):
            continue
        section, _, key = variable.removeprefix(_PREFIX).lower().partition("__")
        known = {f.name for f in fields(_SECTIONS[section])} if section in _SECTIONS else set()
        if key not in known and (section, key) not in _MOVED:
            raise SettingsError(
                f"the environment variable {variable} overrides no setting",
                key=variable,
                hint="Known: " + ", ".join(_variables()) + ".",
            )


def _variables() -> list[str]:
    return [
        f"{_PREFIX}{name.upper()}__{f.name.upper()}"
        for name, kind in _SECTIONS.items()
        for f in fields(kind)
    ]


def _variable(section: str, key: str) -> str:
    """The environment variable of a key, or of its former name where only that one is set."""
    variable = f"{_PREFIX}{section.upper()}__{key.upper()}"
    former = [name for name, present in _MOVED.items() if present == (section, key)]
    named = [f"{_PREFIX}{old.upper()}__{name.upper()}" for old, name in former]
    return next((name for name in [variable, *named] if name in os.environ), variable)


def _unknown(shown: str, name: str, known: list[str], path: Path) -> SettingsError:
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    return SettingsError(
        "unknown setting", file=path, key=shown, hint=f"{meant}Known: {', '.join(known)}."
    )


def _section(name: str, kind: type[Any], given: Any, path: Path) -> Any:
    if not isinstance(given, dict):
        raise SettingsError(f"found {given!r}, expected a section [{name}]", file=path, key=name)
    types = get_type_hints(kind)
    for key in given:
        if key not in types:
            raise _unknown(f"{name}.{key}", key, list(types), path)
    values = {}
    for key, wanted in types.items():
        variable = _variable(name, key)
        if variable in os.environ:
            values[key] = _checked(os.environ[variable], wanted, variable, None, name, key)
        elif key in given:
            values[key] = _checked(given[key], wanted, f"{name}.{key}", path, name, key)
    return kind(**values)


def _checked(value: Any, wanted: Any, shown: str, path: Path | None, section: str, key: str) -> Any:
    least = _LEAST.get((section, key), 1)
    expected = {
        int: f"a whole number of at least {least}",
        str: "a text",
        tuple[str, ...]: "a list of texts",
    }[wanted]
    if path is None and wanted is int and re.fullmatch(r"\d+", value.strip()):
        value = int(value)
    if path is None and wanted == tuple[str, ...]:
        value = shlex.split(value)
    if wanted == tuple[str, ...] and isinstance(value, list):
        value = tuple(value)
    right = {
        int: isinstance(value, int) and not isinstance(value, bool) and value >= least,
        str: isinstance(value, str) and value.strip() != "",
        tuple[str, ...]: isinstance(value, tuple) and all(isinstance(v, str) for v in value),
    }[wanted]
    choices = _CHOICES.get((section, key))
    if right and choices is not None:
        expected, right = f"one of: {', '.join(choices)}", value in choices
    if right and (section, key) in _FORMS:
        is_right, expected = _FORMS[section, key]
        right = is_right(value)
    if not right:
        raise SettingsError(f"found {value!r}, expected {expected}", file=path, key=shown)
    return value
