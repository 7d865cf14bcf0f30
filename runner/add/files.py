"""Files in a folder, a bucket or at an address: which belong together, and how they are read.

address -> names of files -> `grouping` -> first and last file of a group -> `dialects`
-> read as the loader would read them -> `Offer`: columns, key by the rows

Text formats are looked at by their beginning. Left out: what has no known suffix.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput
from runner.add import dialects
from runner.add.evidence import weigh
from runner.add.grouping import Group, fitting, given, grouped, suffix_of
from runner.add.offers import Found, Listing, Offer, OfferedColumn, Place, Proposal
from runner.report import count

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from ingestion.declarations import FilesTable
    from ingestion.files import OriginFile
    from ingestion.settings import Settings

_HEAD = 4_000_000
_LARGEST = 256_000_000
_FIRST_ROWS = 10_000
_WIDE = 500
_TEXTS = ("csv", "ndjson", "text")
# Suffixes that say nothing to a declaration, and the format that is declared for them.
_DECLARED = {".tsv": "csv", ".tab": "csv", ".txt": "", ".dat": "", ".log": "text"}


@dataclass
class _Sample:
    """What was read of a group's files."""

    types: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, str | None]] = field(default_factory=list)
    rejected: int = 0
    files: int = 0
    is_whole: bool = True
    refused: list[str] = field(default_factory=list)


@contextmanager
def look(settings: Settings, place: Place, name: str, patterns: Sequence[str]) -> Iterator[Found]:
    """Lists files and groups them.

    Args:
        settings: The project's settings.
        place: Where they are.
        name: Name of the source.
        patterns: Globs, each of a table; none to let the names tell.

    Raises:
        SourceUnreachable: The place cannot be listed.
        BadInput: No file is there that can be read.
    """
    filesystem, found = _listed(settings, place, patterns)
    names = [file.name for file in found]
    if patterns:
        groups = [given(fitting(names, path), path, name) for path in patterns]
        empty = [group.path for group in groups if not group.files]
        if empty:
            raise BadInput(f"no file matches {', '.join(empty)} below {_shown(place)}")
    else:
        groups = grouped([one for one in names if _is_known(one)], name)
    if not groups:
        raise BadInput(
            f"no file of a known kind lies below {_shown(place)} ({len(names)} others)",
            hint="Say which files are wanted, and by which suffix: --path 'orders/*.csv'.",
        )
    left = len(names) - len({one for group in groups for one in group.files})
    by_name = {file.name: file for file in found}
    with tempfile.TemporaryDirectory(prefix="wellspring-add-") as folder:
        yield Found(
            [_listing(group, by_name, filesystem, Path(folder)) for group in groups],
            {},
            f"{count(len(names), 'file')} found" + (f", {left:,} of no known kind" if left else ""),
        )


def _listed(
    settings: Settings, place: Place, patterns: Sequence[str]
) -> tuple[AbstractFileSystem, list[OriginFile]]:
    from ingestion.declarations import FilesTable, SourceDeclaration, TableDeclaration
    from ingestion.files import list_origin

    found: dict[str, OriginFile] = {}
    filesystem: Any = None
    for path in patterns or ("**/*",):
        table = TableDeclaration("files", "", FilesTable(path=path))
        source = SourceDeclaration(place.connection, "", "files", place.connection, "", (table,))
        filesystem, files = list_origin(source, table, settings)
        found |= {file.name: file for file in files}
    hidden = [name for name in found if any(p.startswith((".", "_")) for p in name.split("/"))]
    return filesystem, [file for name, file in found.items() if name not in hidden]


def _shown(place: Place) -> str:
    from ingestion.connections import Connection

    return Connection(place.connection, place.url).safe_url


def _is_known(name: str) -> bool:
    from ingestion.formats.preparing import SUFFIXES

    return suffix_of(name) in {*SUFFIXES, *_DECLARED, ".zip"}


def _listing(
    group: Group,
    files: Mapping[str, OriginFile],
    filesystem: AbstractFileSystem,
    folder: Path,
) -> Listing:
    sizes = [files[name].size or 0 for name in group.files]
    count = f"{len(group.files):,} file{'' if len(group.files) == 1 else 's'}"
    suffix = suffix_of(group.files[0]).removeprefix(".") or "?"

    def offer() -> Offer:
        ends = dict.fromkeys((group.files[0], group.files[-1]))
        return _offer(group, [files[name] for name in ends], filesystem, folder)

    return Listing(group.path, group.name, f"{count}, {_bytes(sum(sizes))}", suffix, offer)


def _bytes(size: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _offer(
    group: Group, files: Sequence[OriginFile], filesystem: AbstractFileSystem, folder: Path
) -> Offer:
    """Looks into the first and the last file of a group."""
    from ingestion.declarations import FilesTable

    ingest: dict[str, Any] = {"path": group.path}
    notes: list[str] = []
    sample = _Sample(is_whole=len(group.files) <= len(files))
    for number, file in enumerate(files):
        local = _local(file, filesystem, folder / f"{group.name}-{number}")
        if local is None:
            notes.append(f"{file.name} is too large to be looked into")
            sample.is_whole = False
            continue
        path, is_cut = local
        if not number:
            dialect = _dialect(path, file.name)
            ingest |= dialect.ingest
            notes += dialect.seen
        sample.is_whole = sample.is_whole and not is_cut
        _read(sample, path, file.name, FilesTable.model_validate(ingest), folder)
    notes += [f"refused: {reason}" for reason in sample.refused]
    if sample.rejected:
        notes.append(f"{sample.rejected:,} records cannot be read and would be rejected")
    if len(sample.types) > _WIDE:
        notes.append(f"{len(sample.types):,} columns: is this one table?")
    key = _key(group, sample) if len(sample.types) <= _WIDE else None
    if key is None and sample.rows:
        notes.append("no key: equal rows are one; declare primary_key if you know it")
    what = "file" if "text" in (ingest.get("format"), suffix_of(group.path)) else "record"
    return Offer(
        name=group.name,
        description=f"One row per {what} of the files `{group.path}`.",
        columns=tuple(_columns(sample, key)),
        ingest=ingest,
        key=key,
        notes=tuple(notes),
    )


def _local(
    file: OriginFile, filesystem: AbstractFileSystem, target: Path
) -> tuple[Path, bool] | None:
    """A file, or the beginning of a text, as a local file; and whether it is a beginning."""
    from ingestion.formats.streams import Content, opened

    is_here = "file" in _protocols(filesystem)
    path = Path(file.path) if is_here else target
    is_text = _is_text(file.name)
    size = file.size or 0
    if not is_here:
        if size > _LARGEST and not is_text:
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        if size > _LARGEST:
            with filesystem.open(file.path, "rb") as stream:
                target.write_bytes(stream.read(_LARGEST))
        else:
            filesystem.get_file(file.path, str(target))
    elif size > _LARGEST and not is_text and suffix_of(file.name) not in (".parquet", ".pq"):
        return None
    if size <= _HEAD or not is_text:
        return path, False
    with opened(Content(path, file.name)) as stream:
        head = stream.read(_HEAD)
    cut = target.with_name(f"{target.name}-head{suffix_of(file.name)}")
    cut.write_bytes(head[: head.rfind(b"\n") + 1] or head)
    return cut, True


def _protocols(filesystem: AbstractFileSystem) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _is_text(name: str) -> bool:
    from ingestion.formats.preparing import SUFFIXES

    suffix = suffix_of(name)
    return not name.lower().endswith(".zip") and (
        suffix in _DECLARED or SUFFIXES.get(suffix) in _TEXTS
    )


def _dialect(path: Path, name: str) -> dialects.Dialect:
    """How a file is to be read, as its content tells."""
    from ingestion.formats.preparing import SUFFIXES
    from ingestion.formats.streams import Content, archive_members, opened

    suffix = suffix_of(name)
    member = ""
    if name.lower().endswith(".zip"):
        members = archive_members(path)
        member = members[0] if members else ""
        suffix = suffix_of(member)
    # A beginning that was cut off is no longer compressed.
    content = Content(path, path.name if path.name.endswith(f"-head{suffix}") else name, member)
    with opened(content) as stream:
        head = stream.read(_HEAD)
    whole = content.compression == "none" and not member
    kind = SUFFIXES.get(suffix) or _DECLARED.get(suffix, "")
    declared = {} if suffix in SUFFIXES else {"format": kind}
    if suffix in _DECLARED and not kind:
        found = dialects.of_csv(head)
        is_csv = dialects.is_table(head)
        declared["format"] = kind = "csv" if is_csv else "text"
    if kind == "csv":
        found = dialects.of_csv(head)
    elif kind in ("ndjson", "text"):
        found = dialects.of_text(head)
    elif kind in ("json", "xml", "excel"):
        guess = {"json": dialects.of_json, "xml": dialects.of_xml, "excel": dialects.of_excel}
        if whole:
            found = guess[kind](path)
        else:
            with tempfile.NamedTemporaryFile(suffix=suffix) as unpacked:
                unpacked.write(head)
                unpacked.flush()
                found = guess[kind](Path(unpacked.name))
    else:
        found = dialects.Dialect()
    return dialects.Dialect({**declared, **found.ingest}, found.seen)


def _read(sample: _Sample, path: Path, name: str, table: FilesTable, folder: Path) -> None:
    """Adds the first rows of a file, read as the loader reads them."""
    from ingestion.errors import IngestionError
    from ingestion.formats.preparing import prepare

    shown = path.name if "-head." in path.name else name
    prepared = Path(tempfile.mkdtemp(dir=folder))
    for unit in prepare(path, shown, table, prepared)[:3]:
        if unit.refused:
            sample.refused.append(f"{name}: {unit.refused}")
            continue
        try:
            target = _as_parquet(sample, unit, table, prepared)
        except IngestionError as error:
            sample.refused.append(f"{name}: {error.sentence}")
            continue
        _take(sample, target)
    sample.files += 1


def _as_parquet(sample: _Sample, unit: Any, table: FilesTable, folder: Path) -> Path:
    """What the loader would read, as Parquet."""
    from ingestion.formats import csvfile, jsonfile
    from ingestion.formats.streams import Content, Encoding

    if unit.reader == "parquet":
        sample.rejected += unit.options.get("rejected", 0)
        return Path(unit.path)
    target = folder / f"{unit.path.name}.rows.parquet"
    content = Content(unit.path, unit.path.name)
    encoding = Encoding(unit.options["faulty"] or "utf-8", unit.options["bom"])
    if unit.reader == "csv":
        names = unit.options["names"]
        taken = csvfile.salvage(content, encoding, table.csv, names, target)
    else:
        taken = jsonfile.salvage(content, encoding, target)
    sample.rejected += len(taken.rejected)
    return target


def _take(sample: _Sample, path: Path) -> None:
    """Adds the first rows of a Parquet file, and the types of its columns."""
    import duckdb

    from ingestion.delta import literal
    from ingestion.landing import normalise_columns

    with duckdb.connect(":memory:") as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute("set enable_progress_bar = false")
        relation = f"read_parquet({literal(str(path))}, hive_partitioning = false)"
        described = connection.execute(f"describe select * from {relation}").fetchall()
        taken = [row for row in described if row[0] not in ("_row", "_file")]
        names = normalise_columns([str(row[0]) for row in taken])
        texts = ", ".join('cast("' + row[0].replace('"', '""') + '" as varchar)' for row in taken)
        if not texts:
            return
        rows = connection.execute(f"select {texts} from {relation} limit {_FIRST_ROWS}").fetchall()
    for name, row in zip(names, taken, strict=True):
        kind = str(row[1]).lower()
        known = sample.types.setdefault(name, kind)
        if known != kind:
            sample.types[name] = "varchar"
    sample.is_whole = sample.is_whole and len(rows) < _FIRST_ROWS
    sample.rows += [dict(zip(names, row, strict=True)) for row in rows]


def _key(group: Group, sample: _Sample) -> Proposal | None:
    flat = {
        name: kind
        for name, kind in sample.types.items()
        if not kind.startswith(("struct", "map", "blob")) and not kind.endswith("]")
    }
    rows = [tuple(row.get(name) for name in flat) for row in sample.rows]
    key = weigh(group.name, flat, rows, is_whole=sample.is_whole).key
    if key is None or sample.files == 1:
        return key
    return Proposal(key.columns, f"{key.why}, over {sample.files} files")


def _columns(sample: _Sample, key: Proposal | None) -> Iterator[OfferedColumn]:
    filled = {name for row in sample.rows for name, value in row.items() if value is not None}
    for name, kind in sample.types.items():
        part = ""
        if key and name in key.columns:
            part = ", the key" if len(key.columns) == 1 else ", part of the key"
        empty = "" if name in filled or not sample.rows else ", empty in the rows looked at"
        data_type = "string" if kind == "varchar" else kind
        yield OfferedColumn(name, data_type, f"Field `{name}` of the files{part}{empty}.")
