"""What readings of a source showed: the present shape of its tables, and every change so far.

`Shape` of a reading -> against the one before -> renames -> contract -> state/schema/<source>.json

A change that a contract refuses is noted, but the shape before stays the one to compare with, so
that it is refused again until the declaration says otherwise. The file is replaced as a whole:
killed at any moment, it tells of all of a reading or nothing, and what it missed the next reading
finds again. It is a record of what was seen and no data: without it sources are simply looked at
for the first time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ingestion.declarations import TableDeclaration
from ingestion.durable import write_whole
from ingestion.evolution import TEXT, widened
from ingestion.failpoints import failpoint
from ingestion.schema.renames import Values, paired
from ingestion.schema.shapes import Change, Shape, compare
from ingestion.settings import Settings

log = logging.getLogger(__name__)

_STORED = 1
Status = Literal["taken", "refused", "reverted"]
# What a contract of `freeze` is about: what raw would look like, or lack.
_BINDING = frozenset({"column_added", "column_lost", "column_renamed", "column_retyped"})


@dataclass(frozen=True)
class Noted:
    """A change of a source, as it was noted.

    Attributes:
        id: `<source>#<number>`.
        source: Name of the source.
        table: Name of the table.
        change: What happened.
        since: When it was seen first, UTC.
        place: The file or load that showed it; empty for a table that is read in place.
        policy: The table's contract at that time.
        status: Whether it was taken, refused by the contract, or the source went back on it.
    """

    id: str
    source: str
    table: str
    change: Change
    since: str
    place: str = ""
    policy: str = "evolve"
    status: Status = "taken"

    def fields(self) -> dict[str, Any]:
        """The change as values."""
        own = {name: value for name, value in vars(self).items() if name != "change"}
        return {**own, **vars(self.change), "evidence": list(self.change.evidence)}


@dataclass
class _Table:
    shape: Shape | None = None
    newest: str = ""


@dataclass
class Journal:
    """The journal of one source; whoever writes it is the only one that reads the source.

    Attributes:
        path: Its file.
        source: Name of the source.
    """

    path: Path
    source: str
    _tables: dict[str, _Table] = field(default_factory=dict)
    _relations: dict[str, list[str]] = field(default_factory=dict)
    _changes: list[Noted] = field(default_factory=list)
    _is_changed: bool = False

    @property
    def changes(self) -> list[Noted]:
        """All changes, oldest first."""
        return list(self._changes)

    def shape(self, table: str) -> Shape | None:
        """The shape that the next reading of a table is compared with."""
        known = self._tables.get(table)
        return known.shape if known else None

    def newest(self, table: str) -> str:
        """Id of the newest load whose files were looked at."""
        known = self._tables.get(table)
        return known.newest if known else ""

    def relations(self, schema: str) -> list[str] | None:
        """Names of the tables that the source had there; None if they were never listed."""
        return self._relations.get(schema)

    def observe(
        self,
        table: TableDeclaration,
        shape: Shape,
        *,
        share: Callable[[str], float] = lambda _: 1.0,
        values: Callable[[], Values | None] = lambda: None,
        since: str = "",
        place: str = "",
        newest: str = "",
    ) -> list[Noted]:
        """Notes what a reading shows.

        Args:
            table: The table's declaration.
            shape: What it looks like now.
            share: Part of the former rows that had a value in a column.
            values: Gives what values can be compared by; asked only if a column may be renamed.
            since: When it was read; now by default.
            place: The file or load that shows it.
            newest: Id of the load that shows it.

        Returns:
            What is new, and what the contract refuses, new or not.
        """
        known = self._tables.setdefault(table.name, _Table())
        former = known.shape
        if former is None:
            known.shape, known.newest, self._is_changed = shape, newest, True
            return []
        found = compare(former, shape, share)
        changes = self._returned(table.name, found.changes)
        if {"column_lost", "column_added"} <= {change.kind for change in changes}:
            changes = paired(changes, former, shape, values())
        policy = table.ingest.contract
        refused = [c for c in changes if policy == "freeze" and not allowed(table, c)]
        status: Status = "refused" if refused else "taken"
        where = (since or _now(), place, policy)
        noted = self._note(table.name, refused or changes, status, *where)
        if refused:
            return noted
        # The newest load goes with it only then: those since the last change look the same.
        self._is_changed |= former.fields() != found.shape.fields()
        known.shape, known.newest = found.shape, newest
        return noted

    def judge(self, table: TableDeclaration, shape: Shape) -> list[Change]:
        """What the contract of a table refuses of an older reading, which is not noted."""
        former = self.shape(table.name)
        if former is None or table.ingest.contract != "freeze":
            return []
        found = compare(former, shape, lambda _: 1.0)
        return [change for change in found.changes if not allowed(table, change)]

    def observe_table(self, table: str, change: Change, policy: str = "evolve") -> list[Noted]:
        """Notes a change of a table as a whole, unless the last one noted of it says the same."""
        last = [noted for noted in self._changes if noted.table == table]
        if last and last[-1].change.kind == change.kind and last[-1].status == "taken":
            return []
        return self._note(table, [change], "taken", _now(), "", policy)

    def observe_present(self, table: str) -> list[Noted]:
        """Notes that a table is there again, if it was gone."""
        last = [n for n in self._changes if n.table == table and n.change.kind.startswith("table")]
        if not last or last[-1].change.kind not in ("table_lost", "table_renamed"):
            return []
        return self._note(table, [Change("table_back")], "taken", _now(), "", "evolve")

    def observe_relations(self, schema: str, names: Iterable[str]) -> list[str]:
        """Takes the names of a source's tables; returns those that are new."""
        now, before = sorted(names), self._relations.get(schema)
        if now == before:
            return []
        self._relations[schema] = now
        self._is_changed = True
        return [] if before is None else [name for name in now if name not in before]

    def save(self) -> None:
        """Writes the journal, if anything in it is new."""
        if not self._is_changed:
            return
        tables = {
            name: {"shape": known.shape.fields() if known.shape else None, "newest": known.newest}
            for name, known in self._tables.items()
        }
        content = {
            "format": _STORED,
            "tables": tables,
            "relations": self._relations,
            "changes": [noted.fields() for noted in self._changes],
        }
        write_whole(
            self.path,
            json.dumps(content, indent=1),
            before=lambda: failpoint("extract.schema_noted"),
        )
        self._is_changed = False

    def _returned(self, table: str, changes: Sequence[Change]) -> tuple[Change, ...]:
        """The changes, with a column that was lost before as one that is back."""
        gone = {
            noted.change.column
            for noted in self._changes
            if noted.table == table and noted.change.kind == "column_lost"
        }
        return tuple(
            replace(c, kind="column_back") if c.kind == "column_added" and c.column in gone else c
            for c in changes
        )

    def _note(
        self,
        table: str,
        changes: Sequence[Change],
        status: Status,
        since: str,
        place: str,
        policy: str,
    ) -> list[Noted]:
        """Notes changes; one that was refused before keeps its id and its time."""
        noted = []
        for change in changes:
            known = self._refused_before(table, change)
            if known is None:
                name = f"{self.source}#{len(self._changes) + 1}"
                entry = Noted(name, self.source, table, change, since, place, policy, status)
                self._changes.append(entry)
                self._is_changed = True
            else:
                entry = replace(self._changes[known], status=status, policy=policy)
                self._is_changed |= entry != self._changes[known]
                self._changes[known] = entry
            noted.append(entry)
        self._revert(table, {entry.id for entry in noted})
        return noted

    def _refused_before(self, table: str, change: Change) -> int | None:
        for place, noted in enumerate(self._changes):
            same = (noted.table, noted.change.kind, noted.change.column, noted.change.new)
            if noted.status == "refused" and same == (
                *(table, change.kind, change.column, change.new),
            ):
                return place
        return None

    def _revert(self, table: str, still: set[str]) -> None:
        """Marks what was refused and is not there any more."""
        for place, noted in enumerate(self._changes):
            if noted.table == table and noted.status == "refused" and noted.id not in still:
                self._changes[place] = replace(noted, status="reverted")
                self._is_changed = True


def journal_folder(settings: Settings) -> Path:
    """Where the journals lie."""
    return settings.state_dir / "schema"


def read_journal(settings: Settings, source: str) -> Journal:
    """The journal of a source; an empty one if there is none, or none that can be read."""
    path = journal_folder(settings) / f"{source}.json"
    journal = Journal(path, source)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return journal
    except ValueError:
        log.warning("%s is damaged; %s is looked at as for the first time", path, source)
        return journal
    if content.get("format") != _STORED:
        return journal
    for name, known in content["tables"].items():
        shape = Shape.of_fields(known["shape"]) if known["shape"] else None
        journal._tables[name] = _Table(shape, known["newest"])
    journal._relations = content["relations"]
    journal._changes = [_noted(fields) for fields in content["changes"]]
    return journal


def _noted(fields: Mapping[str, Any]) -> Noted:
    what = fields["kind"], fields["column"], fields["old"], fields["new"]
    change = Change(*what, tuple(fields["evidence"]))
    own = ("id", "source", "table", "since", "place", "policy", "status")
    return Noted(change=change, **{name: fields[name] for name in own})


def allowed(table: TableDeclaration, change: Change) -> bool:
    """Whether a frozen contract allows a change, because the declaration tells of it."""
    if change.kind not in _BINDING:
        return True
    if change.kind == "column_retyped" and holds(change.old, change.new):
        return True
    declared = {column.name: column for column in table.columns}
    column = declared.get(change.column)
    if change.kind == "column_lost":
        return column is not None and column.is_gone
    if change.kind == "column_renamed":
        former = declared.get(change.old)
        return column is not None and former is not None and former.is_gone
    if column is None:
        return False
    if change.kind == "column_added":
        return True
    return column.data_type is not None and holds(column.data_type, change.new)


def holds(declared: str, found: str) -> bool:
    """Whether a declared type holds the values of another, both in the words of SQL."""
    mine, theirs = duck_type(declared), duck_type(found)
    return widened(mine, theirs) == mine


def duck_type(name: str) -> str:
    """A type as DuckDB calls it; text where it knows no such type."""
    import duckdb

    try:
        with duckdb.connect(":memory:") as connection:
            found = connection.execute(f"select typeof(cast(null as {name}))").fetchall()
    except duckdb.Error:
        return TEXT
    return str(found[0][0])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
