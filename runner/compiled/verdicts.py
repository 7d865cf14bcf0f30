"""What tests came to on which data, so that a test is not asked twice about the same.

compiled tests, versions of what they read -> verdicts that still hold, and tests to ask

Only tests that passed are remembered: whoever looks at a failure wants its rows. Left out: tests
that ask for the time or chance, or read something without a version.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingestion.durable import write_whole
from ingestion.settings import Settings
from runner.compiled.store import short_hash
from runner.project import is_volatile


class Verdicts:
    """Tests that passed, with the versions of what they read.

    Args:
        settings: The project's settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = _path(settings)
        try:
            self._passed: dict[str, str] = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._passed = {}

    @staticmethod
    def forget(settings: Settings) -> None:
        """Forgets all of them."""
        _path(settings).unlink(missing_ok=True)

    def holds(self, test: Any, versions: Mapping[str, str | None]) -> bool:
        """Whether a test passed on the data that is there."""
        version = _version(test, versions)
        return version is not None and self._passed.get(test.unique_id) == version

    def note(
        self, tests: Sequence[Any], passed: Iterable[str], versions: Mapping[str, str | None]
    ) -> None:
        """Remembers the tests that passed, and forgets the others.

        Args:
            tests: All tests of the project, compiled.
            passed: Unique ids of those that passed, now or before.
            versions: Versions of the data that they were asked about.
        """
        good = set(passed)
        found = {test.unique_id: _version(test, versions) for test in tests}
        self._passed = {key: told for key, told in found.items() if told and key in good}
        write_whole(self._path, json.dumps(self._passed))


def _path(settings: Settings) -> Path:
    return settings.state_dir / "compiled" / "verdicts.json"


def _version(test: Any, versions: Mapping[str, str | None]) -> str | None:
    above = {key: versions.get(key) for key in test.depends_on.nodes}
    config = test.config
    if None in above.values() or not above or config.store_failures:
        return None
    if not test.compiled_code or is_volatile(test.compiled_code):
        return None
    judged = [config.fail_calc, config.warn_if, config.error_if, config.limit, config.severity]
    return short_hash([test.compiled_code, *map(str, judged), above])
