"""A small project that lives on streams: a tramway whose ticket readers send scans.

NATS server of its own -> `Tramway` -> scans of two lines, a table of two streams -> staging -> mart

Nothing in it knows the example company. `scan_id` grows by one, so that what was produced, landed
and loaded can be compared number by number.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import warm

INGESTION_TESTS = Path(__file__).resolve().parents[1] / "ingestion"
sys.path.append(str(INGESTION_TESTS))

from nats_kit import NatsServer, as_json  # noqa: E402  # found by the line above

FILES = {
    "dbt_project.yml": """
        name: tramway
        version: "1.0.0"
        profile: tramway
        flags: {send_anonymous_usage_stats: false}
        model-paths: [models]
        models:
          tramway:
            staging: {+schema: staging, +materialized: view}
            marts: {+schema: traffic, +materialized: table}
        """,
    "profiles.yml": """
        tramway:
          target: duckdb
          outputs:
            duckdb:
              type: duckdb
              path: "{{ env_var('WELLSPRING_DATA', 'data') }}/warehouse/wellspring.duckdb"
              threads: 1
        """,
    "wellspring.toml": "",
    "macros/generate_schema_name.sql": """
        {% macro generate_schema_name(custom_schema_name, node) -%}
            {{ custom_schema_name or target.schema }}
        {%- endmacro %}
        """,
    "models/staging/trams/_trams__sources.yml": """
        sources:
          - name: trams
            schema: raw_trams
            description: What ticket readers of the trams send.
            config:
              meta:
                ingest: {kind: stream, connection: trams}
            tables:
              - name: scans
                description: One row per scan of a ticket.
                columns:
                  - {name: scan_id, data_type: string}
                  - {name: line, data_type: string}
                  - {name: fare, data_type: string}
                config:
                  meta:
                    ingest:
                      stream: {from: SCANS, flush: {seconds: 0.2}}
              - name: doors
                description: One row per opening of a door.
                columns: [{name: door, data_type: string}]
                config:
                  meta:
                    ingest:
                      stream: {from: DOORS, flush: {seconds: 0.2}}
        """,
    "models/staging/trams/stg_trams__scans.sql": """
        select scan_id::bigint as scan_id, line, fare::decimal(8, 2) as fare
        from {{ source('trams', 'scans') }}
        """,
    "models/marts/fct_scans.sql": """
        select line, count(*) as scan_count, sum(fare) as fare
        from {{ ref('stg_trams__scans') }} group by line
        """,
    "models/marts/fct_scans.yml": """
        models:
          - name: fct_scans
            description: One row per line.
            access: public
            columns:
              - name: line
                description: Name of the line.
                data_tests: [unique, not_null]
        """,
}


@dataclass
class Tramway:
    """The project and its server.

    Attributes:
        root: The project's folder.
        server: Where the scans are sent to.
    """

    root: Path
    server: NatsServer
    sent: int = 0
    landers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        return {
            **kept,
            "CONNECTIONS__TRAMS__URL": self.server.url,
            "WELLSPRING_DATA": str(self.data),
            "WELLSPRING__LIMITS__MIN_FREE": "0",
        }

    def write(self, path: str, text: str) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(dedent(text).lstrip("\n"), encoding="utf-8")

    def scan(self, number: int, wait: bool = True) -> None:
        """So many tickets are scanned."""
        self.server.send(self._scans(number), "SCANS" if wait else "")

    def _scans(self, number: int) -> Iterable[tuple[str, bytes]]:
        for _ in range(number):
            self.sent += 1
            line = "green" if self.sent % 3 else "blue"
            yield f"scans.{line}", as_json(scan_id=self.sent, line=line, fare=2.1)

    def start_lander(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """`wellspring land` in a process of its own."""
        log = (self.root / "land.log").open("ab")
        process = warm.Popen(
            ["-m", "runner", "land", *arguments],
            cwd=self.root,
            env={**self.environment, **environment},
            stdout=log,
            stderr=log,
        )
        self.landers.append(process)
        return process

    def close(self) -> None:
        for process in self.landers:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.server.kill()

    def landed(self, table: str = "scans") -> int:
        """Messages in landing, by the footers of its files."""
        import pyarrow.parquet as pq

        folder = self.data / "landing" / "trams" / table
        return sum(pq.read_metadata(path).num_rows for path in folder.rglob("*.parquet"))

    def wait_for_landed(self, number: int, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while (found := self.landed()) < number:
            log = self.root / "land.log"
            told = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            assert time.monotonic() < deadline, f"{found} of {number} landed\n{told}"
            time.sleep(0.05)


def make_tramway(root: Path) -> Tramway:
    """Writes the project and starts its server."""
    tramway = Tramway(root, NatsServer(root / "nats").start())
    for path, text in FILES.items():
        tramway.write(path, text)
    tramway.server.make_stream("SCANS", ["scans.>"])
    tramway.server.make_stream("DOORS", ["doors.>"])
    return tramway
