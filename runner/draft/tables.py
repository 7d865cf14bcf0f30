"""What is to be drafted: tables, their keys and references, and the marts that they become.

`Discovery` + what the project has -> `plan_tables` -> a `Table` each, with names for its models

A table with a date or an amount that refers to others becomes a fact, one of nothing but references
a bridge, any other a dimension. References count if they lead to a key and nearly all of their
values are there. Left out: references by spelling alone, what is nested in a column, and what a
thing that two sources know has in common.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from runner.discover.model import Discovery, Reference, TableProfile
from runner.discover.words import is_measure, tokens, word_set
from runner.draft.columns import GROUPS, Column, draft_column
from runner.draft.names import entity_of, foreign_key, keywords, plural, unused

# With more orphans a column points somewhere else, or to more than one table.
_MOST_ORPHANS = 0.1
_TEXT_ALIKE = ("string", "bigint", "integer", "smallint", "tinyint")
# Times that tell of the record, or of a person, rather than of what happened.
_KEPT_TIMES = word_set(
    "created updated modified changed inserted edited revised registered birth born hire "
    "hired dob since last valid create update change modify release released publish "
    "published founded expires expiry"
)


@dataclass(frozen=True)
class Link:
    """A reference of a drafted table.

    Attributes:
        columns: Staging columns that refer.
        target: `source.table` that is referred to.
        target_columns: The staging columns there, which are its key.
        key: Name of the surrogate key that stands for it.
        is_screened: Whether a row rule of staging looks for it.
        is_as_text: Whether the types differ, so that texts are compared.
        found: The evidence.
    """

    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    key: str
    is_screened: bool
    is_as_text: bool
    found: Reference


@dataclass
class Table:
    """A table that is drafted.

    Attributes:
        profile: What discovery tells about it.
        entity: What a row is.
        key: Staging columns that identify a row; one of our own making if none do.
        columns: Its columns, grouped as the house does.
        is_keyed: Whether columns of its own identify a row.
        version_order: Staging columns that tell the newest version.
        links: Its references.
        kind: dim, fct or bridge.
        prefix: Before the names of its intermediate and mart, where they would be taken.
    """

    profile: TableProfile
    entity: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    is_keyed: bool
    version_order: tuple[str, ...] = ()
    links: list[Link] = field(default_factory=list)
    kind: str = "dim"
    prefix: str = ""

    @property
    def source(self) -> str:
        """Name of its source, which is the area of its marts as well."""
        return self.profile.source

    @property
    def full_name(self) -> str:
        """`source.table`."""
        return self.profile.full_name

    @property
    def plural(self) -> str:
        """What its rows are."""
        return plural(self.entity)

    @property
    def staging(self) -> str:
        """Name of its staging model."""
        return f"stg_{self.source}__{self.plural}"

    @property
    def intermediate(self) -> str:
        """Name of its intermediate model."""
        return f"int_{self.prefix}{self.plural}_keyed"

    @property
    def mart(self) -> str:
        """Name of its mart."""
        return f"{self.kind}_{self.prefix}{self.plural}"

    @property
    def surrogate(self) -> str:
        """Name of its surrogate key."""
        return f"{self.prefix}{self.entity}_key"

    def column(self, name: str) -> Column:
        """The column of that name in staging; KeyError if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def data_type(self, name: str) -> str:
        """The type of a column; the key of our own making is a text."""
        try:
            return self.column(name).reading.data_type
        except KeyError:
            return "string"


def plan_tables(
    found: Discovery,
    sources: Collection[str],
    midnights: Mapping[str, Collection[str]],
    is_left_out: Callable[[TableProfile, str], bool],
    is_taken: Callable[[str, str], bool],
    mart_kind: Callable[[str, str], str],
) -> list[Table]:
    """What is to be drafted of some sources.

    Args:
        found: What was discovered.
        sources: The sources; the others' tables are not referred to.
        midnights: Columns, by `source.table`, whose times are all the beginning of a day.
        is_left_out: Whether the staging of a table, by that name, is a person's own or was deleted.
        is_taken: Whether another file than the one of this area has a model's name.
        mart_kind: The kind of mart that was drafted before, by area and name; empty if none was.
    """
    references = _references(found, sources)
    tables: dict[str, Table] = {}
    for source in sorted(sources):
        entities: set[str] = set()
        for profile in found.tables:
            if profile.source != source or profile.nested_in:
                continue
            entity = entity_of(profile.name, entities)
            entities.add(entity)
            refers = {
                name for r in references.get(profile.full_name, ()) for name in r.from_columns
            }
            table = _table(profile, entity, refers, midnights.get(profile.full_name, ()))
            if not is_left_out(profile, table.staging):
                tables[profile.full_name] = table
    names: set[str] = set()
    for table in tables.values():
        _name(table, is_taken, names)
    _link(tables, references)
    referenced = {
        link.target for t in tables.values() for link in t.links if link.target != t.full_name
    }
    for table in tables.values():
        former = mart_kind(table.source, table.prefix + table.plural)
        table.kind = former or _kind(table, table.full_name in referenced)
    return list(tables.values())


def _references(found: Discovery, sources: Collection[str]) -> dict[str, list[Reference]]:
    """References that lead to a key, best first, by the table that refers."""
    keys = {t.full_name: _key_of(t) for t in found.tables if not t.nested_in}
    kept: dict[str, list[Reference]] = {}
    for reference in sorted(found.references, key=lambda r: (r.is_across, -r.score)):
        ends = (reference.from_table, reference.to_table)
        if any(end not in keys or end.partition(".")[0] not in sources for end in ends):
            continue
        if reference.is_partial or reference.match not in ("same", "as_text"):
            continue
        if sorted(reference.to_columns) != sorted(keys[reference.to_table]):
            continue
        if reference.orphan_rows > _MOST_ORPHANS * max(1, reference.rows):
            continue
        others = kept.setdefault(reference.from_table, [])
        if all(set(reference.from_columns) != set(other.from_columns) for other in others):
            others.append(reference)
    return kept


def _key_of(profile: TableProfile) -> tuple[str, ...]:
    return profile.primary_key.columns if profile.primary_key else profile.declared_key


def _table(
    profile: TableProfile, entity: str, refers: Collection[str], midnights: Collection[str]
) -> Table:
    raw_key = _key_of(profile)
    columns: list[Column] = []
    # The key that we make where there is none.
    taken = {"row_key"}
    # The key takes its name first: `id` beside `customer_id` in a table of customers.
    for column in sorted(profile.columns, key=lambda c: c.name not in raw_key):
        drafted = draft_column(column, profile, entity, refers, column.name in midnights, taken)
        columns.append(drafted)
        taken.add(drafted.name)
    place = {column.name: number for number, column in enumerate(profile.columns)}
    columns.sort(key=lambda c: (GROUPS.index(c.reading.group), c.raw not in raw_key, place[c.raw]))
    names = {column.raw: column.name for column in columns}
    newest = [c.column for c in profile.cursors if c.kind == "changed"][:1]
    times = {c.raw for c in columns if c.reading.group in ("dates", "timestamps")}
    return Table(
        profile=profile,
        entity=entity,
        key=tuple(names[name] for name in raw_key if name in names) or ("row_key",),
        columns=tuple(columns),
        is_keyed=bool(raw_key),
        version_order=tuple(names[name] for name in newest if name in times),
    )


def _name(table: Table, is_taken: Callable[[str, str], bool], names: set[str]) -> None:
    """Puts the source before names that another model has, or gets in this draft."""
    kinds = ("dim", "fct", "bridge")
    wanted = [f"{kind}_{table.plural}" for kind in kinds] + [table.intermediate]
    if names & set(wanted) or any(is_taken(table.source, name) for name in wanted):
        table.prefix = f"{table.source}_"
    names.update(wanted)


def _link(tables: Mapping[str, Table], references: Mapping[str, Sequence[Reference]]) -> None:
    """Gives tables their references, and says which of them staging looks for."""
    reads: dict[str, set[str]] = {name: set() for name in tables}
    for name, table in tables.items():
        taken = {column.name for column in table.columns} | {table.surrogate}
        for reference in references.get(name, ()):
            target = tables.get(reference.to_table)
            if target is None:
                continue
            link = _made(table, target, reference, taken)
            if link is None:
                continue
            if not (reference.is_across or link.is_as_text or _leads(reads, link.target, name)):
                reads[name].add(link.target)
                link = Link(**{**vars(link), "is_screened": True})
            taken.add(link.key)
            table.links.append(link)


def _made(table: Table, target: Table, reference: Reference, taken: Collection[str]) -> Link | None:
    own = {column.raw: column.name for column in table.columns}
    theirs = {column.raw: column.name for column in target.columns}
    columns = tuple(own[name] for name in reference.from_columns)
    aims = tuple(theirs[name] for name in reference.to_columns)
    types = [(table.data_type(a), target.data_type(b)) for a, b in zip(columns, aims, strict=True)]
    is_as_text = any(left != right for left, right in types)
    if is_as_text and any(kind not in _TEXT_ALIKE for pair in types for kind in pair):
        return None
    key = foreign_key(columns, target.entity, target.surrogate, table is target)
    return Link(
        columns=columns,
        target=target.full_name,
        target_columns=aims,
        key=unused(key, taken),
        is_screened=False,
        is_as_text=is_as_text,
        found=reference,
    )


def _leads(reads: Mapping[str, set[str]], start: str, aim: str) -> bool:
    """Whether one table reads another, directly or through others."""
    seen, ahead = set(), [start]
    while ahead:
        name = ahead.pop()
        if name == aim:
            return True
        if name not in seen:
            seen.add(name)
            ahead += reads[name]
    return False


def _kind(table: Table, is_referenced: bool) -> str:
    """What a table becomes: fct, bridge or dim."""
    others = [link for link in table.links if link.target != table.full_name]
    linked = {name for link in table.links for name in link.columns}
    times = [c for c in table.columns if c.reading.group in ("dates", "timestamps") and not c.pii]
    events = [c for c in times if not _KEPT_TIMES & set(tokens(c.raw))]
    amounts = [
        c
        for c in table.columns
        if c.reading.group == "numerics" and c.name not in linked and is_measure(c.raw)
    ]
    kept = {column.name for column in times if column not in events}
    rest = {c.name for c in table.columns} - linked - set(table.key) - kept
    if len(others) > 1 and not rest and not events:
        return "bridge"
    is_person = any(c.pii in ("name", "birth_date", "email") for c in table.columns)
    if is_referenced:
        return "fct" if others and events and not is_person else "dim"
    return "fct" if others and (events or amounts) else "dim"


def import_name(name: str, taken: Collection[str]) -> str:
    """The name of a CTE for the rows of a table."""
    return unused(f"{name}_rows" if name in keywords() else name, taken)
