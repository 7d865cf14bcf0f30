"""Made-up line items in the shape of TPC-H's: sixteen columns of the usual types, always the same.

rows -> DuckDB's `range` and `hash`, no random numbers -> Parquet, CSV, NDJSON or a table

The shape is TPC-H's and the values are not: its generator is an extension that has to be fetched.
An order has four items; texts repeat about as much as in TPC-H.
"""

from __future__ import annotations

from pathlib import Path

# Column -> type. A checksum reads every column as this type, so that texts equal what they spell.
COLUMNS = {
    "l_orderkey": "bigint",
    "l_partkey": "bigint",
    "l_suppkey": "bigint",
    "l_linenumber": "bigint",
    "l_quantity": "decimal(15, 2)",
    "l_extendedprice": "decimal(15, 2)",
    "l_discount": "decimal(15, 2)",
    "l_tax": "decimal(15, 2)",
    "l_returnflag": "varchar",
    "l_linestatus": "varchar",
    "l_shipdate": "date",
    "l_commitdate": "date",
    "l_receiptdate": "date",
    "l_shipinstruct": "varchar",
    "l_shipmode": "varchar",
    "l_comment": "varchar",
}
_WORDS = (
    "['carefully', 'final', 'deposits', 'sleep', 'furiously', 'above', 'the', 'quick', 'pending', "
    "'requests', 'boost', 'blithely', 'ironic', 'accounts', 'across', 'even']"
)


def select(rows: int, first: int = 0) -> str:
    """A query for rows with the numbers from `first` on."""
    return f"""
        select
            (i // 4 + 1)::bigint as l_orderkey,
            (h % 200000 + 1)::bigint as l_partkey,
            (h // 7 % 10000 + 1)::bigint as l_suppkey,
            (i % 4 + 1)::bigint as l_linenumber,
            (h // 11 % 50 + 1)::decimal(15, 2) as l_quantity,
            ((h // 13 % 9500000 + 90000) / 100)::decimal(15, 2) as l_extendedprice,
            (h // 17 % 11 / 100)::decimal(15, 2) as l_discount,
            (h // 19 % 9 / 100)::decimal(15, 2) as l_tax,
            ['A', 'N', 'R'][(h // 23 % 3 + 1)::bigint] as l_returnflag,
            ['F', 'O'][(h // 29 % 2 + 1)::bigint] as l_linestatus,
            date '1992-01-02' + (h // 31 % 2500)::integer as l_shipdate,
            date '1992-01-31' + (h // 37 % 2500)::integer as l_commitdate,
            date '1992-01-04' + (h // 41 % 2500)::integer as l_receiptdate,
            ['DELIVER IN PERSON', 'COLLECT COD', 'NONE', 'TAKE BACK RETURN'][
                (h // 43 % 4 + 1)::bigint
            ] as l_shipinstruct,
            ['AIR', 'FOB', 'MAIL', 'RAIL', 'REG AIR', 'SHIP', 'TRUCK'][
                (h // 47 % 7 + 1)::bigint
            ] as l_shipmode,
            words[(h // 53 % 16 + 1)::bigint] || ' ' || words[(h // 59 % 16 + 1)::bigint] || ' '
                || words[(h // 61 % 16 + 1)::bigint] || ' ' || (h // 67 % 1000)::varchar
                as l_comment
        from (
            select range as i, hash(range) as h, {_WORDS} as words
            from range({first}, {first + rows})
        )
    """


def write(path: Path, rows: int, first: int = 0) -> None:
    """Writes rows to a file, as its ending says: .parquet, .csv or .ndjson (nested by order)."""
    import duckdb

    kind = path.suffix
    query = select(rows, first)
    if kind == ".ndjson":
        query = f"""
            select
                l_orderkey as order_id,
                {{'part': any_value(l_partkey), 'supplier': any_value(l_suppkey)}} as first_item,
                list({{
                    'line': l_linenumber, 'quantity': l_quantity, 'price': l_extendedprice,
                    'shipped': l_shipdate, 'mode': l_shipmode, 'comment': l_comment
                }} order by l_linenumber) as items
            from ({query}) group by l_orderkey order by l_orderkey
        """
    form = {".parquet": "parquet", ".csv": "csv, header", ".ndjson": "json"}[kind]
    with duckdb.connect() as connection:
        connection.execute("set memory_limit = '4GB'")
        connection.execute("set temp_directory = ?", [str(path.parent)])
        connection.execute(f"copy ({query}) to '{path}' (format {form})")


def checksum(database: Path, table: str) -> tuple[int, str]:
    """Rows of a table of line items, and a checksum that is the same for the same rows.

    Two keys and the price are summed over all rows, all sixteen columns are hashed of each eighth
    order.
    """
    import duckdb

    typed = ", ".join(f"{name}::{kind} as {name}" for name, kind in COLUMNS.items())
    with duckdb.connect(str(database), read_only=True) as connection:
        found = connection.execute(
            f"""
            with typed as (select {typed} from {table})
            select
                count(*), sum(l_orderkey * 8 + l_linenumber), sum(l_extendedprice),
                sum(hash({", ".join(COLUMNS)}) % 1000000007) filter (l_orderkey % 8 = 0)
            from typed
            """
        ).fetchone()
    assert found is not None
    return found[0], "-".join(str(value) for value in found[1:])
