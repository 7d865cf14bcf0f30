"""Making, moving, killing and resetting the company: always the same state for the same numbers."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from conftest import SCALE, run, serving, start

TABLES = ("customers", "addresses", "products", "orders", "order_items", "payments", "refunds")


def picture(data: Path) -> dict[str, str]:
    """Returns a checksum for every file and every table of the shop."""
    home = data / "anycompany"
    found = {}
    with serving(data) as connections, psycopg.connect(connections["shop"]["url"]) as connection:
        for table in TABLES:
            rows = connection.execute(f"select t::text from public.{table} t order by 1").fetchall()
            found[table] = hashlib.sha256(repr(rows).encode()).hexdigest()
    for folder in (
        "erp",
        "marketplace",
        "distributor",
        "pixelco",
        "reference",
        "helpdesk",
        "truth",
    ):
        for path in sorted((home / folder).rglob("*")):
            if path.is_file():
                found[path.relative_to(home).as_posix()] = hashlib.sha256(
                    path.read_bytes()
                ).hexdigest()
    return found


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The picture of a company seven days on, reached in one move."""
    data = tmp_path_factory.mktemp("week")
    assert (
        run(data, "advance", "--scale", SCALE, "--defects", "0.02", "--days", "7").returncode == 0
    )
    return picture(data)


def test_three_and_four_days_are_seven(tmp_path: Path, week: dict[str, str]) -> None:
    assert (
        run(tmp_path, "advance", "--scale", SCALE, "--defects", "0.02", "--days", "3").returncode
        == 0
    )
    assert run(tmp_path, "advance", "--days", "4").returncode == 0
    assert picture(tmp_path) == week


def test_a_killed_advance_is_completed_by_the_next(tmp_path: Path, week: dict[str, str]) -> None:
    with serving(tmp_path, "--scale", SCALE, "--defects", "0.02"):
        pass
    for pause in (0.9, 1.3, 1.8):
        arguments = [sys.executable, "-m", "anycompany", "advance", "--days", "7"]
        process = subprocess.Popen(
            arguments,
            env={**os.environ, "WELLSPRING_DATA": str(tmp_path)},
            stdout=subprocess.DEVNULL,
        )
        time.sleep(pause)
        process.kill()
        process.wait()
        state = json.loads((tmp_path / "anycompany" / "state.json").read_text())
        if state["target"] is not None:
            break
    done = json.loads((tmp_path / "anycompany" / "state.json").read_text())
    if done["target"] is not None or done["day"] == 545:
        assert run(tmp_path, "advance", "--days", "7").returncode == 0
    assert picture(tmp_path) == week


def test_another_seed_is_another_company(made) -> None:
    first, second = made(seed=1), made(seed=2)
    assert not first.shop.rows["customers"].table.equals(second.shop.rows["customers"].table)
    for name in ("sku", "ean", "name", "material", "listing", "code"):
        assert getattr(first.catalogue, name) == getattr(second.catalogue, name)


def test_scale_makes_it_larger(made) -> None:
    small, large = made(scale=0.005), made(scale=0.02)
    assert (
        3.5
        < large.shop.rows["orders"].table.num_rows / small.shop.rows["orders"].table.num_rows
        < 4.5
    )


def test_serve_is_killed_and_the_next_one_recovers(tmp_path: Path) -> None:
    process = start(tmp_path, "--scale", SCALE)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())["connections"]
    process.kill()
    process.wait()
    with (
        serving(tmp_path) as connections,
        psycopg.connect(connections["shop"]["url"]) as connection,
    ):
        assert connection.execute("select count(*) > 500 from public.orders").fetchone() == (True,)
        assert connections["shop"] == first["shop"]
    assert not (tmp_path / "anycompany" / "postgres" / "postmaster.pid").exists()


def test_a_killed_creation_is_begun_again(tmp_path: Path) -> None:
    process = start(tmp_path, "--scale", SCALE)
    time.sleep(1.2)
    process.kill()
    process.wait()
    with (
        serving(tmp_path, "--scale", SCALE) as connections,
        psycopg.connect(connections["shop"]["url"]) as connection,
    ):
        assert connection.execute("select count(*) > 500 from public.orders").fetchone() == (True,)


def test_two_serve_one_company_and_the_second_outlives_the_first(tmp_path: Path) -> None:
    import anycompany_recount as recount

    process = start(tmp_path, "--scale", SCALE)
    assert process.stdout is not None
    assert process.stdin is not None
    first = json.loads(process.stdout.readline())["connections"]
    with serving(tmp_path) as second:
        assert second == first
        process.stdin.close()
        process.wait(20)
        with psycopg.connect(second["shop"]["url"]) as connection:
            assert connection.execute("select count(*) from public.products").fetchone() == (400,)
        desk = second["helpdesk"]
        deadline = time.monotonic() + 10
        while True:
            try:
                assert recount.get(desk["url"] + recount.DESK_LISTS["users"], desk["token"])[
                    "users"
                ]
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)


def test_serve_stops_on_sigterm_and_stops_its_servers(tmp_path: Path) -> None:
    process = start(tmp_path, "--scale", SCALE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert not (tmp_path / "anycompany" / "postgres" / "postmaster.pid").exists()


def test_other_settings_do_not_pass_for_an_existing_company(tmp_path: Path) -> None:
    with serving(tmp_path, "--scale", SCALE):
        pass
    result = run(tmp_path, "serve", "--seed", "9")
    assert result.returncode == 1
    assert "was made with --seed 1 --scale 0.01" in result.stderr
    assert "anycompany reset" in result.stderr
    assert "Traceback" not in result.stderr
    assert "2026-06-30" in run(tmp_path, "status").stdout
    too_far = run(tmp_path, "advance", "--days", "5000")
    assert too_far.returncode == 1
    assert "at most 549 days" in too_far.stderr
    assert run(tmp_path, "reset", "--yes").returncode == 0
    assert not (tmp_path / "anycompany").exists()
