"""Named places at which a process can be made to die, to prove that nothing is lost there.

`failpoint("load.before_commit")` -> SIGKILL if WELLSPRING_FAILPOINT names it, else nothing

The variable holds a name, or `name:3` for its third passing in the process. It exists for the tests
of crashes; without it a failpoint costs one look-up. Left out: faults other than a sudden death,
which tests bring about for real.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "WELLSPRING_FAILPOINT"
_passed: Counter[str] = Counter()


def passed() -> dict[str, int]:
    """How often each point was passed; empty unless the variable is set."""
    return dict(_passed)


def failpoint(name: str) -> None:
    """Ends the process here and now, as a power cut would, if this point was asked for.

    Args:
        name: `<what is done>.<the moment>`, unique in the project.
    """
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    _passed[name] += 1
    asked, _, passing = wanted.partition(":")
    if asked == name and _passed[name] == int(passing or 1):
        os.kill(os.getpid(), signal.SIGKILL)
