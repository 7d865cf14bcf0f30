"""Sources written in Python, for what a declaration cannot say.

`package.module:function` -> dlt source, resources, or generators -> rows -> Parquet spool -> delta

A resource yields dictionaries, lists of them, Arrow tables or data frames; its name is the table's.
Dictionaries are typed by Arrow, a batch at a time; where batches disagree the wider type wins, text
in the end. Nested values become JSON text. Left out: the resource's own dlt state. What a table's
`cursor` says is handed to the resource's `dlt.sources.incremental` as its start instead.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.database import OnTable, Reading, skipped
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.delta import Delta, Spool
from ingestion.errors import (
    DeclarationError,
    DeclarationFault,
    IngestionError,
    SourceFailed,
    first_line,
    network_fault,
)
from ingestion.landing import column_mapping
from ingestion.periods import Period, midnight
from ingestion.progress import Interrupted, counted, interruption
from ingestion.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)
_BATCH = 20_480
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
# Parameters of a function that can be asked for a period.
_ENDS = ("since", "until")


def read_tables(
    declaration: SourceDeclaration,
    settings: Settings,
    full_refresh: bool,
    on_table: OnTable,
    period: Period | None = None,
) -> None:
    """Calls the declared function and reads its resources, one after the other.

    Args:
        declaration: The source.
        settings: The project's settings; its root is put on Python's path.
        full_refresh: Whether cursors are ignored.
        on_table: See `database.read_tables`.
        period: Read the rows of it: its ends are handed to the function as `since` and `until` if
            it takes both, else to a resource that has a dlt incremental.

    Raises:
        DeclarationError: The function cannot be found or called, or a table has no resource.
        SourceFailed: The function failed.
    """
    takes_period = period is not None and _takes_period(declaration, settings)
    resources = _resources(declaration, settings, period if takes_period else None)
    for table in declaration.tables:
        resource = _resource(declaration, table, resources)

        def read(
            delta: Delta, folder: Path, table: TableDeclaration = table, resource: Any = resource
        ) -> Reading:
            given = (declaration, table, resource, delta, folder)
            if period is None:
                return _read_table(*given, full_refresh)
            return _read_period(*given, period, takes_period)

        on_table(table, read)


def _read_period(
    declaration: SourceDeclaration,
    table: TableDeclaration,
    resource: Any,
    delta: Delta,
    folder: Path,
    period: Period,
    takes_period: bool,
) -> Reading:
    """Reads the rows of a period; all of them, with the first one, where nothing takes it."""
    given = (declaration, table, resource, delta, folder, True)
    if takes_period:
        return _read_table(*given)
    ends = _ends(resource, period) if table.ingest.cursor else None
    if ends is not None:
        return _read_table(*given, ends)
    note = "read whole: the function does not take since and until"
    return replace(_read_table(*given), note=note) if period.is_first else skipped(note)


def _ends(resource: Any, period: Period) -> tuple[Any, Any] | None:
    """Both ends of a period in the form of the resource's dlt incremental; None without one."""
    start = _initial_value(resource)
    if isinstance(start, datetime):
        ends = midnight(period.start), midnight(period.end)
        return (
            ends if start.tzinfo else (ends[0].replace(tzinfo=None), ends[1].replace(tzinfo=None))
        )
    if isinstance(start, date):
        return period.start, period.end
    is_date = isinstance(start, str) and _ISO_DATE.match(start)
    return (str(period.start), str(period.end)) if is_date else None


def _initial_value(resource: Any) -> Any:
    """Where the resource's dlt incremental begins; None if it has none."""
    from dlt.extract.incremental import Incremental
    from dlt.extract.resource import DltResource

    if not isinstance(resource, DltResource) or resource.incremental is None:
        return None
    hint = getattr(resource.incremental, "incremental", None) or resource.incremental
    if isinstance(hint, Incremental):
        return hint.initial_value
    # Until the resource is read, the one of its signature is known to its function only.
    function = resource._pipe.gen
    parameters = inspect.signature(function).parameters.values() if callable(function) else ()
    found = [p.default for p in parameters if isinstance(p.default, Incremental)]
    return found[0].initial_value if found else None


def _takes_period(declaration: SourceDeclaration, settings: Settings) -> bool:
    """Whether the declared function asks for the ends of a period."""
    assert declaration.python is not None
    function = _function(declaration, settings, declaration.python.callable)
    try:
        return set(_ENDS) <= set(inspect.signature(function).parameters)
    except ValueError:
        return False


def _read_table(
    declaration: SourceDeclaration,
    table: TableDeclaration,
    resource: Any,
    delta: Delta,
    folder: Path,
    full_refresh: bool,
    ends: tuple[Any, Any] | None = None,
) -> Reading:
    ingest, where = table.ingest, {"source": declaration.name, "table": table.name}
    mapping = column_mapping([*ingest.primary_key], **where)
    cursor = (
        next(iter(column_mapping([ingest.cursor], **where).values())) if ingest.cursor else None
    )
    start = None if full_refresh or cursor is None else _start(delta, cursor, ingest.window)
    start, end = ends or (start, None)
    writer = _Spooler(folder, where)
    try:
        for item in _items(resource, ingest.cursor, start, end):
            interruption.check()
            writer.add(item)
        writer.close()
    except (IngestionError, Interrupted):
        raise
    except Exception as error:
        raise SourceFailed(
            f"the resource {table.name} failed after {counted(writer.rows, 'row')}: "
            f"{first_line(error)}",
            hint=f"Mend {declaration.python.callable if declaration.python else 'it'}; nothing of "
            "this table was landed.",
            may_pass=network_fault(error),
            **where,
        ) from error
    missing = [name for name in mapping.values() if writer.rows and name not in writer.columns]
    if missing:
        raise _fault(
            declaration,
            table.name,
            "ingest.primary_key",
            missing[0],
            f"a column that the rows have: {', '.join(sorted(writer.columns))}",
        )
    spool = Spool(
        writer.files, list(mapping.values()), cursor if cursor in writer.columns else None
    )
    return Reading(spool, f"read {counted(writer.rows, 'row')} of {table.name}")


def _fault(
    declaration: SourceDeclaration, table: str | None, key: str, found: str, expected: str
) -> DeclarationError:
    return DeclarationError(
        [DeclarationFault(declaration.file, declaration.name, table, key, found, expected)]
    )


def counts(declaration: SourceDeclaration, settings: Settings) -> dict[str, int]:
    """The number of rows that the source says it has now, by table.

    Args:
        declaration: A source that declares `python.count`.
        settings: The project's settings; its root is put on Python's path.

    Raises:
        DeclarationError: The function cannot be found.
        SourceFailed: It failed, or returned something else.
    """
    assert declaration.python is not None
    assert declaration.python.count is not None
    name = declaration.python.count
    function = _function(declaration, settings, name, "count")
    try:
        found = function(**declaration.python.arguments)
        return {str(table): int(count) for table, count in found.items()}
    except IngestionError:
        raise
    except Exception as error:
        raise SourceFailed(
            f"{name} failed: {first_line(error)}",
            source=declaration.name,
            hint="It takes the arguments of the source and returns a number of rows by table.",
        ) from error


def _function(
    declaration: SourceDeclaration, settings: Settings, name: str, key: str = "callable"
) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(":")
    root = str(settings.project_dir)
    if root not in sys.path:
        sys.path.insert(0, root)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        expected = f"a module that can be imported from {root}: {first_line(error)}"
        raise _fault(declaration, None, f"ingest.python.{key}", name, expected) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        expected = f"a function of {module_name}: {', '.join(known) or 'it has none'}"
        raise _fault(declaration, None, f"ingest.python.{key}", name, expected)
    return function  # type: ignore[no-any-return]


def _resources(
    declaration: SourceDeclaration, settings: Settings, period: Period | None = None
) -> dict[str, Any]:
    """The resources by name; under the name "" what has no name, such as a generator."""
    assert declaration.python is not None
    function = _function(declaration, settings, declaration.python.callable)
    arguments: dict[str, Any] = dict(declaration.python.arguments)
    if period is not None:
        ends = midnight(period.start), midnight(period.end)
        arguments |= dict(zip(_ENDS, ends, strict=True))
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        expected = f"arguments of {declaration.python.callable}: {error}"
        raise _fault(
            declaration, None, "ingest.python.arguments", ", ".join(arguments) or "none", expected
        ) from None
    except ValueError:
        logger.debug("%s shows no signature", declaration.python.callable)
    try:
        made = function(**arguments)
    except IngestionError:
        raise
    except Exception as error:
        raise SourceFailed(
            f"{declaration.python.callable} failed: {first_line(error)}",
            source=declaration.name,
            hint="Call it by hand with the same arguments to see where.",
            may_pass=network_fault(error),
        ) from error
    return _named(made)


def _named(made: Any) -> dict[str, Any]:
    from dlt.extract.resource import DltResource
    from dlt.extract.source import DltSource

    if isinstance(made, DltSource):
        return dict(made.resources)
    if isinstance(made, DltResource):
        return {made.name: made}
    if isinstance(made, Mapping):
        return dict(made)
    if isinstance(made, list | tuple) and made and isinstance(made[0], DltResource | DltSource):
        return {name: value for part in made for name, value in _named(part).items()}
    return {"": made}


def _resource(
    declaration: SourceDeclaration, table: TableDeclaration, resources: Mapping[str, Any]
) -> Any:
    if table.name in resources:
        return resources[table.name]
    if set(resources) == {""} and len(declaration.tables) == 1:
        return resources[""]
    known = ", ".join(sorted(filter(None, resources))) or "one without a name"
    raise _fault(
        declaration,
        table.name,
        "name",
        table.name,
        f"the name of a resource of {declaration.python.callable if declaration.python else ''}: "
        f"{known}",
    )


def _items(resource: Any, cursor: str | None, start: Any, end: Any = None) -> Iterator[Any]:
    from dlt.extract.resource import DltResource

    if isinstance(resource, DltResource):
        if cursor and start is not None and resource.incremental is not None:
            import dlt

            incremental = dlt.sources.incremental(cursor, initial_value=start, end_value=end)
            resource.apply_hints(incremental=incremental)
        return iter(resource)
    if callable(resource):
        resource = resource()
    return iter([resource] if _is_arrow(resource) or isinstance(resource, Mapping) else resource)


def _start(delta: Delta, cursor: str, window: timedelta) -> Any:
    """Where to read on, in the type and form in which the resource itself writes the cursor."""
    start = delta.high_water(cursor)
    if window and isinstance(start, date):
        start = start - window
    if isinstance(start, datetime) and delta.landed_columns[cursor] == "VARCHAR":
        # As a text it is compared as a text: "T" between date and time is not " ".
        return start.isoformat("T" if "T" in delta.highest_text(cursor) else " ")
    if isinstance(start, Decimal):
        return int(start) if start == start.to_integral_value() else float(start)
    return start


def _is_arrow(item: Any) -> bool:
    import pyarrow as pa

    return isinstance(item, pa.Table | pa.RecordBatch)


class _Spooler:
    """Writes items to Parquet files, a new one whenever the columns or their types change.

    Attributes:
        files: The files written so far, in order.
        columns: Normalised names of all columns met.
        rows: Number of rows.
    """

    def __init__(self, folder: Path, where: Mapping[str, str]) -> None:
        self._folder = folder
        self._where = where
        self._pending: list[Mapping[str, Any]] = []
        self._writer: Any = None
        self._schema: pa.Schema | None = None
        self.files: list[Path] = []
        self.columns: set[str] = set()
        self.rows = 0

    def add(self, item: Any) -> None:
        """Takes a row, a list of rows, an Arrow table or a data frame."""
        import pyarrow as pa

        if item is None:
            return
        if isinstance(item, Mapping):
            self._pending.append(item)
            if len(self._pending) >= _BATCH:
                self._flush()
        elif isinstance(item, pa.Table | pa.RecordBatch):
            self._flush()
            self._write(
                pa.table(item) if isinstance(item, pa.Table) else pa.Table.from_batches([item])
            )
        elif hasattr(item, "to_arrow"):
            self.add(item.to_arrow())
        elif hasattr(item, "iloc"):
            self.add(pa.Table.from_pandas(item, preserve_index=False))
        elif isinstance(item, Iterable) and not isinstance(item, str | bytes):
            for inner in item:
                self.add(inner)
        else:
            raise TypeError(
                f"a row is expected as a dictionary, an Arrow table or a data frame, not as "
                f"{type(item).__name__}"
            )

    def close(self) -> None:
        """Writes what is left."""
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        rows, self._pending = self._pending, []
        if rows:
            self._write(_table_of(rows))

    def _write(self, table: pa.Table) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        mapping = column_mapping(table.column_names, **self._where)
        table = table.rename_columns([mapping[name] for name in table.column_names])
        # A column of NULLs alone has no type yet; absent means NULL as well.
        table = table.select([f.name for f in table.schema if not pa.types.is_null(f.type)])
        table = _flat(table)
        if not table.num_columns:
            return
        if self._schema is None or not table.schema.equals(self._schema):
            if self._writer is not None:
                self._writer.close()
            self._schema = table.schema
            self.files.append(self._folder / f"rows-{len(self.files):06d}.parquet")
            self._writer = pq.ParquetWriter(self.files[-1], table.schema, compression="lz4")
        self._writer.write_table(table)
        self.columns.update(table.column_names)
        self.rows += table.num_rows


def _table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table; a column whose values have no common type becomes text."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({str(name): _array([row.get(name) for row in rows]) for name in names})


def _array(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    if any(isinstance(value, Mapping | list | tuple | set) for value in values):
        return pa.array([_text(value) for value in values], pa.string())
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([_text(value) for value in values], pa.string())


def _text(value: Any) -> str | None:
    import orjson

    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping | list | tuple | set):
        plain = list(value) if isinstance(value, set | tuple) else value
        return orjson.dumps(plain, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return value.isoformat() if isinstance(value, date) else str(value)


def _flat(table: pa.Table) -> pa.Table:
    """The table with nested columns as JSON text and dictionaries decoded."""
    import pyarrow as pa

    for position, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [_text(value) for value in table.column(position).to_pylist()]
            table = table.set_column(position, field.name, pa.array(texts, pa.string()))
        elif pa.types.is_dictionary(field.type):
            decoded = table.column(position).cast(field.type.value_type)
            table = table.set_column(position, field.name, decoded)
        elif pa.types.is_decimal256(field.type) or pa.types.is_duration(field.type):
            # DuckDB has neither so many digits nor such a type in Parquet.
            texts = [_text(value) for value in table.column(position).to_pylist()]
            table = table.set_column(position, field.name, pa.array(texts, pa.string()))
    return table
