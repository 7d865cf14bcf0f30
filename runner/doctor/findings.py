"""What a check found.

check -> `Finding`s: ok, warn or fail, with what to do -> exit code of the worst
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]
# Of several failed checks the one that must be mended first gives the exit code.
_URGENCY = (3, 7, 5, 4, 6, 1)


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: Its name.
        verdict: `ok`, `warn` (a run works, something wants attention) or `fail` (it will not).
        found: What was found.
        mend: What to do; empty if all is well.
        exit_code: What the command ends with if this is a failure.
    """

    check: str
    verdict: Verdict
    found: str
    mend: str = ""
    exit_code: int = 1


def worst_code(findings: Sequence[Finding]) -> int:
    """The exit code for all of it: 0 if no check fails."""
    codes = {finding.exit_code for finding in findings if finding.verdict == "fail"}
    return next((code for code in _URGENCY if code in codes), max(codes, default=0))
