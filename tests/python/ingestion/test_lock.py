"""One writer at a time: who holds the lock, who waits, whom a kill leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

import ingestion.lock
from ingestion.errors import LockHeld
from ingestion.lock import Owner, RunLock, current_owner, killed_owner

HOLDER = """
import sys
from pathlib import Path
from ingestion.lock import RunLock
with RunLock(Path(sys.argv[1]), "20260101T000000Z-abcd", "wellspring run --nightly"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "run.lock"


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_second_is_refused_and_told_by_whom(path: Path) -> None:
    with held_elsewhere(path) as holder:
        with pytest.raises(LockHeld) as caught, RunLock(path, "second", "wellspring build"):
            pytest.fail("the lock was held")
        assert f"process {holder.pid} of" in caught.value.message
        assert "`wellspring run --nightly`" in caught.value.message
        assert "run 20260101T000000Z-abcd" in caught.value.message
        assert ", for " in caught.value.message
        assert "--wait" in caught.value.hint
        owner = current_owner(path)
    assert owner is not None
    assert owner.pid == holder.pid


def test_who_waits_gets_it_when_it_is_free_and_is_named_then(path: Path) -> None:
    told: list[tuple[Owner | None, float]] = []
    with held_elsewhere(path) as holder:

        def let_go() -> None:
            assert holder.stdin is not None
            holder.stdin.write("\n")
            holder.stdin.flush()

        timer = threading.Timer(1.0, let_go)
        timer.start()
        wait = RunLock(path, lambda: "named late", "b", 30, lambda *held: told.append(held))
        with wait as lock:
            assert lock.run_id == "named late"
            assert lock.left_behind is None
        timer.join()
    assert [owner and owner.pid for owner, _ in told] == [holder.pid]
    assert 28 < told[0][1] < 30


def test_waiting_ends_when_the_time_is_over(path: Path) -> None:
    with held_elsewhere(path):
        began = time.monotonic()
        with pytest.raises(LockHeld, match="after 1 s of waiting"), RunLock(path, "", "b", 1.0):
            pytest.fail("the lock was held")
        assert 1 <= time.monotonic() - began < 5


def test_a_killed_holder_leaves_its_name_and_the_lock_is_free(path: Path) -> None:
    with held_elsewhere(path) as holder:
        pass
    holder.wait()
    assert current_owner(path) is None
    killed = killed_owner(path)
    assert killed is not None
    assert killed.run_id == "20260101T000000Z-abcd"
    with RunLock(path, "next", "wellspring run") as lock:
        assert lock.left_behind == killed
        assert killed_owner(path) is None
    with RunLock(path, "later", "wellspring run") as lock:
        assert lock.left_behind is None
    assert killed_owner(path) is None


def test_on_a_shared_file_system_a_name_with_a_fresh_time_counts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Owner(7, "another-machine", "ann", "wellspring run", "2026-01-01T00:00:00Z", "r")
    path.parent.mkdir()
    path.write_text(json.dumps(asdict(other)))
    with RunLock(path, "", "b"):
        pass  # on a disk of our own the kernel's word is enough
    path.write_text(json.dumps(asdict(other)))
    monkeypatch.setattr(ingestion.lock, "_is_shared", lambda _: True)
    with pytest.raises(LockHeld, match="ann on another-machine") as caught, RunLock(path, "", "b"):
        pytest.fail("another machine holds it")
    assert "another machine" in caught.value.hint
    assert current_owner(path) == other
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))
    with RunLock(path, "", "b") as lock:
        assert lock.left_behind == other


def test_the_holder_on_a_shared_file_system_renews_its_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion.lock, "_is_shared", lambda _: True)
    monkeypatch.setattr(ingestion.lock, "_BEAT_SECONDS", 0.05)
    with RunLock(path, "", "b"):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 0:
            assert time.monotonic() < deadline, "the time was not renewed"
            time.sleep(0.02)
