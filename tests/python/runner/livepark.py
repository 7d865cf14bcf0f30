"""A car park whose barriers send a message per passage: a project of one stream and live models.

livepark ─> landing (as a lander writes it) ─> stg_barriers__passages ─> fct_quarters, fct_days

No broker is needed: files are landed by the lander's own writer.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import duckdb
import pyarrow as pa
import warm

from ingestion.lander.written import StreamFolder, Written
from ingestion.settings import Settings, load_settings

PROJECT = Path(__file__).resolve().parents[3]
FILES = {
    "models/staging/barriers/_barriers__sources.yml": """
        sources:
          - name: barriers
            schema: raw_barriers
            description: What the barriers of the car park send.
            config:
              meta:
                ingest: {kind: stream, connection: barriers}
            tables:
              - name: passages
                description: One row per passage.
                columns:
                  - {name: passage_id, data_type: string}
                  - {name: bay, data_type: string}
                  - {name: passed_at, data_type: string}
                  - {name: fee, data_type: string}
                config:
                  meta: {ingest: {stream: {from: PASSAGES}}}
        """,
    "models/staging/barriers/stg_barriers__passages.sql": """
        with
        source as (select * from {{ source('barriers', 'passages') }}),
        cleaned as (
            select passage_id, bay, try_cast(passed_at as timestamp) as passed_at,
                try_cast(fee as integer) as fee, _file, _row, _load_id, _deleted,
                {{ raw_record('source') }} as _record
            from source
        )
        select * from cleaned
        """,
    "models/staging/barriers/stg_barriers__passages.yml": """
        models:
          - name: stg_barriers__passages
            config:
              meta:
                staging: {events: true, key: [passage_id], event_time: passed_at}
            columns:
              - {name: fee, config: {meta: {rules: [{required: true}, {typed_from: fee}]}}}
              - {name: passed_at, config: {meta: {rules: [{required: true}]}}}
        """,
    "models/marts/parking/fct_quarters.sql": """
        {{ config(materialized='incremental', incremental_strategy='delete+insert',
                  unique_key=['bay', 'window_start']) }}
        with passages as (
            {{ events_by_window('stg_barriers__passages', 'passed_at', '15 minutes', by=['bay']) }}
        )
        select bay, window_start, count(*) as passage_count, sum(fee)::bigint as fees,
            max(_load_id) as _load_id
        from passages group by bay, window_start
        """,
    "models/marts/parking/fct_days.sql": """
        {{ config(materialized='incremental', incremental_strategy='delete+insert',
                  unique_key=['bay', 'day']) }}
        with quarters as (
            select *, cast(window_start as date) as day from {{ ref('fct_quarters') }}
        )
        select bay, day, sum(passage_count)::bigint as passage_count, sum(fees)::bigint as fees,
            max(_load_id) as _load_id
        from quarters
        where (bay, day) in (select (bay, day) from quarters where {{ is_new('fct_quarters') }})
        group by bay, day
        """,
    "models/marts/parking/parking.yml": """
        models:
          - name: fct_quarters
            access: public
            config:
              tags: [live]
              meta: {live: {time: window_start, keep: 2 days}}
            columns: [{name: bay}, {name: window_start}, {name: fees}]
          - name: fct_days
            access: public
            config: {tags: [live]}
            columns:
              - {name: bay, data_tests: [not_null]}
              - {name: fees}
        """,
    "tests/dbt/singular/assert_fees_are_not_negative.sql": """
        select * from {{ ref('fct_quarters') }} where fees < 0
        """,
    "wellspring.toml": """
        [watch]
        pause = "0.1s"
        keep = 2
        """,
}
START = datetime(2026, 6, 1)


@dataclass
class LivePark:
    """The project, and the passages that were landed.

    Attributes:
        root: The project's folder.
        landed: Bay, time and fee by id, of the first message of each id.
        more: Further fields of the messages to land.
        url: Address of the broker; by default there is none.
    """

    root: Path
    landed: dict[str, tuple[str, datetime, int]] = field(default_factory=dict)
    more: dict[str, str] = field(default_factory=dict)
    url: str = "nats://127.0.0.1:1"
    _last: str = ""
    _sequence: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process that works on it."""
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        data = str(self.root / "data")
        return {**kept, "WELLSPRING_DATA": data, "CONNECTIONS__BARRIERS__URL": self.url}

    @property
    def settings(self) -> Settings:
        """Its settings."""
        before = os.environ.get("WELLSPRING_DATA")
        os.environ["WELLSPRING_DATA"] = str(self.root / "data")
        try:
            return load_settings(self.root)
        finally:
            os.environ.pop("WELLSPRING_DATA")
            if before is not None:
                os.environ["WELLSPRING_DATA"] = before

    def write(self, path: str, text: str) -> None:
        """Writes a file of the project."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(dedent(text).lstrip("\n"), encoding="utf-8")

    def land(self, passages: Iterable[tuple[str, str, int, object]]) -> Written:
        """Lands a file of messages: id, bay, minutes since the start, fee."""
        rows = self.messages(passages)
        first = self._sequence + 1
        self._sequence += len(rows)
        folder = StreamFolder(self.settings, "barriers", "passages")
        content = _table(first, rows)
        names = (first, self._sequence)
        written = folder.write(content, names, {"": self._sequence}, (), self._last)
        self._last = written.load_id
        return written

    def messages(self, passages: Iterable[tuple[str, str, int, object]]) -> list[str]:
        """Makes messages, and notes what they tell for `truth`."""
        rows = []
        for key, bay, minutes, fee in passages:
            moment = START + timedelta(minutes=minutes)
            if isinstance(fee, int):
                self.landed.setdefault(key, (bay, moment, fee))
            told = {"passage_id": key, "bay": bay, "passed_at": moment.isoformat(), "fee": fee}
            told |= self.more
            rows.append(json.dumps(told))
        return rows

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Starts `wellspring` in a process of its own."""
        return warm.Popen(
            ["-m", "runner", *arguments],
            cwd=self.root,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def call(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Calls `wellspring` and waits; its exit code and what it said."""
        process = self.start(*arguments, **environment)
        said, _ = process.communicate(timeout=240)
        return process.returncode, said

    @property
    def current(self) -> Path:
        """The current live version."""
        return (self.root / "data/published/live/current").resolve()

    def shown(self, sql: str) -> list[tuple[Any, ...]]:
        """Answers a query over the current live version."""
        with duckdb.connect(str(self.current / "wellspring.duckdb"), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def days(self) -> dict[tuple[str, Any], tuple[int, int]]:
        """What readers see of the days."""
        found = self.shown("select bay, day, passage_count, fees from parking.fct_days")
        return {(bay, day): (count, fees) for bay, day, count, fees in found}

    def truth(self) -> dict[tuple[str, Any], tuple[int, int]]:
        """What they ought to see."""
        found: dict[tuple[str, Any], tuple[int, int]] = {}
        for bay, moment, fee in self.landed.values():
            count, fees = found.get((bay, moment.date()), (0, 0))
            found[bay, moment.date()] = (count + 1, fees + fee)
        return found


def _table(first: int, payloads: list[str]) -> pa.Table:
    number = len(payloads)
    texts = {
        "_sequence": [str(first + place).zfill(20) for place in range(number)],
        "_shard": [""] * number,
        "_topic": ["passages"] * number,
        "_key": [None] * number,
        "_headers": [None] * number,
    }
    columns = {name: pa.array(values, pa.string()) for name, values in texts.items()}
    columns["_published_at"] = pa.array([None] * number, pa.timestamp("us", tz="UTC"))
    columns["payload"] = pa.array(payloads, pa.string())
    columns["original"] = pa.array([None] * number, pa.binary())
    columns["fault"] = pa.array([None] * number, pa.string())
    return pa.table(columns)


def make_livepark(root: Path) -> LivePark:
    """Writes the project to a folder."""
    park = LivePark(root)
    for folder in ("macros", "tests/dbt/generic"):
        shutil.copytree(PROJECT / folder, root / folder)
    shutil.copy(PROJECT / "profiles.yml", root / "profiles.yml")
    for path, text in FILES.items():
        park.write(path, text)
    text = (PROJECT / "dbt_project.yml").read_text(encoding="utf-8")
    text = text[: text.index("      core:\n")] + text[text.index("    # the account of") :]
    text = text.replace("        enforced: true\n", "        enforced: false\n")
    text = text.replace(
        "    # the account of", "      parking: {+schema: parking}\n    # the account of"
    )
    park.write("dbt_project.yml", text)
    return park
