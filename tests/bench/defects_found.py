"""How many of the example company's defects are found, and how many findings are wrong, by kind.

anycompany (a seed, a scale, 3 % defects) -> extract and load, days pass, extract and load, build
-> books.findings against the generator's truth -> recall and precision by kind

    .venv/bin/python tests/bench/defects_found.py [--defects 0.03] [--case SEED:SCALE ...]

The truth tells what lies in the systems now, so findings count here that are of files which still
hold and of rows that were not deleted since. Two kinds are decidable in part only: a row is `late`
where its file's period or an earlier load proves it, and an older version sent again is told from
a copy only if it comes in another file than its twin. `undecidable` counts the others. A total over
an item that is out of bounds itself is not judged, and of a row with a defect of its own the truth
does not say whether what it refers to is valid.
Exit code 1 if recall or precision of any kind is below 0.99 over all cases.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LIMIT = 0.99
CASES = ["11:0.05", "23:0.1", "42:0.2"]

PREPARE = """
create temp table truth as
select distinct
    source, table_name, key, defect, lower(column_name) as column_name, origin, version_at
from read_parquet('{truth}/defects.parquet');

-- files that a later delivery under the same name has replaced do not lie in the system any more
create temp table held as
select file, origin_name
from ledger.files
where status = 'loaded'
qualify
    origin_name is null
    or row_number() over (partition by source, table_name, origin_name order by load_id desc) = 1
    and (
        source <> 'pixelco'
        or load_id = max(load_id) over (partition by source, table_name)
    );

create temp table gone as
{gone};

create temp table found as
select distinct
    findings.source,
    findings.table_name,
    findings.record_key as key,
    findings.defect,
    lower(findings.column_name) as column_name,
    held.origin_name as origin,
    findings._file
from books.findings as findings
left join held on findings._file = held.file
left join gone
    on
        findings.source = gone.source
        and findings.table_name = gone.table_name
        and findings.record_key = gone.key
where
    gone.key is null
    and (findings._file is null or held.file is not null or findings.defect = 'truncated');

-- twins in one file: which of them is the old one cannot be told
update truth
set defect = 'duplicated'
where
    defect = 'outdated'
    and (source, table_name, key, version_at) in (
        select 'marketplace', 'orders', order_id, updated_at
        from raw_marketplace.orders
        group by order_id, updated_at, _file
        having count(*) > 1
    );

delete from truth
where
    defect = 'inconsistent'
    and (source, table_name, key) in (
        select source, table_name, key from truth where defect = 'outlying'
    );

delete from found
where
    defect = 'unresolvable'
    and (source, table_name, key) in (
        select source, table_name, key from truth
        where defect in ('missing', 'mistyped', 'outlying', 'orphaned', 'skewed_clock')
    );

create temp table late_rows as
select 'erp' as source, 'orders' as table_name, order_no as key, origin_name
from raw_erp.orders inner join held on _file = file
where try_strptime(order_date, '%d.%m.%Y') < try_cast(
    regexp_extract(origin_name, 'orders_(\\d{4}-\\d{2})', 1) || '-'
    || coalesce(nullif(regexp_extract(origin_name, 'orders_\\d{4}-\\d{2}-(\\d{2})', 1), ''), '01')
    as date)
union all
select 'marketplace', 'orders', order_id, origin_name
from raw_marketplace.orders inner join held on _file = file
where updated_at < try_cast(regexp_extract(origin_name, 'date=([-0-9]{10})', 1) as date)
union all
select 'distributor', 'orders', id, origin_name
from raw_distributor.orders inner join held on _file = file
where
    try_cast(placed as timestamptz) at time zone 'UTC' < try_strptime(
        regexp_extract(origin_name, '(\\d{4}-W\\d{2})', 1) || '-1', '%G-W%V-%u'
    )
union all
select 'web', 'events', event_id, null
from raw_web.events
where try_cast(sent as timestamp) - try_cast("at" as timestamp) >= interval 1 hour
union all
select 'shop', 'orders', cast(order_id as varchar), null
from raw_shop.orders
where not coalesce(_deleted, false)
qualify epoch(updated_at) < max(epoch(updated_at)) over (
    order by _load_id range between unbounded preceding and current row exclude group
);
"""

JUDGE = """
with

expected as (
    select
        source,
        table_name,
        case
            when defect = 'truncated' then regexp_replace(origin, '!.*', '')
            when defect = 'drifted_schema' then column_name
            else key
        end as key,
        defect
    from truth
    where
        defect <> 'late'
        or (source, table_name, key) in (select source, table_name, key from late_rows)
    group by all
),

told as (
    select
        found.source,
        found.table_name,
        case
            when found.defect = 'truncated' then regexp_replace(files.origin_name, '!.*', '')
            when found.defect = 'drifted_schema' then found.column_name
            else found.key
        end as key,
        found.defect
    from found
    left join ledger.files as files on found._file = files.file
    where
        -- a cut file that was sent again whole is no longer in the system
        found.defect <> 'truncated'
        or (found.source, found.table_name, files.origin_name) in (
            select source, table_name, origin from truth where defect = 'truncated'
        )
        or (files.source, files.table_name, files.origin_name) not in (
            select source, table_name, origin_name from ledger.files
            group by all having count(*) > 1
        )
    group by all
)

select
    coalesce(expected.defect, told.defect) as defect,
    count(expected.defect) as expected,
    count(*) filter (where expected.defect is not null and told.defect is not null) as right_ones,
    count(told.defect) as told
from expected
full outer join told
    on
        expected.source = told.source
        and expected.table_name = told.table_name
        and expected.key = told.key
        and expected.defect = told.defect
group by 1
order by 1
"""

UNDECIDABLE = """
select defect, count(*)
from truth
where
    defect = 'late'
    and (source, table_name, key) not in (select source, table_name, key from late_rows)
group by defect
"""


def make(folder: Path, seed: str, scale: str, defects: str) -> None:
    """Runs the company for eleven days beyond its first state, read three times."""
    environment = os.environ | {
        "WELLSPRING_DATA": str(folder / "data"),
        "DBT_TARGET_PATH": str(folder / "target"),
        "WELLSPRING__COMPANION__COMMAND": (
            f"anycompany serve --scale {scale} --seed {seed} --defects {defects}"
        ),
    }

    def call(*command: str) -> None:
        done = subprocess.run(
            [BIN / command[0], *command[1:]],
            cwd=ROOT, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        # a refused file is one of the defects, and no fault of the run
        if done.returncode not in (0, 6):
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")

    call("wellspring", "extract", "load", "--quiet")
    for days in ("5", "6"):
        call("anycompany", "advance", "--days", days)
        call("wellspring", "extract", "load", "--quiet")
    call("wellspring", "build", "--quiet")


def judge(folder: Path) -> tuple[dict[str, list[int]], int]:
    """Compares findings with the truth.

    Returns:
        By kind the number of expected, rightly told and told defects; and of the undecidable.
    """
    warehouse = folder / "data" / "warehouse" / "wellspring.duckdb"
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        staged = {
            (source, table): keys
            for source, table, keys in (
                ("shop", "orders", "order_id"), ("shop", "order_items", "order_item_id"),
                ("shop", "customers", "customer_id"), ("shop", "addresses", "address_id"),
            )
        }  # fmt: skip
        gone = " union all ".join(
            f"select '{source}' as source, '{table}' as table_name, "
            f"cast({key} as varchar) as key from raw_{source}.{table} "
            f"group by {key} having max_by(coalesce(_deleted, false), _load_id)"
            for (source, table), key in staged.items()
        )
        truth = folder / "data" / "anycompany" / "truth"
        prepare = PREPARE.replace("{truth}", str(truth)).replace("{gone}", gone)
        connection.execute(prepare)
        counts = {kind: list(rest) for kind, *rest in connection.execute(JUDGE).fetchall()}
        undecidable = sum(count for _, count in connection.execute(UNDECIDABLE).fetchall())
    return counts, undecidable


def show(title: str, counts: dict[str, list[int]], undecidable: int) -> bool:
    """Prints a table; returns whether every kind is good enough."""
    print(f"\n{title}  (undecidable: {undecidable} late)")
    print(f"{'kind':<16}{'expected':>10}{'found':>8}{'wrong':>7}{'recall':>9}{'precision':>11}")
    good = True
    for kind in sorted(counts):
        expected, right, told = counts[kind]
        recall = right / expected if expected else 1.0
        precision = right / told if told else 1.0
        good &= recall >= LIMIT and precision >= LIMIT
        figures = f"{expected:>10}{right:>8}{told - right:>7}{recall:>9.4f}{precision:>11.4f}"
        print(f"{kind:<16}{figures}")
    return good


def main() -> int:
    """Runs all cases and prints recall and precision by kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--defects", default="0.03", help="share of rows that are spoilt")
    parser.add_argument("--case", action="append", metavar="SEED:SCALE")
    parser.add_argument("--keep", type=Path, help="keep the data folders below this one")
    arguments = parser.parse_args()
    total: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    skipped = 0
    for case in arguments.case or CASES:
        seed, scale = case.split(":")
        folder = Path(tempfile.mkdtemp(prefix="wellspring-defects-", dir=arguments.keep))
        try:
            make(folder, seed, scale, arguments.defects)
            counts, undecidable = judge(folder)
        finally:
            if arguments.keep is None:
                shutil.rmtree(folder)
        show(f"seed {seed}, scale {scale}, defects {arguments.defects}", counts, undecidable)
        skipped += undecidable
        for kind, figures in counts.items():
            total[kind] = [a + b for a, b in zip(total[kind], figures, strict=True)]
    return 0 if show("all cases", total, skipped) else 1


if __name__ == "__main__":
    sys.exit(main())
