"""Makes clicks by the gigabyte, as the example's web site sends them, and the truth about them.

numbers of events -> visits, times, defects (DuckDB, by hashes) -> <year>/<month>/<day>/<nn>.ndjson.gz
                  `-> truth/<date>.parquet: page views of people that are neither faulty nor repeated

    .venv/bin/python tests/bench/clicks_made.py --into FOLDER --days 3 --megabytes 1000

The fields and the faults are those of `anycompany.systems.web`: events that come up to three days
late, that come twice (in a later file, too), miss their visitor, are misspelt or out of bounds,
browsers whose clocks are wrong, crawlers, a few products that nearly all look at. Numbers do not
repeat over days. The same arguments give the same files. Left out: orders, and truncated lines but
for `--truncated`, which ends each file with one.
"""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb

_LINE_BYTES = 476
_FILE_BYTES = 96 * 2**20
# One in so many.
_LATE, _TWICE, _MISSING, _MISTYPED, _OUTLYING, _SKEWED, _CRAWLERS = (
    250,
    330,
    1000,
    1000,
    1000,
    20,
    80,
)
_CUT_OFF = b'{"event_id": "00", "event": "page_view", "cli\n'

# ruff: noqa: E501 - long lines are SQL
_EVENTS = f"""
with numbered as (
    select
        id,
        is_again,
        id // 8 as visit,
        (hash(id) >> 1)::bigint as a,
        (hash(id, 1) >> 1)::bigint as b,
        (hash(id // 8, 2) >> 1)::bigint as v,
        $begin::timestamp + to_milliseconds((id * $step)::bigint) as received
    from (
        select range as id, false as is_again from range($from, $until)
        union all
        select range, true from range(greatest($from - $behind, 0), greatest($until - $behind, 0))
    )
),
drawn as (
    select
        *,
        if(a % {_LATE} = 7, 3600000 + b % 255600000, 50 + b % 1500) as waited_ms,
        ((hash(v % $visitors) >> 1)::bigint) as visitor,
        v % {_CRAWLERS} = 3 as is_bot,
        to_seconds(if(v % {_SKEWED} = 5, v // 32 % 259200 - 86400, 0))
            + interval 1 microsecond as skew,
        (['page_view', 'page_view', 'page_view', 'view_product', 'page_view', 'add_to_cart',
            'page_view', 'checkout'])[1 + id % 8] as event,
        (['/', '/c/games', null, null, '/search', null, '/cart', '/checkout'])[1 + id % 8] as place,
        -- a few products that nearly all look at
        'AC-' || lpad(floor(500 * power((b % 1000003) / 1000003, 3))::bigint::varchar, 4, '0') as sku
    from numbered
    -- what is sent again comes with what is younger, in a later file or on a later day, too
    where not is_again or a % {_TWICE} = 11
),
told as (
    select
        *,
        received - to_milliseconds(30 + a % 400) as sent_at,
        received - to_milliseconds(waited_ms) as event_at,
        coalesce(place, '/p/' || sku) as path,
        (['US', 'US', 'US', 'CA', 'MX', 'BR', 'GB', 'US'])[1 + visitor % 8] as country,
        (['mobile', 'mobile', 'desktop', 'mobile', 'desktop', 'tablet'])[1 + visitor // 8 % 6] as device,
        (['cable', 'wifi', '4g', '5g', 'wifi', '3g', '4g'])[1 + v // 64 % 7] as connection,
        case when event = 'page_view' and b % 33 > 0 then greatest(60, (
            (900 + 100 * (id % 8)) * (if(v // 64 % 7 = 5, 3, 1) + visitor % 8 * 0.1)
            * exp(0.45 * sqrt(-2 * ln((a // 1024 % 999983 + 1) / 999984.0))
                * cos(2 * pi() * (b // 1024 % 999983) / 999983.0))
        )::bigint) end as load_ms,
        a // 4096 % {_MISSING} = 0 as is_missing,
        a // 4096 % {_MISTYPED} = 1 as is_mistyped,
        a // 4096 % {_OUTLYING} = 2 and event = 'page_view' and b % 33 > 0 as is_outlying
    from drawn
)
"""
_LINES = """
select concat(
    '{"event_id": "', format('{:016x}', hash(id)),
    '", "event": "', if(is_mistyped, 'pagevew', event),
    '", "client": ', if(is_missing, 'null', concat('"c-', format('{:016x}', visitor), '"')),
    ', "visit": ', visit,
    ', "consent": true, "customer": ', if(visitor % 3 = 0, (visitor % 1000000)::varchar, 'null'),
    ', "at": "', replace(left((sent_at - to_milliseconds(waited_ms) + skew)::varchar, 23), ' ', 'T'),
    'Z", "sent": "', replace(left((sent_at + skew)::varchar, 23), ' ', 'T'),
    'Z", "received": "', replace(left((received + interval 1 microsecond)::varchar, 23), ' ', 'T'),
    'Z", "path": "', path,
    '", "product": ', if(path like '/p/%', concat('"', sku, '"'), 'null'),
    ', "order": null, "country": "', country,
    '", "device": "', device,
    '", "connection": "', connection,
    '", "ip": "', visitor % 223 + 1, '.', visitor // 223 % 256, '.', visitor // 65536 % 256,
    '.0", "agent": "', if(
        is_bot, 'Mozilla/5.0 (compatible; ShopCrawlerBot/2.1; +https://crawler.example/bot)',
        'Mozilla/5.0 (Linux; Android 15; Pixel 9) Chrome/138.0 Mobile'
    ),
    '", "load_ms": ', if(
        load_ms is null, 'null', (load_ms + if(is_outlying, 1000000, 0))::varchar
    ), '}', chr(10)
) as line
from told
"""
_TRUTH = """
select
    cast(event_at as date) as view_date, path, country, device, connection, load_ms
from told
where
    event = 'page_view' and not is_again
    and not (is_bot or is_missing or is_mistyped or is_outlying)
"""


@dataclass(frozen=True)
class Made:
    """What was made of one day.

    Attributes:
        files: The files.
        events: Events that happened; some are delivered twice.
        raw_bytes: Bytes of JSON.
        gz_bytes: Bytes of the files.
        seconds: Time taken.
    """

    files: list[Path]
    events: int
    raw_bytes: int
    gz_bytes: int
    seconds: float


def make_day(
    folder: Path, first: date, number: int, megabytes: int, *, truncated: bool = False
) -> Made:
    """Makes the clicks of a day, files of some 96 MB of JSON each, and their truth.

    Args:
        folder: Gets `clicks/<year>/<month>/<day>/*.ndjson.gz` and `truth/<date>.parquet`.
        first: The day with which all begins.
        number: Which day it is, from 0; days that follow repeat some of their forerunner's events.
        megabytes: Size of each day's JSON, in millions of bytes.
        truncated: Whether each file ends with a line that is cut off.
    """
    began = time.monotonic()
    count = megabytes * 1_000_000 // _LINE_BYTES
    day = first + timedelta(days=number)
    place = folder / "clicks" / day.strftime("%Y/%m/%d")
    place.mkdir(parents=True, exist_ok=True)
    truth = folder / "truth" / f"{day.isoformat()}.parquet"
    truth.parent.mkdir(exist_ok=True)
    until = (number + 1) * count
    bounds = [*range(number * count, until, _FILE_BYTES // _LINE_BYTES), until]
    values = {
        "begin": first.isoformat(),
        "step": 86_400_000 / count,
        "visitors": max(1_000, count // 20),
        "behind": min(_FILE_BYTES // _LINE_BYTES // 2, count),
    }
    with duckdb.connect() as connection, ThreadPoolExecutor(2) as pool:
        connection.execute("set threads = 2")

        def make(part: int) -> int:
            limits = {"from": bounds[part], "until": bounds[part + 1]}
            path = place / f"{part:04d}.ndjson.gz"
            return _write(connection.cursor(), values | limits, path, truncated)

        sizes = list(pool.map(make, range(len(bounds) - 1)))
        connection.execute(
            f"copy ({_EVENTS} {_TRUTH}) to '{truth}' (format parquet, compression zstd)",
            values | {"from": bounds[0], "until": until},
        )
    files = sorted(place.glob("*.ndjson.gz"))
    seconds = time.monotonic() - began
    return Made(files, count, sum(sizes), sum(f.stat().st_size for f in files), seconds)


def _write(
    connection: duckdb.DuckDBPyConnection, values: dict[str, Any], path: Path, truncated: bool
) -> int:
    """Writes one file; returns the bytes of JSON in it."""
    reader = connection.execute(_EVENTS + _LINES, values).to_arrow_reader(100_000)
    packer, size = zlib.compressobj(1, zlib.DEFLATED, 31), 0
    with path.open("wb") as target:
        for batch in reader:
            # Texts of a batch lie one after the other, each with its end of line.
            offsets, texts = batch.column(0).buffers()[1:]
            width = 8 if str(batch.column(0).type).startswith("large") else 4
            ends = memoryview(offsets).cast("q" if width == 8 else "i")
            lines = memoryview(texts)[ends[0] : ends[batch.num_rows]]
            size += len(lines)
            target.write(packer.compress(lines))
        if truncated:
            target.write(packer.compress(_CUT_OFF))
        target.write(packer.flush())
    return size


def main() -> int:
    """Makes days of clicks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--into", type=Path, required=True, help="folder for clicks and truth")
    parser.add_argument("--first", type=date.fromisoformat, default=date(2026, 5, 1))
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--megabytes", type=int, default=1_000, help="JSON of each day")
    parser.add_argument("--truncated", action="store_true", help="cut off a line in each file")
    arguments = parser.parse_args()
    for number in range(arguments.days):
        made = make_day(
            arguments.into,
            arguments.first,
            number,
            arguments.megabytes,
            truncated=arguments.truncated,
        )
        speed = made.raw_bytes / 1e6 / made.seconds
        print(
            f"{made.files[0].parent}: {made.events:,} events, {made.raw_bytes / 1e6:,.0f} MB "
            f"({made.gz_bytes / 1e6:,.0f} MB packed), {speed:,.0f} MB/s",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
