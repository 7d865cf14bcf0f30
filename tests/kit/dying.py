"""Work that is killed at a failpoint, in a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from ingestion.failpoints import VARIABLE


def killed_at(point: str, work: Callable[[], object]) -> None:
    """Does work in a child that dies at a failpoint, and makes sure that it died there."""
    child = os.fork()
    if child == 0:
        # Nothing of the test's own may run on in the child.
        try:
            os.environ[VARIABLE] = point
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"{point} was not passed"
    assert os.WTERMSIG(status) == signal.SIGKILL
