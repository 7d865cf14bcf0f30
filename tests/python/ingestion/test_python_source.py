"""Sources written in Python."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from sources_kit import declared, landed, landed_types, rows_of, run, run_periods, settings_in

from ingestion.errors import BadInput, DeclarationError, SourceFailed
from ingestion.settings import Settings

_count = iter(range(1000))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture
def write(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Writes a module into the project and declares its function."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def module(code: str, tables: dict[str, dict[str, Any]], **arguments: Any) -> Any:
        name = f"my_source_{next(_count)}"
        (settings.project_dir / f"{name}.py").write_text(dedent(code))
        return declared("python", tables, callable=f"{name}:source", arguments=arguments)

    return module


def test_a_generator_of_dictionaries(write: Any, settings: Settings) -> None:
    source = write(
        """
        import datetime, decimal
        def source(many):
            for n in range(many):
                yield {"Id": n, "at": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
                       "price": decimal.Decimal("1.50"), "tags": ["a", {"b": n}], "nothing": None}
        """,
        {"things": {"primary_key": ["Id"]}},
        many=3,
    )
    assert rows_of(run(source, settings)) == {"things": 3}
    assert landed(settings, "things")[2] == {
        "id": 2,
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "price": Decimal("1.50"),
        "tags": '["a",{"b":2}]',
        "_deleted": False,
    }
    assert run(source, settings).status == "nothing_new"


def test_batches_that_disagree_fall_back_to_text(write: Any, settings: Settings) -> None:
    source = write(
        """
        def source():
            yield [{"id": 1, "v": 5, "w": 1, "x": True}]
            yield [{"id": 2, "v": "five", "w": 1.5, "x": "no"}, {"id": 3, "v": {"k": 1},
            "more": "m"}]
            yield [{"id": 4, "v": 2**80}]
        """,
        {"things": {"primary_key": ["id"]}},
    )
    run(source, settings)
    rows = landed(settings, "things")
    assert [row["v"] for row in rows] == ["5", "five", '{"k":1}', str(2**80)]
    assert [row["w"] for row in rows] == [1.0, 1.5, None, None]
    assert [row["x"] for row in rows] == ["true", "no", None, None]
    assert run(source, settings).status == "nothing_new"


def test_arrow_tables_and_frames_keep_their_types(write: Any, settings: Settings) -> None:
    source = write(
        """
        import pyarrow as pa
        def source():
            yield pa.table({"id": pa.array([1, 2], pa.int16()), "n": [{"a": 1}, None],
                            "d": pa.array(["x", "y"]).dictionary_encode()})
            yield pa.record_batch({"id": pa.array([3], pa.int16()), "n": [{"a": 3}]})
        """,
        {"things": {}},
    )
    assert rows_of(run(source, settings)) == {"things": 3}
    types = landed_types(settings, "things")
    assert types == {"id": "SMALLINT", "n": "VARCHAR", "d": "VARCHAR", "_deleted": "BOOLEAN"}
    assert [row["n"] for row in landed(settings, "things")] == ['{"a":1}', None, '{"a":3}']


def test_dlt_resources_go_by_their_names(write: Any, settings: Settings) -> None:
    source = write(
        """
        import dlt
        @dlt.source
        def source():
            @dlt.resource(name="parents")
            def parents():
                yield [{"id": 1}, {"id": 2}]
            @dlt.transformer(name="children", data_from=parents)
            def children(items):
                for item in items:
                    yield {"id": item["id"] * 10, "parent": item["id"]}
            return parents, children
        """,
        {"parents": {"primary_key": ["id"]}, "children": {"primary_key": ["id"]}},
    )
    assert rows_of(run(source, settings)) == {"parents": 2, "children": 2}
    assert [row["id"] for row in landed(settings, "children")] == [10, 20]


def test_the_declared_cursor_starts_the_resource_where_landing_ends(
    write: Any, settings: Settings
) -> None:
    source = write(
        """
        import dlt, pathlib
        @dlt.resource(name="things")
        def source(log, at=dlt.sources.incremental("at",
        initial_value="2026-01-01T00:00:00+00:00")):
            with pathlib.Path(log).open("a") as out:
                out.write(str(at.last_value) + "\\n")
            for day in range(1, 6):
                yield {"id": day, "at": f"2026-01-0{day}T00:00:00+00:00"}
        """,
        {"things": {"primary_key": ["id"], "cursor": "at", "window": "1 day"}},
        log=str(settings.project_dir / "log"),
    )
    assert rows_of(run(source, settings)) == {"things": 5}
    again = run(source, settings)
    assert (again.status, again.tables[0].read) == ("nothing_new", 2)
    run(source, settings, full_refresh=True)
    log = (settings.project_dir / "log").read_text().splitlines()
    assert log == [f"2026-01-0{day}T00:00:00+00:00" for day in (1, 4, 1)]


def test_a_failure_half_way_lands_nothing(write: Any, settings: Settings) -> None:
    source = write(
        """
        def source():
            yield [{"id": 1}] * 30000
            raise RuntimeError("the gauge is broken")
        """,
        {"things": {}},
    )
    error = run(source, settings).error
    assert isinstance(error, SourceFailed)
    assert "failed after 20" in str(error)
    assert "the gauge is broken" in str(error)
    assert landed(settings, "things") == []


@pytest.mark.parametrize(
    ("code", "arguments", "said"),
    [
        ("def source(): yield 5", {}, "not as int"),
        ("def source(): yield {'a': 1}", {}, "a column that the rows have: a"),
        ("def source(a): yield {'id': 1}", {"b": 1}, "missing a required argument: 'a'"),
        ("def other(): pass", {}, "other"),
        ("import nowhere_to_be_found", {}, "No module named 'nowhere_to_be_found'"),
        ("def source(): raise ValueError('no')", {}, "failed: no"),
        ("def source(): return {'other': []}", {}, "the name of a resource of"),
        ("def source(): yield {'Id': 1, 'id': 2}", {}, "both become 'id'"),
    ],
)
def test_what_is_wrong_is_told(
    write: Any, settings: Settings, code: str, arguments: dict[str, Any], said: str
) -> None:
    error = run(write(code, {"things": {"primary_key": ["id"]}}, **arguments), settings).error
    assert isinstance(error, DeclarationError | SourceFailed | BadInput)
    assert said in str(error)
    assert "source src" in str(error)


DAYS = "['2026-01-30', '2026-01-31', '2026-02-01', '2026-02-02', '2026-02-03']"


@pytest.mark.parametrize(
    ("code", "rows", "note"),
    [
        (
            f"""
            def source(since=None, until=None):
                for day in {DAYS}:
                    if since is None or str(since.date()) <= day < str(until.date()):
                        yield {{"id": day, "at": day}}
            """,
            [1, 2],
            "",
        ),
        (
            f"""
            import dlt
            @dlt.resource(name="things")
            def source(at=dlt.sources.incremental("at", initial_value="2025-01-01")):
                yield [{{"id": day, "at": day}} for day in {DAYS}]
            """,
            [1, 2],
            "",
        ),
        (
            f"""
            def source():
                yield [{{"id": day, "at": day}} for day in {DAYS}]
            """,
            [5, 0],
            "read whole: the function does not take since and until",
        ),
    ],
)
def test_a_period_goes_to_the_function_or_to_its_incremental(
    write: Any, settings: Settings, code: str, rows: list[int], note: str
) -> None:
    source = write(code, {"things": {"primary_key": ["id"], "cursor": "at"}})

    results = run_periods(source, settings, date(2026, 1, 31), date(2026, 2, 3), "month")

    assert [rows_of(result)["things"] for result in results] == rows
    assert {result.tables[0].note for result in results} == {note}
