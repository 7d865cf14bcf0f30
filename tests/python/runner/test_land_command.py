"""`wellspring land` beside runs: a tramway whose ticket readers go on sending."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
import warm
from tramway import Tramway, make_tramway

from ingestion.errors import BadInput
from ingestion.lander.states import StateFile, lander_states
from ingestion.lander.stream import Progress
from ingestion.landing import newest_of_streams
from ingestion.settings import Settings
from runner.backup.make import _landed
from runner.landers import lander_fields, tell_fields
from runner.landing import land_until_told


@pytest.fixture
def tramway(tmp_path: Path) -> Iterator[Tramway]:
    made = make_tramway(tmp_path)
    yield made
    made.close()


def test_a_lander_lands_what_comes_and_a_run_leaves_it_alone(tramway: Tramway) -> None:
    tramway.scan(200)
    lander = tramway.start_lander()
    tramway.wait_for_landed(200)
    fields = lander_fields(Settings(tramway.root, tramway.data))
    assert fields["trams.scans"]["state"] == "landing"
    done = warm.run(
        ["-m", "runner", "extract", "load", "--log-format", "plain"],
        cwd=tramway.root,
        env=tramway.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "landed by the lander that is at work" in done.stderr
    with duckdb.connect(str(tramway.data / "warehouse" / "wellspring.duckdb")) as connection:
        query = "select scan_id::bigint as n from raw_trams.scans order by n"
        assert [n for (n,) in connection.execute(query).fetchall()] == list(range(1, 201))
    tramway.scan(50)
    tramway.wait_for_landed(250)
    lander.send_signal(signal.SIGTERM)
    assert lander.wait(60) == 0, (tramway.root / "land.log").read_text()
    assert "Traceback" not in (tramway.root / "land.log").read_text()


def test_land_has_to_have_something_to_land(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing selected") as caught:
        land_until_told([], Settings(tmp_path, tmp_path / "data"))
    assert "kind stream and cdc" in caught.value.hint


def test_a_lander_that_gives_no_sign_of_life_is_called_killed(tmp_path: Path) -> None:
    settings = Settings(tmp_path, tmp_path / "data")
    with StateFile(settings, "trams.scans") as state:
        state.tell(Progress(state="landing", rows=7, files=1, waiting=3, error="gone\nand more"))
        fields = lander_fields(settings)["trams.scans"]
        assert (fields["state"], fields["lag"], fields["is_alive"]) == ("landing", 3, True)
        assert tell_fields(fields) == "landing, 7 messages in 1 file, 3 waiting, gone"
        path = settings.state_dir / "lander" / "trams.scans.json"
        told = json.loads(path.read_text())
        path.write_text(json.dumps({**told, "at": "2026-01-01T00:00:00+00:00"}))
        [one] = lander_states(settings)
        assert (one.state, one.lag, one.is_alive) == ("killed", None, False)
    assert lander_states(settings)[0].state == "ended"


def test_a_state_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    settings = Settings(tmp_path, tmp_path / "data")
    folder = settings.state_dir / "lander"
    folder.mkdir(parents=True)
    (folder / "x.y.json").write_text("{")
    (folder / "x.z.json").write_text("[]")
    assert lander_states(settings) == []


def test_a_backup_beside_a_lander_has_no_later_file_without_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(tmp_path, tmp_path / "data")
    folder = settings.landing_dir / "trams" / "scans"
    days = [folder / "2026-01-01", folder / "2026-01-02"]
    for number, day in enumerate(days):
        day.mkdir(parents=True)
        (day / f"176000000{number}.000000.1-2.parquet").touch()
    (days[1] / ".1760000002.000000.landing.tmp").touch()
    before = newest_of_streams(settings)
    assert before == {folder: "1760000001.000000.1-2.parquet"}
    # Landed after the listing began: the first is one that a listing may have missed.
    (days[1] / "1760000003.000000.5-6.parquet").touch()
    monkeypatch.setattr("runner.backup.make.newest_of_streams", lambda _: before)
    assert sorted(path.name for _, path in _landed(settings)) == [
        "1760000000.000000.1-2.parquet",
        "1760000001.000000.1-2.parquet",
    ]
