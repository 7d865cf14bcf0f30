"""Sessions on the web site grow with late clicks to the truth, and equal a replay of landing.

files of three days ─> raw, a load a day ─> the project's own models, built after each ─> the same
loads in an empty warehouse, built once ─> the same rows
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from lab import PROJECT, RAW_COLUMNS, Lab

from anycompany import days
from anycompany.systems import web_live
from anycompany.text import lines
from anycompany.world import Settings, World

SIZE = Settings(seed=5, scale=0.01, defects=0.05)
COUNTED = {"page_view": "view_count", "purchase": "purchase_count"}
# Page, what is counted and minute since 1970, with the number.
PEOPLE = """
    select
        (page_type, measure, epoch_ms(minute_at) // 60000),
        number::bigint
    from (
        unpivot web.fct_page_minutes on view_count, purchase_count into name measure value number
    )
    where number > 0
"""
FIRST, LAST = days.FIRST_STATE, days.FIRST_STATE + 2
TABLES = (
    "staging.stg_web__events",
    "quarantine.stg_web__events",
    "ledger_outcomes.stg_web__events",
    "intermediate.int_web_events_sessionised",
    "intermediate.int_web_sessions_built",
    "intermediate.int_web_page_loads_counted",
    "intermediate.int_web_page_loads_summarised",
    "web.fct_page_minutes",
)
# The last line of a file that was cut off is not.
IS_WHOLE = re.compile(r".*\}$").match
LEDGER = (
    "create schema if not exists ledger; create table if not exists ledger.files (source varchar,"
    " table_name varchar, file varchar, load_id varchar, status varchar, rows_loaded bigint,"
    " loaded_at timestamp)"
)
KEYS = (
    "event_id", "event", "client", "visit", "consent", "customer", "at", "sent", "received", "path",
    "product", "order", "country", "device", "connection", "ip", "agent", "load_ms",
)  # fmt: skip


def delivered(folder: Path) -> dict[int, list[Path]]:
    """The site's files by the day on which they came, written below `folder`."""
    box = World(SIZE, LAST).web.outbox
    box.deliver(folder, -1)
    found: dict[int, list[Path]] = {}
    for name, (day, _) in sorted(box.files.items()):
        found.setdefault(max(day, FIRST), []).append(folder / name)
    return found


def truth() -> set[tuple[Any, ...]]:
    """The sessions that the generator knows of on the last day."""
    told = World(SIZE, LAST).web.sessions.to_pylist()
    keys = ("client_id", "started_at", "ended_at", "event_count", "page_view_count", "last_step")
    return {tuple(session[key] for key in keys) for session in told}


class Site:
    """A project with this project's models of the web site, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.lab = Lab(folder)
        for part in ("staging/web", "intermediate/web"):
            shutil.copytree(PROJECT / "models" / part, folder / "models" / part)
        for path in (
            "models/marts/_groups.yml",
            "models/marts/web/fct_page_minutes.sql",
            "models/marts/web/fct_page_minutes.yml",
            "tests/dbt/singular/assert_page_minutes_hold_every_event.sql",
        ):
            self.lab.write(path, (PROJECT / path).read_text(encoding="utf-8"))
        for docs in ("docs/columns.md", "staging/_staging__docs.md"):
            self.lab.write(f"models/{docs}", (PROJECT / "models" / docs).read_text("utf-8"))
        for seed in ("web_funnel_steps", "web_page_load_cuts"):
            for path in (f"seeds/{seed}.csv", f"seeds/{seed}.yml"):
                self.lab.write(path, (PROJECT / path).read_text(encoding="utf-8"))
        columns = ", ".join(
            f'"{name}" {kind}'
            for name, kind in {**dict.fromkeys(KEYS, "varchar"), **RAW_COLUMNS}.items()
        )
        self.lab.execute(f"create schema raw_web; create table raw_web.events ({columns})")
        self.lab.execute(LEDGER)

    def load(self, day: int, files: list[Path]) -> None:
        """Loads the files of a day as one load, as the loader would."""
        load_id = f"{int(days.start_of(day + 1))}.0"
        found = [
            ("/".join(file.parts[-4:]), number, line)
            for file in files
            for number, line in enumerate(
                filter(IS_WHOLE, gzip.decompress(file.read_bytes()).decode().splitlines()), start=1
            )
        ]
        names, numbers, lines = map(list, zip(*found, strict=True))
        brought = pa.table({"file": names, "number": numbers, "line": lines})
        wanted = json.dumps(dict.fromkeys(KEYS, "VARCHAR"))
        with duckdb.connect(str(self.lab.warehouse)) as connection:
            connection.register("brought", brought)
            connection.execute(
                "insert into raw_web.events select unnest(json_transform(line, ?)),"
                " file, number, ?, null, false from brought",
                [wanted, load_id],
            )
            connection.execute(
                "insert into ledger.files select 'web', 'events', file, ?, 'loaded', count(*),"
                " now()::timestamp from brought group by file",
                [load_id],
            )

    def build(self) -> None:
        results = self.lab.dbt("build", "--exclude-resource-type", "unit_test", "test")
        assert {status for status, _ in results.values()} == {"success"}, results

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        return {table: self.lab.query(f"select * from {table} order by all") for table in TABLES}


def beginnings_of(site: Site) -> set[tuple[Any, ...]]:
    """How many sessions of people began in which minute, by the live mart."""
    return set(
        site.lab.query(
            "select minute_at, sum(begun_session_count)::bigint from web.fct_page_minutes"
            " group by minute_at having sum(begun_session_count) > 0"
        )
    )


def sessions_of(site: Site) -> set[tuple[Any, ...]]:
    """The sessions of people that the models have found."""
    return set(
        site.lab.query(
            "select client_id, session_started_at, session_ended_at, event_count,"
            " page_view_count::bigint, event_type"
            " from intermediate.int_web_sessions_built"
            " inner join lookups.web_funnel_steps on last_step_number = step_number"
            " where not is_bot"
        )
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Path]]:
    return delivered(tmp_path_factory.mktemp("site"))


def test_sessions_that_grew_day_by_day_are_those_of_a_replay(
    files: dict[int, list[Path]], tmp_path: Path
) -> None:
    assert list(files) == [FIRST, FIRST + 1, LAST]
    grown = Site(tmp_path / "grown")
    for day, listed in files.items():
        grown.load(day, listed)
        grown.build()
    late = grown.lab.query(
        "select count(*) from intermediate.int_web_events_sessionised as events"
        " inner join staging.stg_web__events as staged using (client_id, event_at)"
        " where events._load_id > staged._load_id"
    )
    assert late > [(0,)], "no late event changed a session of a former load"

    replayed = Site(tmp_path / "replayed")
    for day, listed in files.items():
        replayed.load(day, listed)
    replayed.build()
    expected = replayed.content()
    for table, rows in grown.content().items():
        assert rows == expected[table], table
    assert len(expected["intermediate.int_web_sessions_built"]) > 100
    assert sessions_of(grown) == truth()
    begun = Counter(moment.replace(second=0, microsecond=0) for _, moment, *_ in truth())
    assert beginnings_of(grown) == set(begun.items())


def test_clicks_of_now_bring_pages_and_minutes_to_the_truth(
    files: dict[int, list[Path]], tmp_path: Path
) -> None:
    site, world = Site(tmp_path / "live"), World(SIZE, LAST)
    past = int(days.start_of(LAST)) * 1_000
    site.load(FIRST, files[FIRST][-2:])
    site.build()
    before = dict(site.lab.query(PEOPLE))
    expected: Counter[tuple[Any, ...]] = Counter()
    for turn in range(3):
        now = past + turn * 47_000
        made = web_live.batch(world, np.arange(turn * 700, (turn + 1) * 700), now)
        again = made.payload.filter(pa.array(made.again))
        file = tmp_path / web_live.path(turn * 700, now)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(lines(pa.concat_arrays([made.payload, again]))))
        site.load(LAST + turn, [file])
        site.build()
        topics, moments = made.topic.to_pylist(), made.happened.tolist()
        for topic, moment, defect in zip(topics, moments, made.defect.to_pylist(), strict=True):
            who, page, event = topic.split(".")
            if who == "people" and defect != "malformed" and event in COUNTED:
                expected[page, COUNTED[event], moment // 60_000] += 1
    defects = set(made.defect.to_pylist())
    assert {"late", "out_of_order", "wrong_clock", None} <= defects
    assert made.again.any()
    grown = Counter(dict(site.lab.query(PEOPLE)))
    grown.subtract(before)
    assert +grown == expected
    assert min(grown.values()) >= 0

    content = site.content()
    results = site.lab.dbt("build", "--full-refresh", "--exclude-resource-type", "unit_test")
    assert {status for status, _ in results.values()} == {"success", "pass"}, results
    assert site.content() == content
