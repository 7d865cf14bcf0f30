"""Which values of one column stand in another: samples looked up in one pass a target.

different values of each column -> normal form -> `Probes` -> one look into each target column ->
how many of each column's values are there -> `Pair`, verified on all rows by `count_orphans`

The normal form drops what systems write differently: upper and lower case, blanks, punctuation,
leading zeros; of telephone numbers it keeps the last nine digits. Left out: spelling.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingestion.evolution import quoted
from runner.discover.areas import Area
from runner.discover.model import ColumnProfile, TableProfile
from runner.discover.patterns import is_placeholder, placeholders, shape
from runner.discover.profile import Sampled, is_nested, is_number, is_text, is_time

if TYPE_CHECKING:
    import duckdb

_LONGEST = 64
_NO_REFERENCE = ("date", "timestamp", "epoch", "boolean", "json", "url", "decimal", "ip")
_DROPPED = "-_ ./:"


@dataclass
class Look:
    """A table with what has been found out about it.

    Attributes:
        area: Its rows.
        profile: Its profile, keys included.
        sampled: Different values by column.
    """

    area: Area
    profile: TableProfile
    sampled: dict[str, Sampled]


@dataclass(frozen=True)
class Place:
    """A column of a table, as one that may refer or be referred to.

    Attributes:
        look: The table.
        column: The column.
    """

    look: Look
    column: ColumnProfile

    @property
    def table(self) -> str:
        """`source.table`."""
        return self.look.profile.full_name

    @property
    def source(self) -> str:
        """Name of the source."""
        return self.look.profile.source

    @property
    def values(self) -> list[str]:
        """The different values that were looked at."""
        return self.look.sampled[self.column.name].values

    @property
    def kind(self) -> str:
        """email, phone or identifier."""
        personal = self.column.personal
        known = personal is not None and personal.share is not None
        if known and personal is not None and personal.kind in ("email", "phone"):
            return personal.kind
        return "identifier"

    @property
    def is_unique(self) -> bool:
        """Whether it is a key alone."""
        return any(key.columns == (self.column.name,) for key in self.look.profile.keys) or (
            self.is_primary
        )

    @property
    def is_primary(self) -> bool:
        """Whether it is the primary key alone."""
        key = self.look.profile.primary_key
        return key is not None and key.columns == (self.column.name,)

    @property
    def is_part_of_key(self) -> bool:
        """Whether it is a part of the primary key, or all of it."""
        key = self.look.profile.primary_key
        return key is not None and self.column.name in key.columns


def may_refer(place: Place) -> bool:
    """Whether a column's type and values can be those of a reference."""
    column = place.column
    if is_nested(column.data_type) or is_time(column.data_type) or column.data_type == "BOOLEAN":
        return False
    if (column.longest or 0) > _LONGEST or not place.values:
        return False
    if column.behind is not None and column.behind.kind in _NO_REFERENCE:
        return False
    if is_number(column.data_type):
        return all(_whole(value) for value in place.values)
    return True


def _whole(value: str) -> bool:
    return bool(re.fullmatch(r"-?\d+(\.0+)?", value))


def normal_sql(place: Place) -> str:
    """The normal form of a column's values as SQL; null for the empty text."""
    column = quoted(place.column.name)
    if place.kind == "phone":
        digits = f"regexp_replace({column}, '[^0-9]', '', 'g')"
        return f"case when length({digits}) >= 7 then right({digits}, 9) end"
    kind = place.column.data_type
    if is_number(kind):
        exact = column if "INT" in kind else f"{column}::decimal(38, 0)"
        return f"{exact}::varchar"
    text = f"trim({column})" if is_text(kind) else f"{column}::varchar"
    drop = f"translate(lower({text}), '{_DROPPED}', '')"
    return f"coalesce(nullif(ltrim({drop}, '0'), ''), case when {drop} <> '' then '0' end)"


def referring_sql(place: Place) -> str:
    """The normal form of what a column refers to; null where a placeholder stands for nothing."""
    if not is_text(place.column.data_type) or place.kind == "phone":
        return normal_sql(place)
    words = ", ".join(f"'{word}'" for word in sorted(placeholders()))
    written = f"lower(trim({quoted(place.column.name)}))"
    return f"case when {written} not in ({words}) then {normal_sql(place)} end"


def normal(value: str) -> str:
    """The normal form of one identifier."""
    text = value.strip().lower()
    for mark in _DROPPED:
        text = text.replace(mark, "")
    return text.lstrip("0") or text[-1:]


@dataclass(frozen=True)
class Pair:
    """A column whose looked-at values stand, in part, in another one.

    Attributes:
        child: The column that may refer.
        target: The column that it may refer to.
        found: Values of the sample that are there.
        asked: Values of the sample.
    """

    child: Place
    target: Place
    found: int
    asked: int

    @property
    def share(self) -> float:
        """Share of the looked-at values that are there."""
        return self.found / self.asked if self.asked else 0.0


def pairs(
    connection: duckdb.DuckDBPyConnection, children: Sequence[Place], targets: Sequence[Place]
) -> list[Pair]:
    """Looks the children's values up in the targets, one pass a target.

    Args:
        connection: The warehouse.
        children: Columns that may refer.
        targets: Columns that may be referred to.

    Returns:
        Pairs with at least one common value, of two different columns.
    """
    asked = _put_probes(connection, children)
    forms = [_forms(child) for child in children]
    found = []
    for target in targets:
        own = _forms(target)
        if not any(
            own & form and child.kind == target.kind and not _is_same(child, target)
            for child, form in zip(children, forms, strict=True)
        ):
            continue
        rows = connection.execute(
            "select place, count(*) from discover_probes where value in "
            f"(select {normal_sql(target)} from {target.look.area.sql}) and is_phone = ? "
            "group by 1",
            [target.kind == "phone"],
        ).fetchall()
        for number, hits in sorted(rows):
            child = children[number]
            if not _is_same(child, target):
                found.append(Pair(child, target, hits, asked[number]))
    return found


def _is_same(child: Place, target: Place) -> bool:
    return child.look is target.look and child.column.name == target.column.name


def _forms(place: Place) -> frozenset[str]:
    """What the values look like in normal form: numbers, or texts of some length.

    Columns without a common form have no common value, and need not be compared.
    """
    if place.kind != "identifier":
        return frozenset({place.kind})
    if is_number(place.column.data_type):
        return frozenset({"number"})
    found = {normal(value) for value in place.values}
    return frozenset("number" if v.isdigit() else f"{len(v)}" for v in found)


def _put_probes(connection: duckdb.DuckDBPyConnection, children: Sequence[Place]) -> dict[int, int]:
    """Writes the children's values in normal form into a table; returns how many each has."""
    import pyarrow

    numbers: list[int] = []
    texts: list[str] = []
    phones: list[bool] = []
    for number, child in enumerate(children):
        phone = child.kind == "phone"
        forms = set(_normal_values(child, phone))
        numbers += [number] * len(forms)
        phones += [phone] * len(forms)
        texts += sorted(forms)
    table = pyarrow.table(
        {
            "place": pyarrow.array(numbers, pyarrow.int32()),
            "value": pyarrow.array(texts, pyarrow.string()),
            "is_phone": pyarrow.array(phones, pyarrow.bool_()),
        }
    )
    connection.register("discover_given", table)
    connection.execute(
        "create or replace temp table discover_probes as select * from discover_given"
    )
    connection.unregister("discover_given")
    return dict(Counter(numbers))


def _normal_values(child: Place, is_phone: bool) -> list[str]:
    if is_phone:
        digits = [re.sub(r"[^0-9]", "", value) for value in child.values]
        return [text[-9:] for text in digits if len(text) >= 7]
    if is_number(child.column.data_type):
        return [value.partition(".")[0] for value in child.values]
    return [normal(v) for v in child.values if v.strip() and not is_placeholder(v)]


@dataclass(frozen=True)
class Chance:
    """How surprising it is that a value stands in a column.

    Attributes:
        form: Bits for each value, because letters and lengths agree.
        gaps: Bits for each value, because numbers lie far apart.
        place: Bits for all values together, because the numbers begin far from 1.
    """

    form: float = 0.0
    gaps: float = 0.0
    place: float = 0.0

    def bits(self, pair: Pair) -> float:
        """Bits that speak against chance in a pair with this target.

        Where the values that meet fill a range, that range is full in the target too; then it only
        surprises that both have a full range there, if it lies far from 1.
        """
        numbers = _numbers(pair.child.values) if self.gaps else []
        if not numbers:
            return self.form * pair.found + self.place
        low, high = min(numbers), max(numbers)
        width = high - low + 1
        met = max(pair.found, pair.child.column.distinct * pair.share)
        gaps = max(0.0, math.log2(width / max(1.0, met)))
        place = math.log2(high / width) if low > width else 0.0
        return (self.form + min(self.gaps, gaps)) * pair.found + max(self.place, place)


def chance_of(target: Place) -> Chance:
    """How surprising values of a column are elsewhere.

    Numbers from 1 to n stand in every longer column of that kind, so a dense column surprises
    nobody; numbers far apart, letters in front and codes of a fixed length do.
    """
    texts = target.values
    if not texts:
        return Chance()
    distinct = max(1, target.column.distinct)
    forms = Counter(shape(text) for text in texts[:300])
    form = forms.most_common(1)[0][0]
    numbers = _numbers(texts)
    letters = sum(c in "Aa" for c in form)
    if len(numbers) < 0.9 * len(texts):
        if letters == len(form) <= 3 and len(forms) == 1:
            return Chance(form=max(0.0, math.log2(26 ** len(form) / distinct)))
        return Chance(form=6.0)
    low, high = min(numbers), max(numbers)
    width = high - low + 1
    gaps = math.log2(width / distinct) if width > 1.5 * distinct else 0.0
    place = math.log2(high / width) if low > width > 0 else 0.0
    return Chance(3.0 * min(letters, 4), min(10.0, gaps), place)


def _numbers(texts: Sequence[str]) -> list[int]:
    """The digits of each text that has any."""
    return [int(digits) for text in texts if (digits := re.sub(r"[^0-9]", "", text))]


def count_orphans(
    connection: duckdb.DuckDBPyConnection,
    children: Sequence[Place],
    targets: Sequence[Place],
    as_text: bool = False,
) -> dict[str, Any]:
    """Counts, on all rows, what refers to nothing.

    Args:
        connection: The warehouse.
        children: The columns that refer.
        targets: The columns that they refer to, in the same order.
        as_text: Compare the values as they are written, not their normal forms.

    Returns:
        `values`, `orphan_values`, `rows`, `orphan_rows`, `most` rows of one value, and `target`,
        the different values there.
    """

    def listed(places: Sequence[Place]) -> tuple[str, str]:
        forms = [_as_text(p) if as_text else referring_sql(p) for p in places]
        names = [f"v{i}" for i in range(len(places))]
        columns = ", ".join(f"{form} as {name}" for form, name in zip(forms, names, strict=True))
        filled = " and ".join(f"{name} is not null" for name in names)
        return columns, filled

    by = ", ".join(f"v{i}" for i in range(len(children)))
    own, own_filled = listed(children)
    their, their_filled = listed(targets)
    row = connection.execute(
        f"with child as (select {by}, count(*) as n from (select {own} from "
        f"{children[0].look.area.sql}) where {own_filled} group by {by}), "
        f"target as (select distinct {by} from (select {their} from "
        f"{targets[0].look.area.sql}) where {their_filled}), "
        f"met as (select child.n, target.v0 is not null as is_there from child left join target "
        f"using ({by})) select count(*), count(*) filter (where not is_there), "
        "coalesce(sum(n), 0)::bigint, coalesce(sum(n) filter (where not is_there), 0)::bigint, "
        "coalesce(max(n), 0), (select count(*) from target) from met"
    ).fetchone()
    assert row is not None
    names = ("values", "orphan_values", "rows", "orphan_rows", "most", "target")
    return dict(zip(names, row, strict=True))


def _as_text(place: Place) -> str:
    column = quoted(place.column.name)
    if not is_text(place.column.data_type):
        return f"{column}::varchar"
    words = ", ".join(f"'{word}'" for word in sorted(placeholders()))
    return f"case when lower(trim({column})) not in ({words}, '') then {column} end"
