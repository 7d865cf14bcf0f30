"""Environments of peers, apart from the project's: tests/bench/peers/<name>/requirements.txt.

requirements -> `uv venv` and `uv pip install`, once for each text of them -> its Python

They lie below the user's cache folder (`WELLSPRING_BENCH_PEERS` says another one). What cannot be
installed, for want of a network or of a wheel for this machine, takes no part; the report says so.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from suite.kit import ROOT

REQUIREMENTS = Path(__file__).resolve().parents[1] / "peers"


class PeerMissing(Exception):
    """An environment cannot be made here."""


@cache
def python_of(name: str) -> Path:
    """The Python of an environment, which is made if need be; the project's for an empty name.

    Raises:
        PeerMissing: It cannot be made.
    """
    if not name:
        return Path(sys.executable)
    wanted = (REQUIREMENTS / name / "requirements.txt").read_text()
    place = _home() / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    python = place / "bin" / "python"
    if not (place / "ready").exists():
        shutil.rmtree(place, ignore_errors=True)
        _make(name, place, python)
        (place / "ready").touch()
    return python


def _home() -> Path:
    """Where environments lie."""
    chosen = os.environ.get("WELLSPRING_BENCH_PEERS")
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else cache_home / "wellspring-bench"


def _make(name: str, place: Path, python: Path) -> None:
    """Makes an environment."""
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    requirements = REQUIREMENTS / name / "requirements.txt"
    commands = [
        [uv, "venv", "--quiet", "--python", sys.executable, str(place)],
        [uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(requirements)],
    ]
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise PeerMissing(f"uv is needed to install it ({error})") from error
        if done.returncode != 0:
            raise PeerMissing(f"it cannot be installed: {done.stderr.strip()[-500:]}")
