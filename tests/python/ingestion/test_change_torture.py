"""The short version of tests/torture/change_capture.py."""

from __future__ import annotations

from pathlib import Path

import warm

SCRIPT = Path(__file__).resolve().parents[2] / "torture" / "change_capture.py"


def test_every_change_is_in_raw_once_whatever_is_killed(tmp_path: Path) -> None:
    done = warm.run(
        [
            *[str(SCRIPT), "--seconds", "10", "--kills", "3", "--moments", "4"],
            *["--seed", "5", "--keep", str(tmp_path)],
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-3000:]
    assert "nothing lost, nothing doubled" in done.stdout
