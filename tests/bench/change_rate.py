"""How fast changes are landed, loaded and made history, beside a loop that only receives them.

A PostgreSQL makes changes in transactions of 20 rows (2 of 10 inserts, 7 updates, 1 delete); two
slots keep the same log. One is read by a bare loop that throws every message away, the other one by
the lander; then the loads go into raw and a history (type 2) is made of them. Every row is counted.

    python tests/bench/change_rate.py [changes]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "python" / "ingestion"))

import psycopg  # by the line above
from cdc_kit import change_source, logical_server  # the same

from ingestion.cdc.lander import ChangeLander  # the same
from ingestion.cdc.replication import Replication  # the same
from ingestion.load import load  # the same
from ingestion.settings import Settings  # the same
from ingestion.warehouse import connect  # the same

SOURCE = change_source({"orders": {"primary_key": ["id"]}})
TABLE = (
    "create table orders (id bigint primary key, customer text, status text, amount numeric(12, 2),"
    " note text, created_at timestamptz, updated_at timestamptz)"
)
HISTORY = """
create or replace table history as
select
    id, customer, status, amount, _committed_at as valid_from,
    lead(_committed_at) over oldest_first as valid_to, _deleted
from raw_src.orders
window oldest_first as (partition by id order by _load_id, _row)
"""


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def make_changes(url: str, changes: int) -> None:
    """Changes the table in many small transactions, made by the server itself."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            """
            create or replace procedure work(rounds int) language plpgsql as $$
            begin
                for round in 1..rounds loop
                    insert into orders
                    select round * 4 + n, 'customer ' || n, 'new', n * 1.25, repeat('x', 40),
                        now(), now() from generate_series(0, 3) n;
                    update orders set status = 'paid', amount = amount + 1, updated_at = now()
                    where id between round * 4 - 10 and round * 4 + 3;
                    delete from orders where id in (round * 4 - 19, round * 4 - 17);
                    commit;
                end loop;
            end $$
            """
        )
        connection.execute(f"call work({changes // 20})")


def receive_all(url: str, until: int) -> int:
    """Receives the log and throws it away; returns the number of messages."""
    messages = 0
    with Replication(url) as replication:
        replication.start("bare", "wellspring_src", 0)
        while replication.seen < until:
            found = [data for data in replication.receive(0.05) if data]
            messages += len(found)
            if not found:
                replication.confirm(replication.seen, replication.seen, ask=True)
    return messages


def main() -> None:
    """Prints the figures."""
    changes = int(sys.argv[1]) if len(sys.argv) > 1 else 400_000
    with tempfile.TemporaryDirectory() as name, logical_server(Path(name) / "pg") as server:
        url, folder = server.get_uri(), Path(name)
        os.environ["CONNECTIONS__SRC__URL"] = url
        settings = Settings(project_dir=folder, data_dir=folder / "data")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(TABLE)
            ChangeLander(SOURCE, settings).catch_up()
            connection.execute("select pg_create_logical_replication_slot('bare', 'pgoutput')")
            made = timed(lambda: make_changes(url, changes))
            row = connection.execute("select pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
            assert row is not None
            until = int(row[0])
            print(f"the source made about {changes:,} changes in {made:.1f} s")
            # The server reads its log from the disk's cache for both.
            bare = timed(lambda: receive_all(url, until))
            lander = ChangeLander(SOURCE, settings)
            land = timed(lander.catch_up)
            rows = lander.landed["orders"].rows
            into_raw = timed(lambda: load([SOURCE], settings))
            with connect(settings) as warehouse:
                history = timed(lambda: warehouse.execute(HISTORY))
                ((loaded, versions),) = warehouse.execute(
                    "select (select count(*) from raw_src.orders), (select count(*) from history)"
                ).fetchall()
                ((alive,),) = warehouse.execute(
                    "select count(*) from history where valid_to is null and not _deleted"
                ).fetchall()
            there = connection.execute("select count(*) from orders").fetchone()
        assert loaded == versions == rows, (loaded, versions, rows)
        assert there == (alive,), (there, alive)
    total = land + into_raw + history
    for what, seconds in (
        ("bare loop, nothing kept", bare),
        ("landed", land),
        ("loaded into raw", into_raw),
        ("made history", history),
        ("landed, loaded and made history", total),
    ):
        print(f"{what:32} {seconds:7.2f} s {rows / seconds:12,.0f} changes/s")
    print(f"landing is {land / bare:.1f} times the bare loop, all of it {total / bare:.1f} times")


if __name__ == "__main__":
    main()
