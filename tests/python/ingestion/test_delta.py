"""The comparison with landing, one reading after the other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sources_kit import settings_in

from ingestion.delta import Delta, Difference, Spool


@dataclass
class File:
    path: Path
    load_id: str
    file: str = ""
    part: None = None


class Table:
    """A table that is read again and again; every difference lands as a load of its own."""

    def __init__(self, folder: Path, **spool: Any) -> None:
        self._folder = folder
        self._settings = settings_in(folder)
        self._spool = spool
        self._count = 0
        self.files: list[File] = []

    def read(self, columns: dict[str, Any], keys: dict[str, Any] | None = None) -> Difference:
        self._count += 1
        source = self._folder / f"read{self._count}.parquet"
        pq.write_table(pa.table(columns), source)
        swept = None
        if keys is not None:
            swept = self._folder / f"keys{self._count}.parquet"
            pq.write_table(pa.table(keys), swept)
        load_id = f"{1_795_000_000 + self._count}.25"
        out = self._folder / f"{load_id}.abc.parquet"
        with Delta(self._settings, self.files) as delta:
            difference = delta.difference(Spool([source], keys=swept, **self._spool), out)
        if difference.files:
            self.files.append(File(out, load_id))
        assert (not difference.files) == (difference.rows == 0)
        return difference

    def last(self) -> list[dict[str, Any]]:
        """Rows of the last load."""
        return pq.read_table(self.files[-1].path).to_pylist()


@pytest.fixture
def keyed(tmp_path: Path) -> Table:
    return Table(tmp_path, key=["id"])


def test_only_what_differs_is_landed(keyed: Table) -> None:
    assert keyed.read({"id": [1, 2, 3], "v": ["a", "b", None]}).changed == 3
    assert keyed.read({"id": [3, 2, 1], "v": [None, "b", "a"]}).rows == 0
    assert keyed.read({"id": [1, 2, 3], "v": ["a", None, "c"]}).changed == 2
    assert keyed.last() == [
        {"id": 2, "v": None, "_deleted": False},
        {"id": 3, "v": "c", "_deleted": False},
    ]


def test_a_value_that_goes_back_to_what_it_was_is_a_change(keyed: Table) -> None:
    for value in ("a", "b", "a"):
        assert keyed.read({"id": [1], "v": [value]}).changed == 1
    assert keyed.read({"id": [1], "v": ["a"]}).changed == 0


def test_an_empty_reading_changes_nothing(keyed: Table) -> None:
    nothing = {"id": pa.array([], pa.int64()), "v": pa.array([], pa.string())}
    assert keyed.read(nothing) == Difference()
    keyed.read({"id": [1], "v": ["a"]})
    assert keyed.read(nothing).rows == 0


def test_rows_keep_the_order_in_which_they_were_read(keyed: Table) -> None:
    keyed.read({"id": [5], "v": ["a"]})
    ids = [9, 3, 7, 1, 5]
    keyed.read({"id": ids, "v": ["a"] * 5})
    assert [row["id"] for row in keyed.last()] == [9, 3, 7, 1]


def test_null_is_a_value_of_a_key(tmp_path: Path) -> None:
    table = Table(tmp_path, key=["a", "b"])
    rows = {"a": [1, 1, None], "b": ["x", None, None], "v": [1, 2, 3]}
    assert table.read(rows).changed == 3
    assert table.read(rows).changed == 0
    assert table.read({**rows, "v": [1, 2, 4]}).changed == 1


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (pa.array([1], pa.int32()), pa.array([1], pa.int64()), 0),
        (pa.array([1], pa.int64()), pa.array(["1"]), 0),
        (pa.array(["1"]), pa.array([1], pa.int64()), 0),
        (pa.array([1], pa.int64()), pa.array(["1.4"]), 1),
        (pa.array([Decimal("1.50")]), pa.array([Decimal("1.500")]), 0),
        (pa.array([Decimal("1.50")]), pa.array(["1.5"]), 0),
        (pa.array([Decimal("1.50")]), pa.array(["1.504"]), 1),
        (pa.array([1], pa.int64()), pa.array([1.5]), 1),
        (pa.array([1.5]), pa.array([Decimal("1.5")]), 0),
        (pa.array([date(2026, 1, 2)]), pa.array([datetime(2026, 1, 2)], pa.timestamp("us")), 0),
        (pa.array([datetime(2026, 1, 2, tzinfo=UTC)]), pa.array(["2026-01-02T00:00:00Z"]), 0),
        (
            pa.array([datetime(2026, 1, 2)], pa.timestamp("us")),
            pa.array(["2026-01-02 00:00:01"]),
            1,
        ),
        (pa.array([datetime(2026, 1, 2)], pa.timestamp("us")), pa.array(["infinity"]), 1),
        (pa.array([True]), pa.array(["true"]), 0),
        (pa.array([None], pa.string()), pa.array([None], pa.int64()), 0),
        (pa.array([0]), pa.array([None], pa.int64()), 1),
    ],
)
def test_a_type_may_change_where_the_value_does_not(
    keyed: Table, before: pa.Array, after: pa.Array, changed: int
) -> None:
    keyed.read({"id": [7], "v": before})
    assert keyed.read({"id": [7], "v": after}).changed == changed
    assert keyed.read({"id": [7], "v": after}).changed == 0


def test_a_key_may_change_its_type(keyed: Table) -> None:
    keyed.read({"id": pa.array([1, 2], pa.int32()), "v": ["a", "b"]})
    assert keyed.read({"id": pa.array([1, 2], pa.int64()), "v": ["a", "b"]}).changed == 0
    assert keyed.read({"id": ["1", "2", "x"], "v": ["a", "b", "c"]}).changed == 1
    assert keyed.read({"id": pa.array([1, 2], pa.int64()), "v": ["a", "b"]}).changed == 0


def test_columns_come_and_go(keyed: Table) -> None:
    keyed.read({"id": [1, 2], "v": ["a", "b"]})
    assert keyed.read({"id": [1, 2], "v": ["a", "b"], "w": pa.nulls(2, pa.int64())}).changed == 0
    assert keyed.read({"id": [1, 2], "v": ["a", "b"], "w": [None, 5]}).changed == 1
    assert keyed.read({"id": [1, 2], "v": ["a", "b"]}).changed == 0
    assert keyed.read({"id": [1, 2], "v": ["a", "c"]}).changed == 1
    assert keyed.last() == [{"id": 2, "v": "c", "w": None, "_deleted": False}]


def test_several_versions_of_a_key_land_once(tmp_path: Path) -> None:
    table = Table(tmp_path, key=["id"], cursor="at")
    times = [datetime(2026, 1, 2), datetime(2026, 1, 1), datetime(2026, 1, 1)]
    both = {"id": [1, 1, 2], "at": times}
    assert table.read(both).changed == 3
    assert table.read(both).changed == 0
    assert table.read({"id": [1], "at": times[:1]}).changed == 0, "the latest version is known"
    assert table.read({"id": [1], "at": times[1:2]}).changed == 1, "now the older one is in force"
    assert table.read(both).changed == 1, "the latest version is in force again"
    assert table.read(both).changed == 0
    newer = {"id": [1, 1, 1, 2], "at": [datetime(2026, 1, 3), *times]}
    assert table.read({"id": [1], "at": [datetime(2026, 1, 3)]}).changed == 1
    assert table.read(newer).changed == 0, "older versions have landed before"


def test_without_a_key_copies_count(tmp_path: Path) -> None:
    table = Table(tmp_path)
    assert table.read({"v": ["a", "a", None]}).changed == 3
    assert table.read({"v": ["a", "a", None]}).changed == 0
    assert table.read({"v": ["a"]}).changed == 0
    assert table.read({"v": ["a", "a", "a", None, None]}).changed == 2


def test_a_sweep_lands_keys_that_went_and_came_back(tmp_path: Path) -> None:
    table = Table(tmp_path, key=["id"], sweep=True)
    table.read({"id": [1, 2, 3], "v": ["a", "b", "c"]})
    gone = table.read({"id": [1], "v": ["a"]}, keys={"id": [1, 3]})
    assert (gone.changed, gone.deleted) == (0, 1)
    assert table.last() == [{"id": 2, "v": "b", "_deleted": True}]
    assert table.read({"id": [1], "v": ["a"]}, keys={"id": [1, 3]}).rows == 0
    assert table.read({"id": [2], "v": ["b"]}, keys={"id": [1, 2, 3]}).changed == 1
    assert table.read({"id": [1, 2], "v": ["a", "b"]}).deleted == 1, "a whole reading sweeps itself"


def test_keys_that_landing_does_not_have_are_found(tmp_path: Path) -> None:
    table = Table(tmp_path, key=["id"], sweep=True)
    table.read({"id": [1, 2, 3], "v": ["a", "b", "c"]})
    table.read({"id": [1, 3], "v": ["a", "c"]})
    rows, keys = tmp_path / "rows.parquet", tmp_path / "all.parquet"
    pq.write_table(pa.table({"id": [4], "v": ["d"]}), rows)
    pq.write_table(pa.table({"id": pa.array([1, 2, 3, 4, 5], pa.int32())}), keys)
    with Delta(settings_in(tmp_path), table.files) as delta:
        missing = delta.missing_keys(Spool([rows], key=["id"], sweep=True, keys=keys))
    assert sorted(missing.column("id").to_pylist()) == [2, 5]


LATE = datetime(2999, 1, 1)


@pytest.mark.parametrize(
    ("values", "highest"),
    [
        (pa.array([datetime(2026, 1, 1), datetime(2026, 1, 2), LATE]), datetime(2026, 1, 2)),
        (pa.array([date(2026, 1, 1), date(2026, 1, 2), LATE.date()]), date(2026, 1, 2)),
        (pa.array([LATE, LATE, LATE]), None),
        (pa.array([1, 30, 4]), Decimal(30)),
        (pa.array([Decimal("1.5"), None, None]), Decimal("1.5")),
        (
            pa.array(["2026-01-01T00:00:00Z", "2026-01-02T01:00:00+02:00", "2999-01-01T00:00:00Z"]),
            datetime(2026, 1, 1, 23, tzinfo=UTC),
        ),
        (pa.array(["2999-01-01T00:00:00Z"] * 3), None),
        (pa.array(["9", "10", None]), Decimal(10)),
        (pa.array(["b", "a", "10"]), "b"),
        (pa.array([None, None, None], pa.string()), None),
    ],
)
def test_the_high_water_mark(keyed: Table, tmp_path: Path, values: pa.Array, highest: Any) -> None:
    keyed.read({"id": [1, 2, 3], "at": values})
    with Delta(settings_in(tmp_path), keyed.files) as delta:
        assert delta.high_water("at") == highest
        assert delta.high_water("unknown") is None
