"""Runs by systemd: a service that is one run, and a timer that starts it.

`Job` -> two units -> `~/.config/systemd/user` or `/etc/systemd/system` -> `systemctl enable --now`

The timer catches up on a time that passed while the machine was off, and spreads its start, so that
many machines do not ask one source in the same second. Output goes to the journal.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ingestion.errors import IngestionError
from ingestion.lock import user_name
from runner.schedule.job import Job
from runner.schedule.moments import calendar_events


def units(job: Job, for_user: bool) -> dict[str, str]:
    """The text of each unit by its file's name.

    Args:
        job: The job.
        for_user: Units of the user's own systemd; else of the system, which names the user.
    """
    return {
        f"{job.name}.service": _service(job, for_user),
        f"{job.name}.timer": _timer(job),
    }


def folder(for_user: bool) -> Path:
    """Where units lie."""
    if not for_user:
        return Path("/etc/systemd/system")
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "systemd" / "user"


def install(job: Job, for_user: bool) -> bool:
    """Writes the units and starts the timer; returns whether they were other before.

    Raises:
        IngestionError: The folder cannot be written to, or systemd refuses.
    """
    place, changed = folder(for_user), False
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, text in units(job, for_user).items():
            path = place / name
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
                changed = True
    except PermissionError as error:
        raise _not_allowed(place) from error
    _systemctl(for_user, "daemon-reload")
    _systemctl(for_user, "enable", "--now", f"{job.name}.timer")
    return changed


def remove(job: Job, for_user: bool) -> bool:
    """Stops the timer and removes the units; returns whether they were there.

    Raises:
        IngestionError: The folder cannot be written to, or systemd refuses.
    """
    places = [folder(for_user) / name for name in units(job, for_user)]
    there = [path for path in places if path.is_file()]
    if not there:
        return False
    _systemctl(for_user, "disable", "--now", f"{job.name}.timer")
    try:
        for path in there:
            path.unlink()
    except PermissionError as error:
        raise _not_allowed(folder(for_user)) from error
    _systemctl(for_user, "daemon-reload")
    return True


def _service(job: Job, for_user: bool) -> str:
    variables = [f"Environment={_quoted(f'{key}={value}')}" for key, value in job.variables.items()]
    # A dollar begins a variable in a command, nowhere else in a unit.
    command = " ".join(_quoted(part).replace("$", "$$") for part in job.command)
    return "\n".join(
        [
            "[Unit]",
            f"Description=Wellspring run of {_plain(str(job.folder))}",
            *([] if for_user else ["Wants=network-online.target", "After=network-online.target"]),
            "",
            "[Service]",
            "Type=oneshot",
            *([] if for_user else [f"User={user_name()}"]),
            f"WorkingDirectory={_plain(str(job.folder))}",
            *variables,
            f"ExecStart={command}",
            "TimeoutStartSec=infinity",
            "Nice=5",
            "",
        ]
    )


def _timer(job: Job) -> str:
    events = [event for each in job.expressions for event in calendar_events(each)]
    return "\n".join(
        [
            "[Unit]",
            f"Description=Times of the Wellspring run of {_plain(str(job.folder))}",
            "",
            "[Timer]",
            *(f"OnCalendar={event}" for event in events),
            "Persistent=true",
            "AccuracySec=1s",
            "RandomizedDelaySec=60s",
            "",
            "[Install]",
            "WantedBy=timers.target",
            "",
        ]
    )


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    escaped = _plain(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _not_allowed(place: Path) -> IngestionError:
    return IngestionError(
        "not allowed to write units of the system",
        file=place,
        hint="Take --user, or run it as root.",
    )


def _systemctl(for_user: bool, *arguments: str) -> None:
    command = ["systemctl", *(["--user"] if for_user else []), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError as error:
        raise IngestionError(
            "there is no systemd on this machine", hint="Take --kind cron."
        ) from error
    if done.returncode:
        raise IngestionError(
            f"`{' '.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}",
            hint="The units are written; `systemctl status` may tell more. In a container without "
            "systemd take --kind cron.",
        )
