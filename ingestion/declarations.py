"""What the dbt source YAML says about a source, checked and typed (D1: declare once).

dbt manifest -> `sources` with `config.meta.ingest` -> pydantic models -> `SourceDeclaration`

The source's `ingest` names kind and connection; its further keys are defaults for its tables. All
faults of all files are collected and raised at once, each with its place and what was expected.
Sources without `ingest` are not ours. Left out: whether the source really has these tables.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from ingestion.errors import DeclarationError, DeclarationFault
from ingestion.rest.declared import (
    AUTHS,
    PAGINATORS,
    RestEndpoint,
    RestSource,
    faults_of,
    source_faults,
)
from ingestion.strict import Names, Span, Strict, Text, names

_NAME = re.compile(r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")
Raw = Literal["auto", "table", "parquet"]
_NAME_EXPECTED = "lower case letters, digits and single underscores, beginning with a letter"
METADATA_COLUMNS = ("_file", "_row", "_load_id", "_extracted_at", "_deleted")


def _encoding(value: Any) -> Any:
    import codecs

    if isinstance(value, str):
        try:
            codecs.lookup(value)
        except LookupError:
            raise PydanticCustomError(
                "encoding", "the name of an encoding such as utf-8, cp1252 or utf-16"
            ) from None
    return value


class TableIngest(Strict):
    """Keys that every kind of table knows.

    Attributes:
        primary_key: Columns that identify a row in the source.
        cursor: Column that grows with every new or changed row.
        window: How far before the last cursor value to read again, for rows that arrive late.
        deletes: `sweep` compares the keys of the source with those landed (database only).
        contract: `freeze` refuses what would change the columns of the raw table; `quarantine`
            keeps aside the rows that do not fit them.
        on_refused: Whether a file or table that is refused fails the run, or only warns.
        raw: Whether raw rows are a `table`, or stay as Parquet files beside the warehouse and the
            raw table is a view (`parquet`); `auto` keeps as files what is large.
    """

    primary_key: Names = []
    cursor: Text | None = None
    window: Span = timedelta(0)
    deletes: Literal["none", "sweep"] = "none"
    contract: Literal["evolve", "freeze", "quarantine"] = "evolve"
    on_refused: Literal["fail", "warn"] = "fail"
    raw: Raw = "auto"


class DatabaseTable(TableIngest):
    """A table or view of a database.

    Attributes:
        schema_name: Schema of the origin (`schema`); the connection's default if absent.
        origin: Name of the origin (`from`) where it is not the declared name.
        columns: Only these columns are read; all if empty.
        exclude_columns: These columns are not read.
    """

    schema_name: Text | None = Field(default=None, alias="schema")
    origin: Text | None = Field(default=None, alias="from")
    columns: Names = []
    exclude_columns: Names = []


class CsvOptions(Strict):
    """The dialect of CSV files; nothing of it is guessed.

    Attributes:
        delimiter: One character between fields.
        quote: One character around fields; an empty text for none.
        escape: Character that escapes a quote inside a quoted field; the quote itself by default.
        header: Whether the first record names the columns.
        skip_lines: Lines before the header (or the first record) that are not read.
        null_values: Texts that stand for NULL, quoted or not; the empty text by default.
        comment: A line that begins with this character is not read.
        columns: Names of the columns; needed without a header, overrides it otherwise.
    """

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    quote: Annotated[str, Field(max_length=1)] = '"'
    escape: Annotated[str, Field(max_length=1)] | None = None
    header: bool = True
    skip_lines: Annotated[int, Field(ge=0)] = 0
    null_values: Annotated[list[str], BeforeValidator(names)] = [""]
    comment: Annotated[str, Field(max_length=1)] | None = None
    columns: Names = []


class XmlOptions(Strict):
    """How records stand in an XML document.

    Attributes:
        record: Tag of the element that makes one row.
    """

    record: Text


class ExcelOptions(Strict):
    """Which cells of a workbook are the table.

    Attributes:
        sheet: Name of the sheet; the first one if absent.
        header_row: 1-based number of the row that names the columns.
    """

    sheet: Text | None = None
    header_row: Annotated[int, Field(ge=1)] = 1


class Retention(Strict):
    """How long rows of events are kept.

    Attributes:
        days: Files that landed longer ago leave landing and raw when `wellspring prune` is called.
    """

    days: Annotated[int, Field(ge=1)]


Format = Literal["csv", "json", "ndjson", "xml", "parquet", "excel", "text", "mail", "avro"]


class FilesTable(TableIngest):
    """A table that arrives as files.

    Attributes:
        path: Glob below the connection's URL.
        format: Format of the files; taken from the suffix if absent.
        csv: Dialect of CSV files.
        encodings: Encodings of text files; the first that decodes a file strictly is taken.
        encoding_errors: What to do with CSV, NDJSON and text that no encoding decodes: `refuse` it,
            or `reject` the records with faulty bytes and read the rest by the first encoding.
        records: Dotted path of keys to the array of records in a JSON document.
        xml: How records stand in an XML document.
        excel: Which cells of a workbook are the table.
        retention: How long its rows are kept, where they are events that are never changed.
        watch: Whether `wellspring land` extracts its files soon after they arrive.
    """

    watch: bool = False
    path: Text
    format: Format | None = None
    csv: CsvOptions = CsvOptions()
    encodings: Annotated[
        list[Annotated[str, BeforeValidator(_encoding)]],
        BeforeValidator(names),
        Field(min_length=1),
    ] = ["utf-8"]
    encoding_errors: Literal["refuse", "reject"] = "refuse"
    records: Text | None = None
    xml: XmlOptions | None = None
    excel: ExcelOptions = ExcelOptions()
    retention: Retention | None = None


class RestTable(TableIngest):
    """A table that an API delivers.

    Attributes:
        rest: Where the API keeps it.
    """

    rest: RestEndpoint


class PythonSource(Strict):
    """A dlt source written in Python, for what a declaration cannot say.

    Attributes:
        callable: `package.module:function` that returns a dlt source, resource or list of these.
        arguments: Keyword arguments of that function.
        count: `package.module:function` that takes the same arguments and returns the number of
            rows that the source has now, by table.
    """

    callable: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    count: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    arguments: dict[str, Any] = {}


class PythonTable(TableIngest):
    """A table that a Python source delivers under the same name."""


class Flush(Strict):
    """When a lander closes a file: as soon as one of these is reached.

    Attributes:
        rows: Messages in a file.
        seconds: Age of its oldest message.
        megabytes: Bytes of its messages, in millions.
    """

    rows: Annotated[int, Field(ge=1)] = 100_000
    seconds: Annotated[float, Field(gt=0, strict=False)] = 1.0
    megabytes: Annotated[float, Field(gt=0, strict=False)] = 64.0


class StreamEndpoint(Strict):
    """Which messages make a table. The connection's address says which system delivers them.

    Attributes:
        origin: Name of the stream (`from`): JetStream and Kinesis stream, Redis key, Kafka topic,
            MQTT topic filter, path that takes HTTP POSTs.
        subjects: JetStream: only messages of these subjects, all if empty; MQTT: further filters.
        format: What a message holds: one JSON object, one Avro record, one CSV record, or text.
        avro_schema: Avro: file of the schema, below the project; with `{id}` in its name if the
            schema's number stands before each record; none if each message is an Avro file.
        csv: Dialect and `columns` of CSV messages.
        start: Where the very first landing begins: `earliest`, `latest`, or a time (ISO 8601).
        identity: Fields that a message keeps when its sender or broker sends it again.
        flush: When a file is closed.
    """

    origin: Text = Field(alias="from")
    subjects: Names = []
    format: Literal["json", "avro", "csv", "text"] = "json"
    avro_schema: Text | None = None
    csv: CsvOptions = CsvOptions()
    start: Text = "earliest"
    identity: Names = []
    flush: Flush = Flush()


class StreamTable(TableIngest):
    """A table whose rows arrive as messages, one a row.

    Attributes:
        stream: Which messages these are.
        raw: Never files: they would be thousands.
    """

    raw: Literal["auto", "table"] = "auto"
    stream: StreamEndpoint


class CdcSource(Strict):
    """How the change log of a database is read.

    Attributes:
        publication: PostgreSQL's publication; `wellspring_<source>` if absent.
        slot: PostgreSQL's replication slot; `wellspring_<source>` if absent.
        create: Whether Wellspring may create both.
        flush: When what has been committed is landed.
    """

    publication: Text | None = None
    slot: Text | None = None
    create: bool = True
    flush: Flush = Flush()


class CdcTable(DatabaseTable):
    """A table of a database that is read from its change log, after one snapshot.

    Attributes:
        raw: Never files: they would be thousands, and changes are completed by what raw has.
    """

    raw: Literal["auto", "table"] = "auto"


Kind = Literal["database", "rest", "files", "python", "stream", "cdc"]
_TABLE_MODELS: dict[str, type[TableIngest]] = {
    "database": DatabaseTable,
    "rest": RestTable,
    "files": FilesTable,
    "python": PythonTable,
    "stream": StreamTable,
    "cdc": CdcTable,
}
_SOURCE_MODELS: dict[str, type[Strict]] = {
    "rest": RestSource,
    "python": PythonSource,
    "cdc": CdcSource,
}


@dataclass(frozen=True)
class DeclaredColumn:
    """A column that the YAML describes.

    Attributes:
        name: Its name in raw.
        data_type: Its SQL type, or None if the YAML does not say.
        is_gone: Whether its `gone_since` says that the source has it no more.
    """

    name: str
    data_type: str | None
    is_gone: bool = False


@dataclass(frozen=True)
class TableDeclaration:
    """One table of a source.

    Attributes:
        name: Name of the raw table and of the dlt resource.
        unique_id: dbt's id of the source table.
        ingest: What the declaration says; its class depends on the source's kind.
        columns: Columns that the YAML describes, in its order.
    """

    name: str
    unique_id: str
    ingest: TableIngest
    columns: tuple[DeclaredColumn, ...] = ()

    @property
    def files(self) -> FilesTable:
        """The declaration as one of kind `files`."""
        assert isinstance(self.ingest, FilesTable)
        return self.ingest

    @property
    def database(self) -> DatabaseTable:
        """The declaration as one of kind `database`."""
        assert isinstance(self.ingest, DatabaseTable)
        return self.ingest

    @property
    def rest(self) -> RestTable:
        """The declaration as one of kind `rest`."""
        assert isinstance(self.ingest, RestTable)
        return self.ingest

    @property
    def stream(self) -> StreamEndpoint:
        """What the declaration of kind `stream` says of its messages."""
        assert isinstance(self.ingest, StreamTable)
        return self.ingest.stream


@dataclass(frozen=True)
class SourceDeclaration:
    """One source and those of its tables that were selected.

    Attributes:
        name: Name of the source, of its dlt pipeline and of its folder in landing.
        schema: Schema of its raw tables.
        kind: How it is extracted.
        connection: Name of its connection; None for a Python source without one.
        file: The YAML file below the project's root, for messages.
        tables: Its tables, in the order of their names.
        rest: What all tables of an API share (kind `rest`).
        python: The function to call (kind `python`).
        cdc: How the change log is read (kind `cdc`).
        all_tables: All of its tables, also those that were not selected: a log tells of all.
    """

    name: str
    schema: str
    kind: Kind
    connection: str | None
    file: str
    tables: tuple[TableDeclaration, ...]
    rest: RestSource | None = None
    python: PythonSource | None = None
    cdc: CdcSource | None = None
    all_tables: tuple[TableDeclaration, ...] = ()

    def table(self, name: str) -> TableDeclaration:
        """The table of that name; KeyError if there is none."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(name)


@dataclass
class _Group:
    """The manifest's nodes of one source, before they are checked."""

    name: str
    schema: str
    file: str
    ingest: Any
    nodes: list[Mapping[str, Any]] = field(default_factory=list)


def load_declarations(
    manifest: Mapping[str, Any], select: Collection[str] | None = None
) -> list[SourceDeclaration]:
    """Reads every declared source from dbt's manifest and checks all of them.

    Args:
        manifest: dbt's manifest as a dictionary; only `sources` is read.
        select: Unique ids of the source tables wanted; None for all. Faults of sources that are
            not selected are reported as well, because a declaration is wrong wherever it is used.

    Returns:
        The sources with at least one selected table, by name.

    Raises:
        DeclarationError: With every fault of every file.
    """
    faults: list[DeclarationFault] = []
    declarations = []
    for group in _groups(manifest):
        declaration = _source(group, faults)
        if declaration is not None:
            declarations.append(declaration)
    _check_raw_names(declarations, faults)
    if faults:
        raise DeclarationError(list(dict.fromkeys(faults)))
    if select is None:
        return declarations
    return [chosen for d in declarations if (chosen := _chosen(d, select)).tables]


def _chosen(declaration: SourceDeclaration, select: Collection[str]) -> SourceDeclaration:
    from dataclasses import replace

    tables = tuple(table for table in declaration.tables if table.unique_id in select)
    return replace(declaration, tables=tables)


def _groups(manifest: Mapping[str, Any]) -> list[_Group]:
    groups: dict[str, _Group] = {}
    for node in sorted(manifest.get("sources", {}).values(), key=lambda n: str(n["unique_id"])):
        source_meta = node.get("source_meta") or {}
        own = _table_ingest(node)
        if "ingest" not in source_meta and own is None:
            continue
        group = groups.setdefault(
            node["source_name"],
            _Group(
                name=node["source_name"],
                schema=node["schema"],
                file=node["original_file_path"],
                ingest=source_meta.get("ingest", {}),
            ),
        )
        group.nodes.append(node)
    return [groups[name] for name in sorted(groups)]


def _table_ingest(node: Mapping[str, Any]) -> Any:
    """What the table itself says: dbt shows the source's `ingest` where a table has none."""
    meta = (node.get("config") or {}).get("meta") or node.get("meta") or {}
    own = meta.get("ingest")
    inherited = (node.get("source_meta") or {}).get("ingest")
    return None if own == inherited else own


def _source(group: _Group, faults: list[DeclarationFault]) -> SourceDeclaration | None:
    def fault(key: str, found: Any, expected: str, table: str | None = None) -> None:
        faults.append(DeclarationFault(group.file, group.name, table, key, _shown(found), expected))

    before = len(faults)
    given = group.ingest
    if not isinstance(given, Mapping):
        fault("ingest", given, "keys such as kind and connection")
        return None
    if not _NAME.match(group.name):
        fault("name", group.name, _NAME_EXPECTED)
    kind = given.get("kind")
    if kind not in _TABLE_MODELS:
        fault("ingest.kind", kind, _one_of(kind, list(_TABLE_MODELS)))
        return None
    connection = given.get("connection")
    if not (isinstance(connection, str) and connection) and not (
        kind == "python" and connection is None
    ):
        fault("ingest.connection", connection, "the name of a connection")
    shared = _shared(kind, given, fault)
    defaults = _defaults(kind, given, fault)
    tables = [_table(group, node, kind, defaults, fault) for node in group.nodes]
    declared = tuple(table for table in tables if table is not None)
    _check_endpoints(declared, fault)
    if len(faults) > before:
        return None
    return SourceDeclaration(
        name=group.name,
        schema=group.schema,
        kind=kind,
        connection=connection,
        file=group.file,
        tables=declared,
        rest=shared if isinstance(shared, RestSource) else None,
        python=shared if isinstance(shared, PythonSource) else None,
        cdc=shared if isinstance(shared, CdcSource) else None,
        all_tables=declared,
    )


def _shared(kind: str, given: Mapping[str, Any], fault: Any) -> Strict | None:
    """The part of a source that its tables share, such as an API's authorisation."""
    model = _SOURCE_MODELS.get(kind)
    if model is None:
        return None
    own = given.get(kind, {})
    inherited = _inherited(kind, given)
    if isinstance(own, Mapping):
        own = {key: value for key, value in own.items() if key not in inherited}
    try:
        shared = model.model_validate(own)
    except ValidationError as error:
        for detail in error.errors():
            key, found, expected = _explain(detail, model)
            fault(f"ingest.{kind}.{key}", found, expected)
        return None
    if isinstance(shared, RestSource):
        for key, found, expected in source_faults(shared):
            fault(f"ingest.rest.{key}", found, expected)
    return shared


def _inherited(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of the part that bears the kind's name, the keys that belong to each of the tables."""
    own = given.get(kind)
    if kind != "rest" or not isinstance(own, Mapping):
        return {}
    known = {*_keys(RestEndpoint)} - {*_keys(RestSource)}
    return {key: value for key, value in own.items() if key in known}


def _defaults(kind: str, given: Mapping[str, Any], fault: Any) -> dict[str, Any]:
    """Keys of the source that its tables inherit; unknown ones are faults of the source."""
    own = {"kind", "connection", *([kind] if kind in _SOURCE_MODELS else [])}
    known = _keys(_TABLE_MODELS[kind])
    defaults = {key: value for key, value in given.items() if key not in own}
    for key in [key for key in defaults if key not in known]:
        fault(f"ingest.{key}", f"the unknown key {key}", _one_of(key, sorted({*known, *own})))
        del defaults[key]
    if inherited := _inherited(kind, given):
        defaults[kind] = inherited
    return defaults


def _table(
    group: _Group, node: Mapping[str, Any], kind: str, defaults: Mapping[str, Any], fault: Any
) -> TableDeclaration | None:
    name = node["name"]
    if not _NAME.match(name):
        fault("name", name, _NAME_EXPECTED, name)
    if node["identifier"] != name:
        expected = f"the table's name {name}; the origin's name goes to meta.ingest.from"
        fault("identifier", node["identifier"], expected, name)
    own = _table_ingest(node)
    if own is not None and not isinstance(own, Mapping):
        fault("ingest", own, "keys such as primary_key", name)
        return None
    merged = _merged(defaults, own or {})
    model = _TABLE_MODELS[kind]
    try:
        ingest = model.model_validate(merged)
    except ValidationError as error:
        for detail in error.errors():
            key, found, expected = _explain(detail, model)
            # A wrong default is one fault of the source, not one of each table.
            inherited = key.partition(".")[0] in defaults and _same(defaults, own or {}, key)
            fault(f"ingest.{key}", found, expected, None if inherited else name)
        return None
    _check_meaning(kind, ingest, name, fault)
    columns = tuple(
        DeclaredColumn(
            column["name"], column.get("data_type") or None, bool(_meta(column).get("gone_since"))
        )
        for column in (node.get("columns") or {}).values()
    )
    return TableDeclaration(name, node["unique_id"], ingest, columns)


def _meta(column: Mapping[str, Any]) -> Mapping[str, Any]:
    """The meta of a column, which dbt keeps in one of two places."""
    config = column.get("config") or {}
    return {**(column.get("meta") or {}), **(config.get("meta") or {})}


def _same(defaults: Mapping[str, Any], own: Mapping[str, Any], key: str) -> bool:
    return key.partition(".")[0] not in own and bool(defaults)


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The table's keys over the source's; nested keys are merged one level deep."""
    merged = dict(defaults)
    for key, value in own.items():
        inherited = merged.get(key)
        if isinstance(inherited, Mapping) and isinstance(value, Mapping):
            merged[key] = {**inherited, **value}
        else:
            merged[key] = value
    return merged


def _check_meaning(kind: str, ingest: TableIngest, name: str, fault: Any) -> None:
    """Keys that are valid each for itself but not together."""
    if ingest.deletes == "sweep" and kind != "database":
        fault("ingest.deletes", "sweep", "none: only a database can be swept", name)
    if ingest.window and not ingest.cursor:
        fault("ingest.window", str(ingest.window), "a cursor beside it, or no window", name)
    if isinstance(ingest, RestTable) and ingest.rest.incremental and not ingest.cursor:
        fault("ingest.cursor", None, "the field that rest.incremental follows", name)
    if isinstance(ingest, FilesTable):
        _check_files(ingest, name, fault)
    if isinstance(ingest, StreamTable):
        _check_stream(ingest, name, fault)
    if isinstance(ingest, CdcTable) and not ingest.primary_key:
        fault("ingest.primary_key", None, "the key's columns, which changes refer to", name)
    if isinstance(ingest, CdcTable) and ingest.cursor:
        fault("ingest.cursor", ingest.cursor, "no cursor: a log goes on where it was", name)


def _check_endpoints(tables: Collection[TableDeclaration], fault: Any) -> None:
    """What tables of an API say, also of each other."""
    endpoints = {t.name: t.ingest.rest for t in tables if isinstance(t.ingest, RestTable)}
    for name, endpoint in endpoints.items():
        for key, found, expected in faults_of(name, endpoint, endpoints):
            fault(f"ingest.rest.{key}", found, expected, name)


def _check_stream(ingest: StreamTable, name: str, fault: Any) -> None:
    stream = ingest.stream
    if ingest.cursor:
        fault("ingest.cursor", ingest.cursor, "no cursor: a stream goes on where it was", name)
    if stream.format == "csv" and not stream.csv.columns:
        fault("ingest.stream.csv.columns", None, "names of the columns of a message", name)
    if stream.start not in ("earliest", "latest"):
        try:
            datetime.fromisoformat(stream.start)
        except ValueError:
            expected = "earliest, latest, or a time such as 2026-01-31T00:00:00Z"
            fault("ingest.stream.start", stream.start, expected, name)


def _check_files(ingest: FilesTable, name: str, fault: Any) -> None:
    if ingest.cursor:
        fault("ingest.cursor", ingest.cursor, "no cursor: new and changed files are found", name)
    if not ingest.csv.header and not ingest.csv.columns and ingest.format == "csv":
        fault("ingest.csv.columns", None, "names of the columns, as there is no header", name)
    if ingest.format == "xml" and ingest.xml is None:
        fault("ingest.xml.record", None, "the tag of the element that makes one row", name)
    if ingest.csv.quote and ingest.csv.quote == ingest.csv.delimiter:
        fault("ingest.csv.quote", ingest.csv.quote, "another character than the delimiter", name)


def _check_raw_names(declarations: list[SourceDeclaration], faults: list[DeclarationFault]) -> None:
    owners: dict[tuple[str, str], str] = {}
    for declaration in declarations:
        for table in declaration.tables:
            place = (declaration.schema, table.name)
            other = owners.setdefault(place, declaration.name)
            if other != declaration.name:
                expected = f"a schema of its own: source {other} has {'.'.join(place)} already"
                faults.append(
                    DeclarationFault(
                        declaration.file,
                        declaration.name,
                        table.name,
                        "schema",
                        _shown(declaration.schema),
                        expected,
                    )
                )


def _keys(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _explain(detail: ErrorDetails, model: type[BaseModel]) -> tuple[str, Any, str]:
    """Key path, what was found and what is expected, from one of pydantic's errors."""
    loc = detail["loc"]
    # Among several forms pydantic names the chosen one; no key of the YAML says that.
    path = [part for i, part in enumerate(loc) if i == 0 or loc[i - 1] not in _FORMS]
    key = ".".join(str(part) for part in path)
    context = detail.get("ctx") or {}
    match detail["type"]:
        case "missing":
            return key, None, "a value, as it is required"
        case "extra_forbidden":
            return (
                key,
                f"the unknown key {path[-1]}",
                _one_of(path[-1], _known_keys(model, path[:-1], detail)),
            )
        case "literal_error":
            options = re.findall(r"'([^']*)'", str(context.get("expected", "")))
            return key, detail["input"], _one_of(detail["input"], options)
        case "union_tag_invalid" | "union_tag_not_found":
            options = list(_FORMS[str(loc[-1])])
            found = detail["input"].get("type") if isinstance(detail["input"], Mapping) else None
            return f"{key}.type", found, _one_of(found, options)
        case "string_type" if isinstance(detail["input"], bool):
            expected = "a text in quotes, as YAML takes an unquoted no, yes, on or off for a truth"
            return key, detail["input"], expected
        case "span" | "encoding":
            return key, detail["input"], detail["msg"]
        case _:
            message = detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            return key, detail["input"], message


# Where the value of a key has one of several forms, which its `type` names.
_FORMS: dict[str, dict[str, type[BaseModel]]] = {"paginator": PAGINATORS, "auth": AUTHS}


def _known_keys(model: type[BaseModel], path: list[int | str], detail: ErrorDetails) -> list[str]:
    """Keys of the model that stands at `path`."""
    current: Any = model
    for part in path:
        fields = {info.alias or name: info for name, info in current.model_fields.items()}
        info = fields.get(str(part))
        if info is None:
            return []
        if part in _FORMS:
            tag = detail["loc"][detail["loc"].index(part) + 1]
            return _keys(_FORMS[str(part)][str(tag)])
        options = [info.annotation, *getattr(info.annotation, "__args__", ())]
        inner = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
        if inner is None:
            return []
        current = inner
    return _keys(current)


def _one_of(found: Any, options: list[str]) -> str:
    near = difflib.get_close_matches(str(found), options, n=1)
    listed = ", ".join(options)
    return f"{near[0]} (one of {listed})" if near else f"one of {listed}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str) and value.startswith("the unknown key"):
        return value
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
