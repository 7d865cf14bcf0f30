"""What a discovery tells, as named values that a machine reads back.

`find.discover` -> `Discovery` -> JSON (`discovery_fields`, `read_discovery`), terminal, page

Every proposal carries its evidence. Values of columns that hold personal data are left out
everywhere: the report may be shown to more people than the data.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from ingestion.errors import BadInput

# Raised when a reader of the JSON would misunderstand it.
FORMAT = 1


@dataclass(frozen=True)
class Behind:
    """What the texts of a column mean.

    Attributes:
        kind: integer, decimal, date, timestamp, epoch, boolean, uuid, json, url, email, ip, phone,
            iban, card, country or currency.
        data_type: The SQL type that holds it without loss.
        format: Format of dates and times as `strptime` takes it; unit of an epoch (s, ms).
        decimal_mark: Before the fraction of a number; empty if it has none.
        thousands_mark: Between groups of digits; empty if there is none.
        trues: Words that stand for true (boolean).
        fits: Values, of all rows, that can be read so.
        misses: Values, of all rows, that cannot; placeholders not counted.
        missed: Some of them.
        is_ambiguous: Whether day and month could as well be the other way round.
    """

    kind: str
    data_type: str
    format: str = ""
    decimal_mark: str = ""
    thousands_mark: str = ""
    trues: tuple[str, ...] = ()
    fits: int = 0
    misses: int = 0
    missed: tuple[str, ...] = ()
    is_ambiguous: bool = False


@dataclass(frozen=True)
class Personal:
    """Why a column is taken for personal data.

    Attributes:
        kind: email, phone, name, birth_date, address, national_id, ip, card, iban or text.
        by: `content`, `name`, or both.
        share: Share of the looked-at values that have the form; None where only the name tells.
    """

    kind: str
    by: str
    share: float | None = None


@dataclass(frozen=True)
class Problem:
    """Something in a column that staging has to deal with.

    Attributes:
        kind: placeholder, blanks, empty, mojibake, replacement, misfit or mixed_shapes.
        rows: Rows concerned.
        told: What it is, for people.
        values: Some of the values.
    """

    kind: str
    rows: int
    told: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frequent:
    """A value and how often it occurs; `rows` is of the sample where the column says so."""

    value: str
    rows: int


@dataclass(frozen=True)
class Bin:
    """A bar of a histogram: values from `low` to `high` (only the last includes `high`)."""

    low: str
    high: str
    rows: int


@dataclass(frozen=True)
class ColumnProfile:
    """One column of the current rows of a table.

    Attributes:
        name: Its name in raw.
        data_type: Its type in raw.
        nulls: Rows without a value.
        null_share: The same as a share of the rows.
        distinct: How many different values there are.
        is_distinct_exact: Whether that was counted, not estimated.
        minimum: Smallest value as a text; None for none, or if it is personal.
        maximum: Largest value as a text.
        shortest: Characters of the shortest text.
        longest: Characters of the longest text.
        mean_length: Characters of the texts on average.
        frequent: The most frequent values.
        is_frequent_exact: Whether those were counted in all rows, not in a sample.
        histogram: Rows by range of numbers and times, of a sample.
        shapes: Forms of texts (`AA-9999`) and their share of the looked-at values.
        behind: What its texts mean; None if nothing but texts.
        unit: Unit of measure told by its name or values.
        personal: Why it is taken for personal data.
        problems: What staging has to deal with.
        is_deleted_flag: Whether it seems to mark deleted rows.
    """

    name: str
    data_type: str
    nulls: int
    null_share: float
    distinct: int
    is_distinct_exact: bool
    minimum: str | None = None
    maximum: str | None = None
    shortest: int | None = None
    longest: int | None = None
    mean_length: float | None = None
    frequent: tuple[Frequent, ...] = ()
    is_frequent_exact: bool = False
    histogram: tuple[Bin, ...] = ()
    shapes: tuple[tuple[str, float], ...] = ()
    behind: Behind | None = None
    unit: str = ""
    personal: Personal | None = None
    problems: tuple[Problem, ...] = ()
    is_deleted_flag: bool = False


@dataclass(frozen=True)
class Key:
    """Columns that may identify a row.

    Attributes:
        columns: Their names; no smaller part of them would do.
        duplicates: Rows beyond the first with the same values; 0 if it holds.
        nulls: Rows in which one of them has no value.
        score: How much it looks like the key, from 0 to 1.
        reasons: Why, and what speaks against it.
    """

    columns: tuple[str, ...]
    duplicates: int
    nulls: int
    score: float
    reasons: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether it identifies each row."""
        return self.duplicates == 0 and self.nulls == 0


@dataclass(frozen=True)
class Dependency:
    """A column whose value follows from another one's.

    Attributes:
        determinant: The column that decides.
        dependent: The column that follows.
        values: Different values of the determinant.
        exceptions: Rows with another value than most rows of the same determinant.
    """

    determinant: str
    dependent: str
    values: int
    exceptions: int


@dataclass(frozen=True)
class Cursor:
    """A column that may tell what is new.

    Attributes:
        column: Its name.
        kind: `changed` (moves when a row changes) or `created` (only tells of new rows).
        nulls: Rows without it.
        score: How well it serves, from 0 to 1.
        reasons: Why.
    """

    column: str
    kind: str
    nulls: int
    score: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableProfile:
    """One raw table, or the list or object within a column of one.

    Attributes:
        source: Name of the source.
        name: Name of the table; `orders.items` for what is nested in a column of it.
        relation: Where it stands in the warehouse, `schema.table`.
        nested_in: Name of the table that it is nested in; empty if it is one itself.
        raw_rows: Rows of raw, all versions.
        rows: Current rows, which all else is about.
        versions_by: Columns by which versions were told apart; empty if there is one of each row.
        sampled_rows: Rows that figures were made of at most; None for all. Missing and different
            values are counted on all, keys and references verified on all.
        columns: Its columns, without those of the loader.
        keys: Candidate keys, best first.
        primary_key: The chosen one, None if there is none.
        declared_key: What the declaration says.
        dependencies: Columns that follow from another one.
        cursors: Columns that may tell what is new, best first.
        notes: What else is to be known.
    """

    source: str
    name: str
    relation: str
    nested_in: str = ""
    raw_rows: int = 0
    rows: int = 0
    versions_by: tuple[str, ...] = ()
    sampled_rows: int | None = None
    columns: tuple[ColumnProfile, ...] = ()
    keys: tuple[Key, ...] = ()
    primary_key: Key | None = None
    declared_key: tuple[str, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    cursors: tuple[Cursor, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """`source.table`, by which references name it."""
        return f"{self.source}.{self.name}"

    def column(self, name: str) -> ColumnProfile:
        """The column of that name; KeyError if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True)
class Reference:
    """A foreign key, inside a source or across sources.

    Attributes:
        from_table: `source.table` that refers.
        from_columns: Its columns.
        to_table: `source.table` that is referred to.
        to_columns: The columns there.
        is_across: Whether these are two sources.
        match: How values meet: `same`, `as_text` (types differ) or `normal_form` (also upper and
            lower case, blanks, punctuation or leading zeros differ).
        rows: Rows that refer, without those that have no value.
        orphan_rows: Rows whose value is not there.
        values: Different values.
        orphan_values: Different values that are not there.
        is_partial: Whether only some values belong there: the column points to several tables.
        is_one_to_one: Whether no two rows refer to the same one.
        name_score: How much the names speak for it, from 0 to 1.
        value_score: How unlikely it is that the values meet by chance, from 0 to 1.
        score: Both together with what is missing, from 0 to 1.
        reasons: The evidence in words.
    """

    from_table: str
    from_columns: tuple[str, ...]
    to_table: str
    to_columns: tuple[str, ...]
    is_across: bool
    match: str
    rows: int
    orphan_rows: int
    values: int
    orphan_values: int
    is_partial: bool
    is_one_to_one: bool
    name_score: float
    value_score: float
    score: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overlap:
    """Two columns of two tables that identify the same things.

    Attributes:
        left_table: `source.table`.
        left_column: Its column.
        right_table: Another one.
        right_column: Its column.
        kind: What meets: email, phone or identifier.
        shared: Different values that both have.
        left_values: Different values of the left one.
        right_values: Different values of the right one.
        match: As in `Reference`.
    """

    left_table: str
    left_column: str
    right_table: str
    right_column: str
    kind: str
    shared: int
    left_values: int
    right_values: int
    match: str


@dataclass(frozen=True)
class Entity:
    """The same kind of thing, known to several tables.

    Attributes:
        name: What to call it, from the tables' names.
        tables: The tables that hold one row for each.
        overlaps: What they have in common.
    """

    name: str
    tables: tuple[str, ...]
    overlaps: tuple[Overlap, ...]


@dataclass(frozen=True)
class Discovery:
    """What was found in the raw tables of some sources.

    Attributes:
        made_at: When, as UTC in ISO 8601.
        sources: The sources that were looked at.
        tables: Their tables.
        references: Foreign keys, best first.
        entities: The same things under different names.
        is_declared_used: Whether declared keys were taken into account.
        seconds: How long it took.
        format: Number of this form; a reader refuses a higher one.
    """

    made_at: str
    sources: tuple[str, ...]
    tables: tuple[TableProfile, ...]
    references: tuple[Reference, ...] = ()
    entities: tuple[Entity, ...] = ()
    is_declared_used: bool = True
    seconds: float = 0.0
    format: int = field(default=FORMAT)

    def table(self, full_name: str) -> TableProfile:
        """The table of that name (`source.table`); KeyError if there is none."""
        for table in self.tables:
            if table.full_name == full_name:
                return table
        raise KeyError(full_name)


def discovery_fields(found: Discovery) -> dict[str, Any]:
    """The discovery as JSON takes it; `format` stands first."""
    return {"format": found.format} | asdict(found)


def read_discovery(path: Path) -> Discovery:
    """Reads what `wellspring discover` has kept.

    Raises:
        BadInput: There is none, it is damaged, or a newer version of Wellspring wrote it.
    """
    hint = "Run `wellspring discover`."
    if not path.is_file():
        raise BadInput("nothing has been discovered yet", file=path, hint=hint)
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        if given["format"] > FORMAT:
            raise BadInput(
                f"this discovery is of format {given['format']}, known is {FORMAT}",
                file=path,
                hint="Bring Wellspring up to date, or run `wellspring discover` again.",
            )
        found: Discovery = _read(Discovery, given)
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput("this discovery cannot be read", file=path, hint=hint) from error
    return found


def _read(kind: Any, given: Any) -> Any:
    """A value of a declared type from what JSON made of it."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        inner = [part for part in get_args(kind) if part is not type(None)]
        return None if given is None else _read(inner[0], given)
    if origin is tuple:
        parts = get_args(kind)
        if len(parts) == 2 and parts[1] is Ellipsis:
            return tuple(_read(parts[0], item) for item in given)
        return tuple(_read(part, item) for part, item in zip(parts, given, strict=True))
    if is_dataclass(kind) and isinstance(given, Mapping):
        hints = get_type_hints(kind)
        known = {f.name for f in fields(kind)} & given.keys()
        return kind(**{name: _read(hints[name], given[name]) for name in known})  # type: ignore[operator]  # `kind` is a dataclass, which mypy narrows to an instance
    return given
