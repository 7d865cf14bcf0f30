"""Scheduled runs: the times are right, and the very lines really run where nothing is set."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from toyshop import Call, ToyShop

from ingestion.errors import SettingsError
from runner.schedule.moments import calendar_events, expressions

ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(
    ANALYZE is None and not os.environ.get("CI"),
    reason="systemd-analyze is what tells whether units are right",
)
# Keeps a crontab in a file, as the real one does for each user.
CRONTAB = """#!/bin/sh
case "$1" in
    -l) cat "$CRONTAB_FILE" 2>/dev/null || { echo 'no crontab' >&2; exit 1; } ;;
    -) cat > "$CRONTAB_FILE" ;;
esac
"""
SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$SYSTEMCTL_LOG"
"""


@pytest.mark.parametrize(
    ("asked", "cron"),
    [
        ({"at": ["06:00", "18:30"]}, ["0 6 * * *", "30 18 * * *"]),
        ({"every": "15m"}, ["*/15 * * * *"]),
        ({"every": "1h"}, ["0 * * * *"]),
        ({"every": "6h"}, ["0 */6 * * *"]),
        ({"every": "1d"}, ["0 0 * * *"]),
        ({"cron": "*/10 6-18/2 1,15 jan-mar mon-fri"}, ["*/10 6-18/2 1,15 1-3 1-5"]),
    ],
)
def test_times_become_cron_expressions(asked: dict[str, object], cron: list[str]) -> None:
    assert expressions(**asked) == cron  # type: ignore[arg-type]  # as the command line gives them


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "no time was given"),
        ({"at": ["06:00"], "every": "1h"}, "--at and --every"),
        ({"at": ["25:00"]}, "no time of the day"),
        ({"every": "7m"}, "does not divide"),
        ({"every": "soon"}, "does not divide"),
        ({"cron": "0 6 * *"}, "4 fields, expected 5"),
        ({"cron": "60 6 * * *"}, "'60' is no minute"),
        ({"cron": "0 6 * * mon-someday"}, "is no day of the week"),
        ({"cron": "*/0 * * * *"}, "is no minute"),
    ],
)
def test_wrong_times_are_refused(asked: dict[str, object], told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        expressions(**asked)  # type: ignore[arg-type]  # as the command line gives them
    assert caught.value.hint


@pytest.mark.parametrize(
    ("cron", "events"),
    [
        ("0 6 * * *", ["*-*-* 6:0:00"]),
        ("*/15 * * * *", ["*-*-* *:0/15:00"]),
        ("0 */6 * * *", ["*-*-* 0/6:0:00"]),
        ("5 6-18/2 * 1-3 *", ["*-1..3-* 6..18/2:5:00"]),
        ("0 6 * * 0,1-5/2", ["Mon,Wed,Fri,Sun *-*-* 6:0:00"]),
        ("0 6 * * 5-7", ["Fri,Sat,Sun *-*-* 6:0:00"]),
        # cron runs when either fits, systemd when both do
        ("0 6 1,15 * 1", ["*-*-1,15 6:0:00", "Mon *-*-* 6:0:00"]),
    ],
)
def test_cron_expressions_become_calendar_events(cron: str, events: list[str]) -> None:
    assert calendar_events(cron) == events
    if ANALYZE is not None:
        done = subprocess.run([ANALYZE, "calendar", *events], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def write_secrets(shop: ToyShop) -> None:
    (shop.root / ".dlt").mkdir()
    shop.write(
        ".dlt/secrets.toml",
        f"""
        [connections.stock]
        url = "sqlite:///{shop.systems / "stock.sqlite"}"
        [connections.till]
        url = "{shop.systems / "till"}"
        """,
    )


def shown(call: Call, shop: ToyShop, *options: str) -> str:
    """What `schedule show` prints for data in a folder whose name needs quoting."""
    place = shop.root / "da ta"
    done = call(ToyShopAt(shop, place), "schedule", "show", *options)
    assert done.code == 0, done.err
    assert "only this shell has CONNECTIONS__STOCK__URL" in done.err
    return done.out


class ToyShopAt(ToyShop):
    """A toy shop with its data elsewhere."""

    def __init__(self, shop: ToyShop, data: Path) -> None:
        super().__init__(shop.root)
        object.__setattr__(self, "place", data)

    @property
    def data(self) -> Path:
        return self.place  # type: ignore[attr-defined, no-any-return]  # set above: frozen class


def bare(shop: ToyShop) -> dict[str, str]:
    """What cron gives to a job."""
    return {
        "HOME": str(shop.root),
        "LOGNAME": "nobody",
        "SHELL": "/bin/sh",
        "PATH": "/usr/bin:/bin",
    }


def test_the_line_of_cron_runs_in_a_bare_environment(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_secrets(shop)
    monkeypatch.setenv("WELLSPRING__LIMITS__DISK", "80%")
    text = shown(call, shop, "--kind", "cron", "--at", "06:30", "--wait", "5m")
    begin, line, end = text.splitlines()
    assert begin.startswith("# wellspring-toyshop-")
    assert end.startswith(begin.partition(" begin")[0])
    assert line.startswith("30 6 * * * ")
    command = line.removeprefix("30 6 * * * ")
    assert r"WELLSPRING__LIMITS__DISK=80\% " in command
    assert "%" not in command.replace(r"\%", "")
    done = subprocess.run(
        ["/bin/sh", "-c", command.replace(r"\%", "%")],
        cwd="/",
        env=bare(shop),
        capture_output=True,
        text=True,
        timeout=300,
    )
    place = shop.root / "da ta"
    log = (place / "state" / "logs" / "schedule.log").read_text()
    assert done.returncode == 0, done.stderr + log
    assert (place / "published" / "current").is_symlink()
    assert f"published  {(place / 'published' / 'current').readlink().name}" in log


@needs_systemd
@pytest.mark.parametrize("whose", ["--user", "--system"])
def test_units_of_systemd_are_right(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whose: str
) -> None:
    monkeypatch.setenv("WELLSPRING__LIMITS__DISK", "80%")
    text = shown(call, shop, "--kind", "systemd", "--cron", "0 6 1 * mon", whose)
    paths = []
    for part in text.split("# /")[1:]:
        name, _, content = part.partition("\n")
        paths.append(tmp_path / Path(name).name)
        paths[-1].write_text(content)
    assert [path.suffix for path in paths] == [".service", ".timer"]
    assert ANALYZE is not None
    # pages of the manual are not installed everywhere
    done = subprocess.run(
        [ANALYZE, "verify", "--man=no", *map(str, paths)], capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if "wellspring" in line]
    assert (done.returncode, ours) == (0, [])
    service = paths[0].read_text()
    assert f'Environment="WELLSPRING_DATA={shop.root}/da ta"' in service
    assert 'Environment="WELLSPRING__LIMITS__DISK=80%%"' in service
    assert ("User=" in service) == (whose == "--system")
    timer = paths[1].read_text()
    assert "Persistent=true" in timer
    assert "RandomizedDelaySec=" in timer


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def test_crontab_gets_one_block_and_keeps_the_rest(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program(tmp_path / "bin", "crontab", CRONTAB)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    table = tmp_path / "crontab"
    monkeypatch.setenv("CRONTAB_FILE", str(table))
    assert "is in the crontab" in call(shop, "schedule", "install", "--every", "1h").out
    assert len(table.read_text().splitlines()) == 3
    table.write_text("0 1 * * * others\n" + table.read_text())
    before = table.read_text()
    assert "as it is" in call(shop, "schedule", "install", "--every", "1h").out
    assert table.read_text() == before
    call(shop, "schedule", "install", "--at", "05:00", "--at", "17:00")
    lines = table.read_text().splitlines()
    assert [line[:9] for line in lines if not line.startswith("#")] == [
        *("0 1 * * *", "0 5 * * *", "0 17 * * ")
    ]
    assert "is removed" in call(shop, "schedule", "remove").out
    assert table.read_text() == "0 1 * * * others\n"
    assert "was not installed" in call(shop, "schedule", "remove").out


def test_systemd_gets_its_units_once(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program(tmp_path / "bin", "systemctl", SYSTEMCTL)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    log = tmp_path / "systemctl.log"
    monkeypatch.setenv("SYSTEMCTL_LOG", str(log))
    options = ("--kind", "systemd", "--every", "1h")
    assert "is in /" in call(shop, "schedule", "install", *options).out
    assert "as it is" in call(shop, "schedule", "install", *options).out
    units = sorted((tmp_path / "config" / "systemd" / "user").iterdir())
    assert [unit.suffix for unit in units] == [".service", ".timer"]
    assert f"--user enable --now {units[1].name}" in log.read_text()
    assert "is removed" in call(shop, "schedule", "remove", "--kind", "systemd").out
    assert f"--user disable --now {units[1].name}" in log.read_text()
    assert not any(unit.exists() for unit in units)


def test_machine_without_cron_says_what_to_do(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = call(shop, "schedule", "install", "--at", "06:00")
    assert done.code == 1
    assert "--kind systemd" in done.err
    done = call(shop, "schedule", "install", "--at", "06:00", "--kind", "systemd")
    assert done.code == 1
    assert "--kind cron" in done.err
