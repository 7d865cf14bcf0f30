"""A file with everything that was logged in a run, for when the lines on the terminal do not do.

`logging` of ingestion, dlt and the runner -> `state/logs/<run id>.log`, redacted

dbt keeps its own `dbt.log` beside it, the companion its `companion.log`. The logs of the last runs
are kept, older ones removed. Left out: limits on the size of one log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingestion.redaction import RedactingFilter
from ingestion.settings import Settings

_PATTERN = "????????T??????Z-*.log"


def log_path(settings: Settings, run_id: str) -> Path:
    """Where the log of a run lies."""
    return settings.logs_dir / f"{run_id}.log"


@contextmanager
def run_log(settings: Settings, run_id: str) -> Iterator[None]:
    """Writes what is logged within the block to the run's log, with tracebacks."""
    path = log_path(settings, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in sorted(path.parent.glob(_PATTERN))[: -max(1, settings.retention.logs - 1)]:
        old.unlink(missing_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)-7s %(threadName)s %(name)s: %(message)s")
    )
    handler.addFilter(RedactingFilter())
    root = logging.getLogger()
    # Our own packages tell what they do; of libraries only warnings are worth keeping.
    told = [logging.getLogger(name) for name in ("ingestion", "runner")]
    levels = [logger.level for logger in told]
    root.addHandler(handler)
    for logger in told:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
        for logger, level in zip(told, levels, strict=True):
            logger.setLevel(level)
