"""Files of events go when their time is over, and nothing takes them for lost or for new."""

from __future__ import annotations

import json
import shutil
import zipfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import warm
from files_kit import Lab

from ingestion.errors import BadInput
from ingestion.expire import expire
from ingestion.landing import register_rows
from ingestion.reconcile import reconcile
from ingestion.verify import verify_landing
from ingestion.warehouse import connect

EVENTS = {
    "format": "csv",
    "primary_key": "id",
    "path": "*.csv",
    "csv": {"delimiter": ";"},
    "retention": {"days": 30},
    "on_refused": "warn",
}
CHILD = """
import json, sys
sys.path.insert(0, {kit!r})
from datetime import datetime
from pathlib import Path
from files_kit import Lab
from ingestion.expire import expire
lab = Lab(Path({folder!r}), json.loads({tables!r}))
expire([lab.declaration], lab.settings, moment=datetime.fromisoformat({moment!r}))
"""


@pytest.fixture
def events(lab: Lab) -> Lab:
    """Two loads: two files with a faulty record and one that is refused, then one more file."""
    lab.tables = {"t": dict(EVENTS), "kept": {**EVENTS, "path": "*.tsv", "retention": None}}
    lab.put("1.csv", "id;v\n1;a\n2;b;too long\n3;c\n")
    lab.put("2.csv", "id;v\n4;d\n")
    lab.put("bad.csv", b"id;v\n5;\xff\xfe\n")
    lab.put("x.tsv", "id;v\n1;a\n")
    lab.run()
    lab.put("3.csv", "id;v\n6;f\n")
    lab.run()
    return lab


def between(lab: Lab) -> datetime:
    """A moment at which the first load is too old, the second not."""
    first, second, *_ = sorted({float(row.load_id) for row in lab.register("t")})
    return datetime.fromtimestamp((first + second) / 2, UTC) + timedelta(days=30)


def whole(lab: Lab) -> dict[str, Any]:
    """Raw, the ledger and the list of what expired."""
    columns = "table_name, file, load_id, rows_read, rows_loaded, rows_rejected, status, expired_at"
    return {
        "state": lab.state(),
        "expired": lab.query(f"select {columns} from ledger.expired_files order by all"),
    }


def faults(lab: Lab) -> list[str]:
    with closing(connect(lab.settings, read_only=True)) as connection:
        found = verify_landing(connection, [lab.declaration], lab.settings, checksums=True)
    return [str(fault) for fault in found]


def originals(lab: Lab) -> list[str]:
    place = lab.settings.landing_dir / "src" / "t" / "originals"
    return sorted(path.name.partition("-")[2] for path in place.iterdir())


def test_what_is_too_old_leaves_landing_raw_and_the_ledger(events: Lab) -> None:
    before = events.settings.warehouse_path.read_bytes()
    told = expire([events.declaration], events.settings, dry_run=True, moment=between(events))
    assert len(originals(events)) == 4
    assert events.settings.warehouse_path.read_bytes() == before
    (done,) = expire([events.declaration], events.settings, moment=between(events))
    assert told == [done]
    assert (done.table, done.files, done.rows) == ("t", 3, 3)
    assert originals(events) == ["3.csv"]
    assert [row["id"] for row in events.raw("t")] == ["6"]
    assert [row["id"] for row in events.raw("kept")] == ["1"]
    assert events.rejected() == []
    assert len(events.ledger()) == 2
    counts = "origin_name, rows_read, rows_loaded, rows_rejected, status"
    assert events.query(f"select {counts} from ledger.expired_files order by origin_name") == [
        ("1.csv", 3, 2, 1, "loaded"),
        ("2.csv", 1, 1, 0, "loaded"),
        ("bad.csv", 0, 0, 0, "refused"),
    ]


def test_nothing_takes_it_for_lost_or_for_new(events: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    expire([events.declaration], events.settings, moment=between(events))
    after = whole(events)
    assert faults(events) == []
    assert expire([events.declaration], events.settings, moment=between(events))[0].files == 0
    assert events.run().rows == 0
    events.extract(full_refresh=True)
    assert events.load().rows == 0
    assert whole(events) == after
    with closing(connect(events.settings, read_only=True)) as connection:
        told: list[Any] = []
        found = reconcile(connection, [events.declaration], events.settings, told.append)
    assert {made.verdict for made in found} == {"equal"}
    shutil.rmtree(events.settings.warehouse_path.parent)
    events.load()
    assert whole(events) == after, "made anew from landing it is the same"


@pytest.mark.parametrize(
    "point",
    ["expire.listed", "expire.before_commit", "expire.forgotten", "expire.file_removed"],
)
def test_killed_anywhere_the_next_call_goes_on(
    events: Lab, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    moment = between(events)
    monkeypatch.setenv("WELLSPRING_FAILPOINT", point)
    code = CHILD.format(
        kit=str(Path(__file__).parent),
        folder=str(events.folder),
        tables=json.dumps(events.tables),
        moment=moment.isoformat(),
    )
    child = warm.run(["-c", code], capture_output=True, text=True)
    assert child.returncode == -9, child.stderr
    monkeypatch.delenv("WELLSPRING_FAILPOINT")
    events.load()
    assert [row["id"] for row in events.raw("t")] == ["6"]
    expire([events.declaration], events.settings, moment=moment)
    assert originals(events) == ["3.csv"]
    assert faults(events) == []
    shutil.rmtree(events.settings.warehouse_path.parent)
    events.load()
    assert len(whole(events)["expired"]) == 3


def test_rows_that_are_changed_later_do_not_go_by_age(events: Lab) -> None:
    events.put("4.csv", "id;v\n1;changed\n")
    events.run()
    before = whole(events)
    with pytest.raises(BadInput, match="id = 1"):
        expire([events.declaration], events.settings, moment=between(events))
    assert whole(events) == before
    assert len(originals(events)) == 5
    assert not list((events.settings.landing_dir / "src" / "t").glob("expired.json"))


def test_members_of_an_archive_go_together(lab: Lab) -> None:
    lab.tables = {"t": {**EVENTS, "path": "*.zip"}}
    with zipfile.ZipFile(lab.drop / "a.zip", "w") as archive:
        archive.writestr("1.csv", "id;v\n1;a\n")
        archive.writestr("2.csv", "id;v\n2;b\n")
    lab.run()
    late = datetime.now(UTC) + timedelta(days=31)
    (done,) = expire([lab.declaration], lab.settings, moment=late)
    assert (done.files, done.rows) == (2, 2)
    assert originals(lab) == []
    assert lab.raw("t") == []
    assert len(register_rows(lab.settings, "src", "t")) == 2, "what has arrived stays known"
    assert lab.run().rows == 0
