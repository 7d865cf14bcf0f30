"""Foreign keys inside and across sources, and the same things under different names.

profiles, keys -> columns that may refer, columns that identify -> common values (`values.pairs`) ->
names, surprise and containment weighed -> the best target of each column -> counted on all rows

That values are contained proves little: each column 1..n lies in each longer one. So chance is
weighed in bits, and where it explains what is seen, names must speak clearly. Left out: references
to rows that are identified by nothing but personal data; such tables are told as one entity.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner.discover.model import Entity, Overlap, Reference
from runner.discover.patterns import is_article_number, shape
from runner.discover.profile import is_number, is_text
from runner.discover.values import (
    Chance,
    Look,
    Pair,
    Place,
    chance_of,
    count_orphans,
    may_refer,
    normal,
    pairs,
)
from runner.discover.words import (
    GENERIC,
    entity_name,
    has_key_word,
    is_measure,
    is_own_key,
    likeness,
    stem,
)

if TYPE_CHECKING:
    import duckdb

# Bits of surprise at which chance is ruled out.
_CERTAIN = 16.0
_MOSTLY = 0.9
_PARTLY_VALUES = 10
_FEW_FORMS = 8
_LEAST_OVERLAP = 0.1
_LEAST_SHARED = 3
_KNOWN_TWICE = 0.5


@dataclass(frozen=True)
class Weighed:
    """A pair with what speaks for it.

    Attributes:
        pair: The columns.
        names: How much their names say, from 0 to 1.
        why: What the names say.
        chance: How unlikely chance is, from 0 to 1.
        is_partial: Whether only some values belong to the target.
    """

    pair: Pair
    names: float
    why: str
    chance: float
    is_partial: bool = False

    @property
    def score(self) -> float:
        """All evidence in one figure from 0 to 1."""
        share = self.pair.share
        points = 0.45 * self.names + 0.25 * self.chance + 0.25 * share
        return round(min(1.0, points + (0.05 if self.pair.target.is_primary else 0.0)), 3)


def find_references(
    connection: duckdb.DuckDBPyConnection, looks: Sequence[Look]
) -> tuple[list[Reference], list[Entity]]:
    """Finds foreign keys and common entities.

    Args:
        connection: The warehouse.
        looks: The tables.

    Returns:
        References by table and column, and entities by name.
    """
    places = [Place(look, column) for look in looks for column in look.profile.columns]
    children = [place for place in places if may_refer(place) and _could_be_told(place)]
    targets = [place for place in children if _may_be_referred_to(place)]
    met = pairs(connection, children, targets)
    known = {id(target): chance_of(target) for target in targets}
    weighed = [_weigh(pair, known[id(pair.target)]) for pair in met]
    chosen = _best([w for w in weighed if w is not None and not _is_twin(w)])
    found = [r for w in chosen if (r := _verified(connection, w)) is not None]
    found += _composite(connection, looks, found)
    twins = [w for w in weighed if w is not None and _is_twin(w)]
    order = sorted(found, key=lambda r: (r.is_across, r.from_table, r.from_columns, -r.score))
    return order, _entities(connection, twins, order)


def _could_be_told(place: Place) -> bool:
    """Personal data refers to nothing, except what can tell that two tables know one person."""
    personal = place.column.personal
    return personal is None or place.kind != "identifier" or personal.kind == "national_id"


def _may_be_referred_to(place: Place) -> bool:
    column, filled = place.column, place.look.profile.rows - place.column.nulls
    if place.look.profile.rows < 2 or column.distinct < 2:
        return False
    if place.kind != "identifier":
        return column.distinct >= _KNOWN_TWICE * filled
    if place.is_primary:
        return True
    return place.is_unique and _looks_like_identifier(place)


def _looks_like_identifier(place: Place) -> bool:
    """Short, without blanks, of digits or capitals: what people give as a number or a code."""
    if is_number(place.column.data_type):
        return has_key_word(place.column.name)
    values = place.values
    plain = [
        v for v in values if " " not in v.strip() and (v.isupper() or any(map(str.isdigit, v)))
    ]
    return len(plain) >= 0.95 * len(values)


def _weigh(pair: Pair, surprise: Chance) -> Weighed | None:
    """The pair with its evidence; None if that is not enough."""
    child, target = pair.child, pair.target
    if child.kind != target.kind:
        return None
    is_self = child.look is target.look
    names, why = likeness(child.column.name, target.column.name, target.look.profile.name, is_self)
    chance = min(1.0, surprise.bits(pair) / _CERTAIN)
    found = Weighed(pair, names, why, chance)
    if child.kind != "identifier":
        return found
    if is_self and (names == 0 or child.is_unique):
        return None
    if is_measure(child.column.name) and names < 0.8:
        return None
    if _is_key_of_its_own(child) and names < 0.9:
        return found if _meets_as_key(found) else None
    if _is_enough(found):
        return found
    if chance >= 0.7 and _part_is_enough(pair):
        return replace(found, is_partial=True)
    return found if _meets_as_key(found) else None


def _is_key_of_its_own(child: Place) -> bool:
    """Whether a column identifies the rows of its own table, so that it hardly refers to others."""
    return child.is_primary or (
        child.is_unique and is_own_key(child.column.name, child.look.profile.name)
    )


def _is_enough(found: Weighed) -> bool:
    names, share, child = found.names, found.pair.share, found.pair.child
    if found.chance < 0.5:
        return names >= 0.6 and share >= _MOSTLY
    if names >= 0.5:
        return share >= 0.5
    if names > 0:
        return share >= 0.8
    mixed = any(any(map(str.isdigit, v)) and any(map(str.isalpha, v)) for v in child.values)
    telling = has_key_word(child.column.name) or mixed or child.column.distinct >= 20
    return telling and share >= _MOSTLY and found.pair.found >= _LEAST_SHARED


def _part_is_enough(pair: Pair) -> bool:
    """Whether the values that have the target's form are there, though others have another form.

    Such a column refers to several tables.
    """
    if not is_text(pair.child.column.data_type) or pair.found < _PARTLY_VALUES:
        return False
    forms = {_with_letters(value) for value in pair.target.values}
    form = _with_letters
    if len(forms) > _FEW_FORMS:
        forms, form = {shape(normal(value)) for value in pair.target.values}, _without_letters
    alike = sum(form(value) in forms for value in pair.child.values)
    return 0 < alike < len(pair.child.values) and pair.found >= 0.8 * alike


def _with_letters(value: str) -> str:
    """The form of an identifier in which letters in front, such as `NA-`, tell what it is of."""
    return re.sub(r"[0-9]", "9", normal(value))


def _without_letters(value: str) -> str:
    return shape(normal(value))


def _meets_as_key(found: Weighed) -> bool:
    """Whether two columns that both identify rows have values in common, and not by chance."""
    pair = found.pair
    enough = pair.found >= _LEAST_SHARED and pair.share >= _LEAST_OVERLAP
    both = pair.child.is_unique and pair.target.is_unique
    return both and found.chance >= 0.7 and enough and _tells_apart(pair.child, pair.target)


def _is_twin(found: Weighed) -> bool:
    """Whether the pair tells that two tables know the same things, not that one refers."""
    child, target = found.pair.child, found.pair.target
    if child.look is target.look or found.is_partial:
        return False
    if child.kind != "identifier":
        return True
    filled = child.look.profile.rows - child.column.nulls
    different = child.is_unique or child.column.distinct >= 0.8 * filled
    own = child.is_primary or is_own_key(child.column.name, child.look.profile.name)
    return different and found.names < 0.9 and (own or not target.is_primary)


def _tells_apart(child: Place, target: Place) -> bool:
    """Whether identifiers are of no other kind of thing: letters, check digits, or one name.

    Plain numbers of two kinds of things meet everywhere.
    """
    words = stem(child.column.name)
    if words and words == stem(target.column.name) and not GENERIC.issuperset(words):
        return True
    values = child.values[:300]
    articles = sum(is_article_number(value) for value in values)
    lettered = sum(any(map(str.isalpha, v)) and len(v) >= 5 for v in values)
    return max(articles, lettered) >= _MOSTLY * len(values)


def _best(weighed: Sequence[Weighed]) -> list[Weighed]:
    """The best target of each column; a target in the same source before one in another.

    A column with values of several forms keeps all targets that explain a part of it.
    """
    weighed = [w for w in weighed if w.pair.child.kind == "identifier"]
    by_child: dict[tuple[str, str], list[Weighed]] = {}
    for found in weighed:
        child = found.pair.child
        by_child.setdefault((child.table, child.column.name), []).append(found)
    kept = []
    for group in by_child.values():
        group.sort(key=_rank)
        whole = [w for w in group if not w.is_partial]
        if whole and whole[0].pair.share >= 0.8:
            kept.append(whole[0])
            continue
        tables: set[str] = set()
        for found in group:
            if found.pair.target.table not in tables:
                tables.add(found.pair.target.table)
                kept.append(found)
    return kept


def _rank(found: Weighed) -> tuple[object, ...]:
    pair = found.pair
    covered = pair.found / max(1, pair.target.column.distinct)
    across = pair.child.source != pair.target.source
    key = pair.target.is_primary
    return (across, -round(found.score, 1), not key, -found.score, -covered, pair.target.table)


def _verified(connection: duckdb.DuckDBPyConnection, found: Weighed) -> Reference | None:
    """The reference with its counts on all rows; None if they do not bear it out."""
    pair = found.pair
    counted = count_orphans(connection, [pair.child], [pair.target])
    share = 1 - counted["orphan_values"] / max(1, counted["values"])
    if not counted["values"] or share < (0.02 if found.is_partial else pair.share * 0.8):
        return None
    match = _match(connection, [pair.child], [pair.target], counted)
    weighed = replace(found, pair=replace(pair, found=round(share * pair.asked)))
    return Reference(
        from_table=pair.child.table,
        from_columns=(pair.child.column.name,),
        to_table=pair.target.table,
        to_columns=(pair.target.column.name,),
        is_across=pair.child.source != pair.target.source,
        match=match,
        rows=counted["rows"],
        orphan_rows=counted["orphan_rows"],
        values=counted["values"],
        orphan_values=counted["orphan_values"],
        is_partial=found.is_partial or share < 0.5,
        is_one_to_one=counted["most"] == 1,
        name_score=found.names,
        value_score=round(found.chance, 3),
        score=weighed.score,
        reasons=tuple(_reasons(found, counted, match)),
    )


def _match(
    connection: duckdb.DuckDBPyConnection,
    children: Sequence[Place],
    targets: Sequence[Place],
    counted: dict[str, int],
) -> str:
    plain = count_orphans(connection, children, targets, as_text=True)
    if plain["values"] - plain["orphan_values"] < counted["values"] - counted["orphan_values"]:
        return "normal_form"
    both = zip(children, targets, strict=True)
    alike = all(is_text(c.column.data_type) == is_text(t.column.data_type) for c, t in both)
    return "same" if alike else "as_text"


def _reasons(found: Weighed, counted: dict[str, int], match: str) -> list[str]:
    pair = found.pair
    met = counted["values"] - counted["orphan_values"]
    told = [f"{met:,} of {counted['values']:,} different values are there"]
    if counted["orphan_rows"]:
        told.append(
            f"{counted['orphan_rows']:,} of {counted['rows']:,} rows refer to nothing there"
        )
    if found.why:
        told.append(f"the name {found.why}")
    if found.chance >= 0.7:
        told.append("the values cannot meet by chance")
    elif found.chance < 0.3:
        told.append("numbers without gaps would meet by chance too: the name decides")
    if match == "normal_form":
        told.append("written differently: case, punctuation or leading zeros")
    elif match == "as_text":
        told.append(f"types differ: {pair.child.column.data_type}, {pair.target.column.data_type}")
    if found.is_partial:
        told.append("the column refers to several tables, told apart by the form of its values")
    return told


def _composite(
    connection: duckdb.DuckDBPyConnection, looks: Sequence[Look], found: Sequence[Reference]
) -> list[Reference]:
    """References to keys of several columns, by columns of the same names."""
    wholes = []
    for target in looks:
        key = target.profile.primary_key
        if key is None or len(key.columns) < 2:
            continue
        names = {column.name: column for column in target.profile.columns}
        for child in looks:
            own = {column.name: column for column in child.profile.columns}
            is_child = child is not target and set(key.columns) <= own.keys()
            if not is_child or child.profile.source != target.profile.source:
                continue
            pairs_of = [(Place(child, own[n]), Place(target, names[n])) for n in key.columns]
            if all(may_refer(place) for pair in pairs_of for place in pair):
                reference = _verified_together(connection, pairs_of)
                if reference is not None:
                    wholes.append(reference)
    return [r for r in wholes if not _is_reverse(r, wholes)]


def _is_reverse(reference: Reference, others: Sequence[Reference]) -> bool:
    """Of two tables with the same key, the one with fewer rows refers."""
    return any(
        other.from_table == reference.to_table
        and other.to_table == reference.from_table
        and (other.values, other.from_table) < (reference.values, reference.from_table)
        for other in others
    )


def _verified_together(
    connection: duckdb.DuckDBPyConnection, both: Sequence[tuple[Place, Place]]
) -> Reference | None:
    children, targets = [c for c, _ in both], [t for _, t in both]
    counted = count_orphans(connection, children, targets)
    share = 1 - counted["orphan_values"] / max(1, counted["values"])
    if not counted["values"] or share < _MOSTLY:
        return None
    met = counted["values"] - counted["orphan_values"]
    return Reference(
        from_table=children[0].table,
        from_columns=tuple(place.column.name for place in children),
        to_table=targets[0].table,
        to_columns=tuple(place.column.name for place in targets),
        is_across=False,
        match=_match(connection, children, targets, counted),
        rows=counted["rows"],
        orphan_rows=counted["orphan_rows"],
        values=counted["values"],
        orphan_values=counted["orphan_values"],
        is_partial=False,
        is_one_to_one=counted["most"] == 1,
        name_score=1.0,
        value_score=1.0,
        score=round(0.75 + 0.25 * share, 3),
        reasons=(
            f"{met:,} of {counted['values']:,} different combinations are there",
            "all columns of the key have the same names",
        ),
    )


def _entities(
    connection: duckdb.DuckDBPyConnection,
    twins: Sequence[Weighed],
    references: Sequence[Reference],
) -> list[Entity]:
    """Tables that know the same things, put together as far as their overlaps reach.

    Columns that refer to the same third table meet too, and tell nothing more.
    """
    referring = {(r.from_table, r.from_columns[0]) for r in references}
    overlaps: dict[frozenset[tuple[str, str]], Overlap] = {}
    for found in sorted(twins, key=lambda w: (w.pair.child.table, w.pair.target.table)):
        child, target = found.pair.child, found.pair.target
        ends = frozenset([(child.table, child.column.name), (target.table, target.column.name)])
        if ends in overlaps or found.pair.found < _LEAST_SHARED or ends & referring:
            continue
        if child.column.distinct < _KNOWN_TWICE * (child.look.profile.rows - child.column.nulls):
            continue
        if child.kind == "identifier" and not _tells_apart(child, target):
            continue
        counted = count_orphans(connection, [child], [target])
        shared = counted["values"] - counted["orphan_values"]
        if shared < max(_LEAST_SHARED, _LEAST_OVERLAP * min(counted["values"], counted["target"])):
            continue
        match = _match(connection, [child], [target], counted)
        overlaps[ends] = Overlap(
            left_table=child.table,
            left_column=child.column.name,
            right_table=target.table,
            right_column=target.column.name,
            kind=child.kind,
            shared=shared,
            left_values=counted["values"],
            right_values=counted["target"],
            match=match,
        )
    return _grouped(list(overlaps.values()))


def _grouped(overlaps: Sequence[Overlap]) -> list[Entity]:
    groups: list[set[str]] = []
    for overlap in overlaps:
        ends = {overlap.left_table, overlap.right_table}
        touched = [group for group in groups if group & ends]
        groups = [group for group in groups if not group & ends] + [ends.union(*touched)]
    entities = []
    for group in groups:
        tables = sorted(group)
        own = tuple(o for o in overlaps if o.left_table in group)
        entities.append(
            Entity(entity_name([t.partition(".")[2] for t in tables]), tuple(tables), own)
        )
    return sorted(entities, key=lambda entity: (entity.name, entity.tables))
