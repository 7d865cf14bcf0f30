"""Making, moving, killing and resetting the company: always the same state for the same numbers."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import anycompany_recount as recount
import psycopg
import pytest
import warm
from anycompany_kit import SCALE, environment, run, serving, start

from anycompany.world import World

TABLES = ("customers", "addresses", "products", "orders", "order_items", "payments", "refunds")
FOLDERS = (
    "erp", "marketplace", "distributor", "pixelco", "reference", "helpdesk", "web", "documents",
    "truth",
)  # fmt: skip


def picture(data: Path) -> dict[str, str]:
    """Returns a checksum for every file and every table of the shop."""
    home = data / "anycompany"
    found = {}
    with serving(data) as connections, psycopg.connect(connections["shop"]["url"]) as database:
        for table in TABLES:
            rows = database.execute(f"select t::text from public.{table} t order by 1").fetchall()
            found[table] = hashlib.sha256(repr(rows).encode()).hexdigest()
    for folder in FOLDERS:
        for path in sorted((home / folder).rglob("*")):
            if path.is_file():
                name = path.relative_to(home).as_posix()
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differences(left: dict[str, str], right: dict[str, str]) -> list[str]:
    """Returns the names of files and tables that two pictures do not agree on."""
    return sorted(name for name in left | right if left.get(name) != right.get(name))


def state(data: Path) -> dict[str, object]:
    return dict(json.loads((data / "anycompany" / "state.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def week(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The picture of a company seven days on, reached in one move."""
    data = tmp_path_factory.mktemp("week") / "data"
    subprocess.run(["cp", "-a", str(template), str(data)], check=True)
    moved = run(data, "advance", "--days", "7")
    assert moved.returncode == 0
    assert "2026-07-07" in moved.stdout
    return picture(data)


def test_three_and_four_days_are_seven(company: Path, week: dict[str, str]) -> None:
    before = picture(company)
    assert run(company, "advance", "--days", "3").returncode == 0
    assert run(company, "advance", "--days", "4").returncode == 0
    after = picture(company)
    assert differences(after, week) == []
    resent = set(differences(before, after)) & set(before)
    assert {"orders", "customers", "erp/orders/orders_2026-06.csv"} <= resent
    assert "erp/orders/orders_2026-05.csv" not in resent


@pytest.mark.parametrize("folder", ["erp", "helpdesk", "truth"])
def test_an_advance_killed_on_its_way_is_completed_by_the_next(
    company: Path, week: dict[str, str], folder: str
) -> None:
    arguments = ["-m", "anycompany", "advance", "--days", "7"]
    process = warm.Popen(arguments, env=environment(company), stdout=subprocess.DEVNULL)
    watched = company / "anycompany" / folder
    seen = {path: path.stat().st_mtime_ns for path in watched.rglob("*")}
    while process.poll() is None:
        now = {path: path.stat().st_mtime_ns for path in watched.rglob("*") if path.exists()}
        if now != seen:
            process.kill()
        time.sleep(0.002)
    if state(company)["day"] == 545:
        assert run(company, "advance", "--days", "7").returncode == 0
    assert state(company)["target"] is None
    assert differences(picture(company), week) == []


def test_the_same_numbers_make_the_same_company(template: Path, tmp_path: Path) -> None:
    with serving(tmp_path, "--scale", SCALE, "--defects", "0.02"):
        pass
    assert differences(picture(tmp_path), picture(template)) == []


def test_another_seed_is_another_company_with_the_same_catalogue(
    made: Callable[..., World],
) -> None:
    first, second = made(seed=1), made(seed=2)
    assert not first.shop.rows["customers"].table.equals(second.shop.rows["customers"].table)
    for name in ("sku", "ean", "name", "material", "listing", "code"):
        assert getattr(first.catalogue, name) == getattr(second.catalogue, name)


def test_scale_makes_it_larger(made: Callable[..., World]) -> None:
    small, large = made(scale=0.005), made(scale=0.02)
    rows = [world.shop.rows["orders"].table.num_rows for world in (large, small)]
    assert 3.5 < rows[0] / rows[1] < 4.5
    assert small.helpdesk.exports["tickets"].text is not None


def test_serve_is_killed_and_the_next_one_recovers(company: Path) -> None:
    process = start(company)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())["connections"]
    process.kill()
    process.wait()
    with serving(company) as connections:
        assert connections["shop"] == first["shop"]
        with psycopg.connect(connections["shop"]["url"]) as database:
            [count] = database.execute("select count(*) from public.orders").fetchone() or [0]
            assert count > 500
    assert not (company / "anycompany" / "postgres" / "postmaster.pid").exists()


def test_a_killed_creation_is_begun_again(tmp_path: Path, template: Path) -> None:
    process = start(tmp_path, "--scale", SCALE, "--defects", "0.02")
    deadline = time.monotonic() + 60
    while not (tmp_path / "anycompany" / "erp").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "anycompany" / "state.json").exists()
    with serving(tmp_path, "--scale", SCALE, "--defects", "0.02"):
        pass
    assert differences(picture(tmp_path), picture(template)) == []


def test_two_serve_one_company_and_the_second_outlives_the_first(company: Path) -> None:
    process = start(company)
    assert process.stdout is not None
    assert process.stdin is not None
    first = json.loads(process.stdout.readline())["connections"]
    with serving(company) as second:
        assert second == first
        process.stdin.close()
        assert process.wait(30) == 0
        with psycopg.connect(second["shop"]["url"]) as database:
            assert database.execute("select count(*) from public.products").fetchone() == (400,)
        url = second["helpdesk"]["url"] + recount.DESK_LISTS["users"]
        deadline = time.monotonic() + 20
        while True:
            try:
                assert recount.get(url, second["helpdesk"]["token"])["users"]
                break
            except OSError:
                assert time.monotonic() < deadline, "nobody took the API over"
                time.sleep(0.1)


def test_serve_stops_on_sigterm_and_stops_its_servers(company: Path) -> None:
    process = start(company)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert not (company / "anycompany" / "postgres" / "postmaster.pid").exists()


def test_the_token_is_for_the_owner_only(company: Path) -> None:
    assert (company / "anycompany" / "token").stat().st_mode & 0o077 == 0


def test_messages_say_what_to_do(company: Path, tmp_path: Path) -> None:
    other = run(company, "serve", "--seed", "9")
    assert other.returncode == 1
    assert f"was made with --seed 1 --scale {SCALE}" in other.stderr
    assert "anycompany reset" in other.stderr
    far = run(company, "advance", "--days", "5000")
    assert far.returncode == 1
    assert "at most 549 days" in far.stderr
    assert "2026-06-30" in run(company, "status").stdout
    (company / "anycompany" / "state.json").write_text("{", encoding="utf-8")
    broken = run(company, "status")
    assert broken.returncode == 1
    assert "anycompany reset" in broken.stderr
    assert run(company, "reset", "--yes").returncode == 0
    assert not (company / "anycompany").exists()
    assert "anycompany serve" in run(tmp_path / "nowhere", "status").stdout
    assert "Traceback" not in other.stderr + far.stderr + broken.stderr
