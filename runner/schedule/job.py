"""What is to be run, with all that a bare environment lacks.

project, settings, this shell -> command, folder, variables, name -> `Job` -> cron or systemd

Neither cron nor systemd reads a profile: paths are absolute, and what this shell says about the
project (`WELLSPRING_*`) goes along. Left out: secrets, which belong into `.dlt/secrets.toml`; what
stands in the environment only is named.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ingestion.settings import Settings

_PATH = ("/usr/local/bin", "/usr/bin", "/bin")


@dataclass(frozen=True)
class Job:
    """A command at set times.

    Attributes:
        name: Names it among all jobs of the machine: the folder's name and a hash of its path.
        command: The command with its arguments; the program by its absolute path.
        folder: Where it works.
        variables: Its environment.
        log: Where its output goes, where nothing else keeps it.
        expressions: When, as cron writes it.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    variables: dict[str, str]
    log: Path
    expressions: tuple[str, ...]


def make_job(
    settings: Settings, times: list[str], wait: str, arguments: tuple[str, ...] = ("run",)
) -> Job:
    """The job that runs a project.

    Args:
        settings: The project's settings.
        times: When, as cron expressions.
        wait: How long it waits for another run.
        arguments: The command below `wellspring`.
    """
    folder = settings.project_dir
    mark = sha256(str(folder).encode()).hexdigest()[:6]
    slug = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")
    return Job(
        name="-".join(part for part in ("wellspring", slug, mark) if part),
        command=(*_program(), *arguments, "--quiet", "--wait", wait),
        folder=folder,
        variables=_variables(settings),
        log=settings.logs_dir / "schedule.log",
        expressions=tuple(times),
    )


def secrets_left_out() -> list[str]:
    """Connections that only this shell knows: a scheduled run will not have them."""
    return sorted(name for name in os.environ if name.startswith("CONNECTIONS__"))


def _program() -> tuple[str, ...]:
    """The command of the environment that runs us."""
    place = Path(sys.executable).parent / "wellspring"
    return (str(place),) if place.is_file() else (sys.executable, "-m", "runner")


def _variables(settings: Settings) -> dict[str, str]:
    path = os.pathsep.join((str(Path(sys.executable).parent), *_PATH))
    own = {key: value for key, value in os.environ.items() if key.startswith("WELLSPRING__")}
    data = {"WELLSPRING_DATA": str(settings.data_dir)} if "WELLSPRING_DATA" in os.environ else {}
    return {"PATH": path, "LC_ALL": "C.UTF-8", **data, **dict(sorted(own.items()))}
