"""Clicks from landed files to published page-load marts, beside bare DuckDB, day after day.

clicks_made -> a day's files -> bare DuckDB: one typed table | bare DuckDB: the same rules, repeats,
counts and percentiles | `wellspring run` of the page-load marts -> seconds by step, MB/s of JSON,
memory, disk -> the next day ... -> months against the truth

    .venv/bin/python tests/bench/clicks_day.py [--megabytes 1000] [--days 2] [--truncated]

All read the same files in turns. Of the project, only what the page-load marts are made of is run,
with raw rows kept as Parquet (`raw: parquet`) unless `--raw table`, and with `repeats_within`, as
docs/guides/clicks_scale.md has it for days of this size. Processor time counts beside
the clock, as it does not depend on what else the machine does. Exits 1 if a percentile differs.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import psutil
from clicks_made import Made, make_day

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PARTS = ("models", "macros", "seeds", "tests/dbt", "dbt_project.yml", "profiles.yml")
FIRST = date(2026, 5, 31)
MART = "+rpt_page_load_month_over_month"
# What is made comes again within half a file's events, which are late by up to three days.
REPEATS_WITHIN = "4 days"
# They compare all models of the project, of which only some are made here.
LEFT_OUT = (
    "assert_models_keep_every_row",
    "assert_kept_rows_equal_the_account",
    "assert_quarantine_stays_within_limits",
)
TYPES = {
    "event_id": "varchar", "event": "varchar", "client": "varchar", "visit": "bigint",
    "consent": "boolean", "customer": "bigint", "at": "timestamp", "sent": "timestamp",
    "received": "timestamp", "path": "varchar", "product": "varchar", "order": "varchar",
    "country": "varchar", "device": "varchar", "connection": "varchar", "ip": "varchar",
    "agent": "varchar", "load_ms": "bigint",
}  # fmt: skip
_PAGE = """
case
    when path = '/' then 'home' when path like '/c/%' then 'category'
    when path like '/p/%' then 'product' else substr(path, 2)
end
"""
WRONG = f"""
with views as (
    select
        date_trunc('month', view_date)::date as load_month, {_PAGE} as page_type, country, device,
        connection, load_ms
    from read_parquet('{{truth}}')
),
expected as (
    select load_month, coalesce(page_type, 'all') as page_type, coalesce(country, 'all') as country,
        coalesce(device, 'all') as device, coalesce(connection, 'all') as connection,
        count(*) as view_count, count(load_ms) as measured_count,
        quantile_cont(load_ms::double, [0.5, 0.75, 0.95]) as told
    from views
    group by grouping sets (
        (load_month), (load_month, page_type), (load_month, country), (load_month, device),
        (load_month, connection), (load_month, page_type, country, device, connection)
    )
),
found as (
    select load_month, page_type, country_code as country, device, connection_type as connection,
        view_count, measured_count, [p50_ms, p75_ms, p95_ms] as told
    from web.rpt_page_load_month_over_month
)
select count(*)
from expected
full join found using (load_month, page_type, country, device, connection)
where not coalesce(
    expected.view_count = found.view_count and expected.measured_count = found.measured_count
    and list_max(list_transform(
        list_zip(expected.told, found.told), lambda pair: abs(pair[1] - pair[2])
    )) < 0.001
    or expected.measured_count = 0 and found.measured_count = 0, false
)
"""

# Of the same work what bare DuckDB needs: types, rules, repeats, counts, percentiles.
BARE_MARTS = """
create or replace temporary table read as
select * exclude (received, sent, "at"), received, received - (sent - "at") as event_at,
    contains(lower(agent), 'bot') or contains(lower(agent), 'crawler')
    or contains(lower(agent), 'spider') as is_bot
from read_ndjson({files}, columns = {{{columns}}}, ignore_errors = true)
where event_id <> '' and client <> '' and event is not null and received is not null
    and event in ('page_view', 'view_product', 'add_to_cart', 'checkout', 'purchase')
    and coalesce(regexp_matches(country, '^[A-Z]{{2}}$'), true)
    and coalesce(load_ms between 0 and 120000, true)
    and (received - (sent - "at"))::date between date '2020-01-01' and date '2027-12-31';
create table if not exists staged as from read limit 0;
create or replace temporary table again as
select min(rowid) as first, event_id from read group by event_id having count(*) > 1
union all
select -1, event_id from read semi join staged using (event_id);
create or replace temporary table fresh as
select * from read
where event_id not in (select event_id from again) or rowid in (select first from again)
    and event_id not in (select event_id from again where first < 0);
insert into staged from fresh;
create table if not exists counted (
    day date, page_type text, country text, device text, connection text, load_ms bigint, n bigint
);
insert into counted
select event_at::date, {page}, country, device, connection, load_ms, count(*)
from fresh where event = 'page_view' and not is_bot group by all;
create or replace temporary table summed as
select date_trunc('month', day) as month, page_type, country, device, connection, load_ms,
    sum(n) as n
from counted group by all;
create or replace table percentiles as
with asked as (
    select month, page_type, country, device, connection, load_ms, sum(n) as n
    from summed
    where load_ms is not null
    group by grouping sets (
        (month, load_ms), (month, page_type, load_ms), (month, country, load_ms),
        (month, device, load_ms), (month, connection, load_ms),
        (month, page_type, country, device, connection, load_ms)
    )
),
reached as (
    select *,
        sum(n) over (
            partition by month, page_type, country, device, connection order by load_ms
        ) as reached,
        sum(n) over (partition by month, page_type, country, device, connection) as total
    from asked
)
select month, page_type, country, device, connection,
    min(load_ms) filter (reached > 0.5 * (total - 1)) as p50,
    min(load_ms) filter (reached > 0.75 * (total - 1)) as p75,
    min(load_ms) filter (reached > 0.95 * (total - 1)) as p95
from reached group by all
"""


@dataclass
class Spent:
    """What a process took, with all that it started.

    Attributes:
        seconds: By the clock.
        processor: Seconds of processor time.
        peak: Most bytes in memory.
    """

    seconds: float
    processor: float
    peak: int


def spend(arguments: list[str], environment: dict[str, str], folder: Path) -> Spent:
    """Runs a command.

    Raises:
        SystemExit: It failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    process = subprocess.Popen(
        arguments,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peaks = [0]

    def watch() -> None:
        while process.poll() is None:
            try:
                root = psutil.Process(process.pid)
                family = [root, *root.children(recursive=True)]
                peaks[0] = max(peaks[0], sum(one.memory_info().rss for one in family))
            except psutil.Error:
                continue
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    said, _ = process.communicate()
    watcher.join()
    if process.returncode != 0:
        raise SystemExit(f"{arguments} ended with {process.returncode}:\n{said}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(time.monotonic() - began, processor, peaks[0])


def bare(folder: Path, made: Made) -> Spent:
    """The same files into a typed table, by DuckDB alone in a process of its own."""
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in TYPES.items())
    files = [str(path) for path in made.files]
    code = (
        f"import duckdb; c = duckdb.connect({str(folder / 'bare.duckdb')!r}); "
        "c.execute('set preserve_insertion_order = false'); "
        f'c.execute("create or replace table clicks as from read_ndjson({files}, '
        f'columns = {{{columns}}}, ignore_errors = true)")'
    )
    return spend([sys.executable, "-c", code], dict(os.environ), folder)


def bare_marts(folder: Path, files: Sequence[Path]) -> Spent:
    """The same questions by DuckDB alone: no landing, ledger, quarantine, tests, published version.

    Rows that break a rule go, of a key the first stays, counts by millisecond are added to, and
    percentiles are taken of them, in a database that holds the former days.
    """
    database = folder / "bare_marts.duckdb"
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in TYPES.items())
    listed = [str(path) for path in files]
    script = BARE_MARTS.format(files=listed, columns=columns, page=_PAGE)
    code = (
        f"import duckdb; c = duckdb.connect({str(database)!r}); "
        "c.execute('set preserve_insertion_order = false'); "
        f"c.execute({script!r})"
    )
    return spend([sys.executable, "-c", code], dict(os.environ), folder)


def size_of(place: Path) -> int:
    """Bytes below a place."""
    if place.is_file():
        return place.stat().st_size
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


class Trial:
    """The project over clicks that were made.

    Args:
        folder: An empty folder.
        raw: What `raw` is declared as.
    """

    def __init__(self, folder: Path, raw: str) -> None:
        self.folder, self.project, self.data = folder, folder / "project", folder / "data"
        for part in PARTS:
            target = self.project / part
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, target)
        (folder / "clicks").mkdir(exist_ok=True)
        (self.project / "wellspring.toml").write_text("", encoding="utf-8")
        declared = self.project / "models/staging/web/_web__sources.yml"
        text = declared.read_text(encoding="utf-8")
        place = "          format: ndjson\n"
        declared.write_text(text.replace(place, f"{place}          raw: {raw}\n"), encoding="utf-8")
        staged = self.project / "models/staging/web/stg_web__events.yml"
        text = staged.read_text(encoding="utf-8")
        place = "          event_time: event_at\n"
        told = f"{place}          repeats_within: {REPEATS_WITHIN}\n"
        staged.write_text(text.replace(place, told), encoding="utf-8")
        self._environment = os.environ | {
            "WELLSPRING_DATA": str(self.data),
            "CONNECTIONS__WEB__URL": str(folder / "clicks"),
        }

    def run(self) -> Spent:
        """A run of what the page-load marts are made of."""
        command = [str(BIN / "wellspring"), "run", "--select", MART, "--exclude", *LEFT_OUT]
        return spend(command, self._environment, self.project)

    def steps(self) -> dict[str, float]:
        """Seconds of each step of the last run."""
        with closing(sqlite3.connect(self.data / "state" / "history.sqlite")) as history:
            found = history.execute(
                "select step, sum(seconds) from steps "
                "where run_id = (select max(run_id) from steps) "
                "group by step order by min(position)"
            ).fetchall()
        return {str(step): float(seconds or 0) for step, seconds in found}

    def wrong(self) -> int:
        """Rows of the published mart that differ from the truth."""
        version = (self.data / "published" / "current").resolve() / "wellspring.duckdb"
        with duckdb.connect(str(version), read_only=True) as connection:
            query = WRONG.format(truth=self.folder / "truth" / "*.parquet")
            return int(connection.execute(query).fetchall()[0][0])


def main() -> int:
    """Lets days arrive, measures, compares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=1_000, help="JSON of a day")
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--raw", choices=["parquet", "table"], default="parquet")
    parser.add_argument("--truncated", action="store_true", help="cut off a line in each file")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one by default")
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="wellspring-clicks-", dir=arguments.folder))
    wrong = 0
    try:
        trial = Trial(scratch, arguments.raw)
        idle = None
        for number in range(arguments.days):
            made = make_day(
                scratch, FIRST, number, arguments.megabytes, truncated=arguments.truncated
            )
            alone = {
                "bare, a table": bare(scratch, made),
                "bare, marts": bare_marts(scratch, made.files),
            }
            tell_day(trial, made, alone, trial.run(), idle)
            wrong = trial.wrong()
            print(f"  rows of the mart that differ from the truth: {wrong}", flush=True)
            if wrong:
                break
            if idle is None:
                idle = trial.run()
                spent = f"{idle.seconds:.1f} s, {idle.processor:.1f} s of processor"
                print(f"again with nothing new: {spent}", flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 1 if wrong else 0


def tell_day(
    trial: Trial, made: Made, alone: dict[str, Spent], ours: Spent, idle: Spent | None
) -> None:
    """Prints what a day took."""
    size = made.raw_bytes / 1e6
    print(f"{made.events:,} events, {size:,.0f} MB of JSON, {made.gz_bytes / 1e6:,.0f} MB packed")
    for name, spent in {**alone, "wellspring": ours}.items():
        print(
            f"  {name:<14}{spent.seconds:8.1f} s {size / spent.seconds:7.1f} MB/s "
            f"{spent.processor / size * 1e3:7.1f} s of processor a GB, {spent.peak / 1e6:7,.0f} MB"
        )
    for name, spent in alone.items():
        print(
            f"  ratio to {name}: {spent.seconds / ours.seconds:.2f} by the clock, "
            f"{spent.processor / ours.processor:.2f} by processor"
        )
    if idle is not None:
        seconds, net = ours.seconds - idle.seconds, ours.processor - idle.processor
        marts = alone["bare, marts"]
        print(
            f"  without what a run with nothing new takes: {size / seconds:.1f} MB/s, "
            f"{net / size * 1e3:.1f} s of processor a GB; ratio to bare, marts: "
            f"{marts.seconds / seconds:.2f} by the clock, {marts.processor / net:.2f} by processor"
        )
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in trial.steps().items())
    print(f"  seconds by step: {steps}")
    places = ("landing", "raw", "warehouse", "published")
    disk = ", ".join(f"{place} {size_of(trial.data / place) / 1e6:,.0f}" for place in places)
    print(f"  MB on disk: {disk}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
