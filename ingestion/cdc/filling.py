"""Large values that an update left alone, taken from the row's former version while loading.

rows of a load, `_unchanged` -> the version before, in the load or in raw -> the same rows, whole

PostgreSQL's log does not tell again a large value that did not change. The version before has it:
in the same load, or the latest in raw; for a row whose key changed, under the former key, which the
mark of deletion just before it states. What is filled in depends on landing alone, so a rebuild
fills in the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ingestion.evolution import converted, literal, quoted
from ingestion.stage import Relation

if TYPE_CHECKING:
    import duckdb

_ROWS = "temp.wellspring_changes"
_OPEN = "temp.wellspring_untold"
_UNTOLD = "_unchanged"


def filled(
    connection: duckdb.DuckDBPyConnection,
    relation: Relation,
    raw: str,
    raw_columns: Mapping[str, str],
    key: Sequence[str],
) -> Relation:
    """A relation whose rows have every value.

    Args:
        connection: The warehouse, in the transaction that loads the relation.
        relation: Rows of a change log, of which nothing is in raw yet.
        raw: The raw table, with all earlier rows.
        raw_columns: Its columns and their types, fit for the relation.
        key: The key's columns.
    """
    if _UNTOLD not in relation.columns or not relation.sql:
        return relation
    names = _untold(connection, relation)
    if not names:
        return relation
    _place_rows(connection, relation, raw_columns, key)
    _find_former(connection)
    filled_ = {name: _fill(connection, name, raw, raw_columns, key) for name in names}
    values = ", ".join(
        f"case when {fill}.place is null then told.{quoted(name)} else {fill}.value end "
        f"as {quoted(name)}"
        for name, fill in filled_.items()
    )
    joins = " ".join(f"left join {fill} on {fill}.place = told.place" for fill in filled_.values())
    return replace(
        relation,
        columns={**relation.columns, **{name: raw_columns[name] for name in names}},
        sql=f"select told.* replace ({values}) from {_ROWS} as told {joins} order by told.place",
    )


def _untold(connection: duckdb.DuckDBPyConnection, relation: Relation) -> list[str]:
    """Columns of which some row lacks the value."""
    found = connection.execute(
        f"select distinct unnest(from_json({_UNTOLD}, '[\"VARCHAR\"]')) from ({relation.sql}) "
        f"where {_UNTOLD} is not null"
    ).fetchall()
    return sorted(name for (name,) in found if name in relation.columns)


def _key_of(
    rows: str, columns: Mapping[str, str], types: Mapping[str, str], key: Sequence[str]
) -> str:
    """The key as one text, the same for rows of a load and of raw."""
    parts = (converted(f"{rows}.{quoted(name)}", columns[name], types[name]) for name in key)
    return "to_json([" + ", ".join(f"({part})::varchar" for part in parts) + "])::varchar"


def _place_rows(
    connection: duckdb.DuckDBPyConnection,
    relation: Relation,
    raw_columns: Mapping[str, str],
    key: Sequence[str],
) -> None:
    """The rows in their order, each with its key and the key that it had before."""
    deleted = "coalesce(told._deleted, false)" if relation.has_deleted else "false"
    order = "_load_id, _row" if relation.has_load else "_row"
    own = _key_of("told", relation.columns, raw_columns, key)
    columns = ", ".join(
        f"{converted(f'told.{quoted(name)}', kind, raw_columns[name])} as {quoted(name)}"
        for name, kind in relation.columns.items()
    )
    others = ["_file", "_row", *(("_load_id", "_extracted_at") if relation.has_load else ())]
    listed = ", ".join([f"told.{name}" for name in others] + [f"{deleted} as _deleted"])
    connection.execute(
        f"""
        create or replace temporary table {_ROWS.removeprefix("temp.")} as
        with placed as (
            select {columns}, {listed}, {own} as own_key,
                row_number() over (order by {order}) as place
            from ({relation.sql}) as told
        )
        select *,
            case
                when not _deleted and _operation = 'update'
                    and lag(_deleted and _operation = 'update')
                        over (order by place)
                then lag(own_key) over (order by place)
                else own_key
            end as former_key
        from placed
        """
    )


def _find_former(connection: duckdb.DuckDBPyConnection) -> None:
    """For each lacking value, the row of this load that has it, or the key to look for in raw."""
    name = _OPEN.removeprefix("temp.")
    connection.execute(
        f"""
        create or replace temporary table {name} as
        with lacking as (
            select place, former_key,
                unnest(from_json({_UNTOLD}, '["VARCHAR"]')) as name
            from {_ROWS}
            where {_UNTOLD} is not null
        ),
        alive as (
            select place as former, own_key from {_ROWS} where not _deleted
        )
        select lacking.name, lacking.place, alive.former, lacking.former_key
        from lacking
        asof left join alive
            on lacking.former_key = alive.own_key and lacking.place > alive.former
        """
    )
    # Each round doubles how far back a row looks.
    while True:
        ((left,),) = connection.execute(
            f"select count(*) from {_OPEN} as later inner join {_OPEN} as earlier "
            "on earlier.name = later.name and earlier.place = later.former"
        ).fetchall()
        if not left:
            return
        connection.execute(
            f"""
            create or replace temporary table {name} as
            select later.name, later.place,
                case when earlier.place is null then later.former else earlier.former end
                    as former,
                case when earlier.place is null then later.former_key else earlier.former_key end
                    as former_key
            from {_OPEN} as later
            left join {_OPEN} as earlier
                on earlier.name = later.name and earlier.place = later.former
            """
        )


def _fill(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    raw: str,
    raw_columns: Mapping[str, str],
    key: Sequence[str],
) -> str:
    """A table of the values of one column by the place of the row that lacks it."""
    table = f"wellspring_fill_{name}"
    own = _key_of("former", raw_columns, raw_columns, key)
    connection.execute(
        f"""
        create or replace temporary table {quoted(table)} as
        with wanted as (select * from {_OPEN} where name = {literal(name)}),
        in_raw as (
            select {own} as own_key,
                max_by(former.{quoted(name)}, (former._load_id, former._row)) as value
            from {raw} as former
            where not former._deleted and former.{quoted(name)} is not null
                and {own} in (select former_key from wanted where former is null)
            group by all
        )
        select wanted.place, coalesce(told.{quoted(name)}, in_raw.value) as value
        from wanted
        left join {_ROWS} as told on told.place = wanted.former
        left join in_raw on wanted.former is null and in_raw.own_key = wanted.former_key
        """
    )
    return f"temp.{quoted(table)}"
