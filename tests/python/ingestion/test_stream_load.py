"""Loading what landers made durable: envelope, exact values, rejected messages, many files."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ingestion.compact import compact
from ingestion.declarations import (
    DeclaredColumn,
    SourceDeclaration,
    StreamTable,
    TableDeclaration,
)
from ingestion.errors import BadInput
from ingestion.lander.consumer import Message
from ingestion.lander.decoding import decode_json
from ingestion.lander.stream import as_table
from ingestion.lander.written import StreamFolder
from ingestion.landing import landed_files
from ingestion.load import LoadResult, load
from ingestion.replay import replay
from ingestion.settings import LimitsSettings, Settings
from ingestion.verify import verify_landing
from ingestion.warehouse import connect

MOMENT = 1_700_000_000_123_456


class Orchard:
    """A stream of harvests, written as a lander writes it."""

    def __init__(self, folder: Path, contract: str = "evolve") -> None:
        self.settings = Settings(folder, folder / "data", limits=LimitsSettings(min_free="0"))
        ingest = StreamTable.model_validate({"stream": {"from": "H"}, "contract": contract})
        columns = (DeclaredColumn("tree", "string"), DeclaredColumn("kilos", "double"))
        self.table = TableDeclaration("harvests", "source.x.orchard.harvests", ingest, columns)
        self.source = SourceDeclaration(
            "orchard", "raw_orchard", "stream", "orchard", "o.yml", (self.table,)
        )
        self.folder = StreamFolder(self.settings, "orchard", "harvests")
        self.last = 0

    def land(self, *payloads: bytes | str | dict[str, Any], **message: Any) -> Path:
        """One file with these messages."""
        first = self.last + 1
        messages = [
            Message(n, _bytes(payload), **{"topic": "h.a", "published_at": MOMENT, **message})
            for n, payload in enumerate(payloads, start=first)
        ]
        self.last += len(payloads)
        content, _ = as_table(messages, decode_json, 20)
        newest = self.folder.newest().load_id
        return self.folder.write(content, (first, self.last), {"": self.last}, [], newest).path

    def load(self) -> LoadResult:
        return load([self.source], self.settings)

    def rows(self, columns: str = "*", order: str = "_sequence") -> list[Any]:
        with connect(self.settings) as connection:
            found: list[Any] = connection.execute(
                f"select {columns} from raw_orchard.harvests order by {order}"
            ).fetchall()
            return found

    def ask(self, query: str) -> list[Any]:
        with connect(self.settings) as connection:
            found: list[Any] = connection.execute(query).fetchall()
            return found

    def faults(self) -> Sequence[Any]:
        with connect(self.settings) as connection:
            return verify_landing(connection, [self.source], self.settings, checksums=True)


def _bytes(payload: bytes | str | dict[str, Any]) -> bytes:
    if isinstance(payload, dict):
        return json.dumps(payload).encode()
    return payload.encode() if isinstance(payload, str) else payload


@pytest.fixture
def orchard(tmp_path: Path) -> Orchard:
    return Orchard(tmp_path)


def test_a_message_becomes_a_row_with_its_envelope(orchard: Orchard) -> None:
    path = orchard.land(
        {"tree": "A1", "kilos": 12.5}, key="k", headers={"crew": "north"}, shard="s0"
    )
    result = orchard.load()
    assert (result.rows, result.refused, result.changes) == (1, [], [])
    columns = "tree, kilos, _sequence, _shard, _topic, _key, _headers, _published_at::varchar, "
    [row] = orchard.rows(columns + "_file, _row, _load_id, _deleted, _extracted_at is not null")
    load_id = ".".join(path.name.split(".")[:2])
    assert row == (
        *("A1", "12.5", "00000000000000000001", "s0", "h.a", "k", '{"crew": "north"}'),
        "2023-11-14 22:13:20.123456",
        *(str(path.relative_to(orchard.settings.landing_dir)), 1, load_id, False, True),
    )


def test_values_keep_every_digit_and_nested_ones_are_json(orchard: Orchard) -> None:
    orchard.land(
        '{"kilos": 1.10, "big": 12345678901234567890123456789.10, "no": null, "yes": true}',
        '{"kilos": 1e400, "list": [1, {"a": "b c"}], "text": "a\\nb"}',
        '{\n  "tree": "B2",\n  "kilos": 3\n}',
    )
    orchard.load()
    names = "tree, kilos, big, no, yes, list, text"
    assert orchard.rows(names) == [
        (None, "1.10", "12345678901234567890123456789.10", None, "true", None, None),
        (None, "1e400", None, None, None, '[1,{"a":"b c"}]', "a\nb"),
        ("B2", "3", None, None, None, None, None),
    ]


def test_what_spoils_one_message_leaves_its_neighbours_alone(orchard: Orchard) -> None:
    orchard.land(
        {"tree": "A1"},
        b"closed for \xff lunch",
        '{"tree": 1, "tree": 2}',
        {"treeId": 1, "tree_id": 2},
        {"_key": "mine"},
        {"tree": "A2"},
    )
    result = orchard.load()
    assert (result.tables[0].rows, result.tables[0].rejected) == (2, 4)
    assert orchard.rows("tree, _row") == [("A1", 1), ("A2", 6)]
    rejected = orchard.ask(
        "select record_number, reason, raw_record from ledger.rejected_records order by 1"
    )
    assert [row[0] for row in rejected] == [2, 3, 4, 5]
    assert rejected[0][2] == "closed for \\xff lunch"
    told = ("it is not UTF-8", "stands twice in one object", "both become", "uses itself")
    assert all(part in row[1] for row, part in zip(rejected, told, strict=True))
    [entry] = orchard.ask("select rows_read, rows_loaded, rows_rejected, status from ledger.files")
    assert entry == (6, 2, 4, "loaded")
    assert orchard.faults() == []


def test_spellings_of_a_key_share_a_column(orchard: Orchard) -> None:
    orchard.land({"cropYear": 2024}, {"crop_year": 2025}, {'crop"Year': 2026})
    orchard.load()
    assert orchard.rows("crop_year") == [("2024",), ("2025",), ("2026",)]


def test_many_files_are_one_transaction_and_loaded_once(orchard: Orchard) -> None:
    for number in range(40):
        orchard.land({"tree": f"T{number}"}, {"tree": f"U{number}"})
    result = orchard.load()
    assert (result.tables[0].files, result.rows) == (40, 80)
    moments = orchard.ask("select count(distinct loaded_at), count(*) from ledger.files")
    assert moments == [(1, 40)]
    loads = orchard.ask("select count(distinct _load_id) from raw_orchard.harvests")
    assert loads == [(40,)]
    assert orchard.load().rows == 0
    orchard.land({"tree": "last"})
    assert orchard.load().rows == 1


def test_a_new_key_becomes_a_column_and_is_noted(orchard: Orchard) -> None:
    orchard.land({"tree": "A1"})
    orchard.load()
    orchard.land({"tree": "A2", "sort": "Boskoop"})
    assert orchard.load().changes == ["orchard.harvests: added sort"]
    assert orchard.rows("sort") == [(None,), ("Boskoop",)]


def test_a_frozen_contract_holds_files_back_until_it_is_mended(tmp_path: Path) -> None:
    orchard = Orchard(tmp_path, contract="freeze")
    orchard.land({"tree": "A1"})
    orchard.load()
    orchard.land({"tree": "A2", "sort": "Boskoop"})
    result = orchard.load()
    assert "brings a new column sort" in str(result.refused[0])
    assert orchard.rows("tree") == [("A1",)]
    assert Orchard(tmp_path).load().rows == 1


def test_a_damaged_file_is_refused_and_its_neighbours_are_loaded(orchard: Orchard) -> None:
    orchard.land({"tree": "A1"})
    bad = orchard.land({"tree": "A2"})
    orchard.land({"tree": "A3"})
    bad.write_bytes(bad.read_bytes()[:60])
    result = orchard.load()
    assert [file.file for file in result.refused] == [
        str(bad.relative_to(orchard.settings.landing_dir))
    ]
    assert orchard.rows("tree") == [("A1",), ("A3",)]


def test_an_empty_file_counts_as_read(orchard: Orchard) -> None:
    orchard.land()
    orchard.load()
    assert orchard.ask("select rows_read, status from ledger.files") == [(0, "loaded")]
    assert orchard.load().rows == 0


def test_compacted_days_hold_the_same_messages(orchard: Orchard) -> None:
    for number in range(6):
        orchard.land({"tree": f"T{number}"}, f"no {number}")
    orchard.load()
    before = orchard.rows("tree, _file, _row, _load_id, _sequence")
    [done] = [
        one
        for one in compact([orchard.source], orchard.settings, smaller_than=10**6)
        if one.table == "harvests"
    ]
    assert (done.files_before, done.files_after, done.parts) == (6, 2, 5)
    assert orchard.folder.newest().checkpoint == {"": 12}
    assert orchard.faults() == []
    assert orchard.load().rows == 0
    orchard.settings.warehouse_path.unlink()
    orchard.land({"tree": "new"})
    orchard.load()
    assert orchard.rows("tree, _file, _row, _load_id, _sequence")[:-1] == before
    assert orchard.ask("select count(*) from ledger.rejected_records") == [(6,)]


def test_a_loaded_file_can_be_read_again(orchard: Orchard) -> None:
    orchard.land({"tree": "A1"}, "nothing")
    path = orchard.land({"tree": "A2"})
    orchard.load()
    before = orchard.rows("tree, _file, _row, _load_id, _sequence")
    result = replay([orchard.source], orchard.settings, files=[path.name])
    assert [entry.rows_loaded_after for entry in result.replays] == [1]
    assert orchard.rows("tree, _file, _row, _load_id, _sequence") == before


def test_a_restore_that_broke_off_stops_the_load(orchard: Orchard) -> None:
    orchard.land({"tree": "A1"})
    orchard.settings.restore_mark.write_text("{}")
    with pytest.raises(BadInput, match="restored"):
        orchard.load()


def test_past_days_are_listed_once_and_new_files_are_seen(orchard: Orchard) -> None:
    path = orchard.land({"tree": "A1"})
    past = path.parent.with_name("2020-01-01")
    path.parent.rename(past)
    assert orchard.load().rows == 1
    time.sleep(2.1)
    assert orchard.load().rows == 0
    path = orchard.land({"tree": "A2"})
    path.rename(past / path.name)
    assert orchard.load().rows == 1
    assert len(landed_files(orchard.settings, "orchard", "harvests")) == 2
