"""Runs by cron: a block of the user's crontab, between two marks.

`Job` -> a line a time -> `crontab -l`, the block replaced, `crontab -`
"""

from __future__ import annotations

import shlex
import subprocess

from ingestion.errors import IngestionError
from runner.schedule.job import Job


def lines(job: Job) -> list[str]:
    """The block for a crontab, marks included."""
    return [
        _mark(job, "begin"),
        *(f"{at} {line(job)}" for at in job.expressions),
        _mark(job, "end"),
    ]


def line(job: Job) -> str:
    """The command as cron gives it to `/bin/sh`; `%` would end it and is escaped."""
    variables = [f"{key}={shlex.quote(value)}" for key, value in job.variables.items()]
    log = shlex.quote(str(job.log))
    parts = [
        f"cd {shlex.quote(str(job.folder))}",
        f"mkdir -p {shlex.quote(str(job.log.parent))}",
        f"env {' '.join(variables)} {shlex.join(job.command)} >> {log} 2>&1",
    ]
    return " && ".join(parts).replace("%", r"\%")


def install(job: Job) -> bool:
    """Puts the block into the crontab; returns whether that changed it.

    Raises:
        IngestionError: There is no cron, or it refuses.
    """
    before = _read()
    after = [*_without(before, job), *lines(job)]
    return _replace(before, after)


def remove(job: Job) -> bool:
    """Takes the block out of the crontab; returns whether it was there.

    Raises:
        IngestionError: There is no cron, or it refuses.
    """
    before = _read()
    return _replace(before, _without(before, job))


def _mark(job: Job, side: str) -> str:
    return f"# {job.name} {side}: made by `wellspring schedule`"


def _without(present: list[str], job: Job) -> list[str]:
    kept, inside = [], False
    for text in present:
        if text == _mark(job, "begin"):
            inside = True
        elif text == _mark(job, "end"):
            inside = False
        elif not inside:
            kept.append(text)
    return kept


def _replace(before: list[str], after: list[str]) -> bool:
    if before == after:
        return False
    _crontab("-", "".join(f"{text}\n" for text in after))
    return True


def _read() -> list[str]:
    # Without a crontab it ends with 1 and says so; that is no fault.
    return _crontab("-l", None).splitlines()


def _crontab(argument: str, content: str | None) -> str:
    try:
        done = subprocess.run(
            ["crontab", argument], input=content, capture_output=True, text=True, timeout=30
        )
    except FileNotFoundError as error:
        raise IngestionError(
            "there is no `crontab` on this machine",
            hint="Install cron, take --kind systemd, or put what `wellspring schedule show` prints "
            "where your machine keeps its jobs.",
        ) from error
    if done.returncode and content is not None:
        raise IngestionError(f"crontab refuses the change: {done.stderr.strip()}")
    return done.stdout if not done.returncode else ""
