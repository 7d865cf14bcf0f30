"""What dbt sent for a node, in the form in which it can be sent again.

statements of a node, as dbt executed them -> `recorded` -> `Recording`: answers, then statements

dbt asks the catalog what is there and swaps tables by names that it makes up; what is kept says
where the swap comes, and whoever plays it looks at the catalog itself. What a macro asks with
`asked` is kept with its answer, and holds as long as the answer is the same. A node that asks
anything else is not kept: its text may depend on what it is told. What a macro would have sent with
other answers it tells with `rehearse`; that is kept as well, so that the first load after a first
build needs no dbt. Left out: which nodes may be kept at all, which `store` decides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

# Stands in a recording where whatever bears the node's name gives way.
GIVE_WAY = "--give way"
_COMMENT = re.compile(r"\A\s*/\*.*?\*/\s*", re.DOTALL)
_LINE_COMMENTS = re.compile(r"\A(\s*--[^\n]*\n)+")
_CONTROL = re.compile(r"(begin|commit|rollback)\b[^;]*;?\s*\Z", re.IGNORECASE)
_ASKS = re.compile(
    r"(select|explain|with|from|describe|show|pragma|summarize|values)\b", re.IGNORECASE
)
# What dbt asks the catalog about what it is going to replace or add to, and what the code decides.
_CATALOG = re.compile(
    r"\A\s*(select\s+(database_name, type|index_name|table_name, constraint_type|type)\s+"
    r"from duckdb_\w+\(\)|with recursive fks as \(|pragma table_info\(|describe\b)"
    r"|\bfrom (system\.)?information_schema\.\w+"
    r"|\A\s*explain\b|\bfrom duckdb_functions\(\)|\bfrom \(describe\b"
    r"|\A\s*select version\(\)|\bwhere false\s+limit 0\b",
    re.IGNORECASE,
)
# dbt cuts what it shows of a seed's data after 512.
_SHOWN_LETTERS = 500
_TEMPORARY_NAME = re.compile(r"__dbt_tmp\d{14,}")
_TEMPORARY = re.compile(r"\Acreate\s+temporary\s+table\b", re.IGNORECASE)
Sent = tuple[str, bool | None]


@dataclass(frozen=True)
class Recording:
    """What builds a node, one way.

    Attributes:
        statements: What to execute, in order; `GIVE_WAY` among them.
        answers: Queries, and what they must be answered with for the statements to hold.
        on_existing: Whether dbt could add to a relation that was there.
    """

    statements: tuple[str, ...]
    answers: tuple[tuple[str, bool], ...]
    on_existing: bool

    def as_fields(self) -> list[Any]:
        """The recording, fit for JSON."""
        return [self.statements, self.answers, self.on_existing]

    @classmethod
    def of_fields(cls, fields: list[Any]) -> Recording:
        """A recording as `as_fields` gave it."""
        statements, answers, on_existing = fields
        return cls(tuple(statements), tuple((sql, so) for sql, so in answers), on_existing)


@dataclass(frozen=True)
class Rehearsed:
    """What a macro would have sent with other answers.

    Attributes:
        place: How many statements of the node had been sent; it stands for the last of these that
            asks nothing.
        sql: The statement.
        answers: Queries, and what they would have been answered with.
    """

    place: int
    sql: str
    answers: tuple[tuple[str, bool], ...]

    @classmethod
    def of_log(cls, told: str, place: int) -> Rehearsed:
        """What the macro `rehearse` logged."""
        found = json.loads(told)
        answers = tuple((sql.strip(), bool(answer)) for sql, answer in found["when"])
        return cls(place, found["sql"], answers)

    def sent(self, really: Sequence[Sent]) -> list[Sent]:
        """What would have been sent for the node, where `really` was."""
        others = list(really)
        for place in range(self.place - 1, -1, -1):
            bare = _LINE_COMMENTS.sub("", plain(others[place][0])).lstrip()
            if not _ASKS.match(bare) and not _CONTROL.match(bare):
                others[place] = (self.sql, None)
                break
        return [*self.answers, *(one for one in others if one[1] is None)]


def plain(sql: str) -> str:
    """A statement without dbt's comment, and with a name where dbt makes one of the time."""
    text = _COMMENT.sub("", sql).strip()
    text = _TEMPORARY.sub("create or replace temporary table", text)
    return _TEMPORARY_NAME.sub("__dbt_tmp", text)


def recorded(relation: str, sent: Iterable[Sent], on_existing: bool) -> Recording | None:
    """What builds a node, learnt from what dbt sent for it.

    Args:
        relation: The node's relation, quoted as dbt quotes it; empty for a hook.
        sent: The statements, in order, each with the answer that a macro was given.
        on_existing: Whether dbt could add to a relation that was there.

    Returns:
        The recording; None if it cannot be played again.
    """
    statements: list[str] = []
    answers: list[tuple[str, bool]] = []
    is_made = False
    for sql, answer in sent:
        if sql.rstrip().endswith("...") and len(sql) > _SHOWN_LETTERS:
            return None
        # dbt shows a statement that loads a seed with dots behind it.
        text = plain(sql).removesuffix("...").rstrip()
        bare = _LINE_COMMENTS.sub("", text).lstrip()
        if not bare or _CONTROL.match(bare):
            continue
        if answer is not None:
            answers.append((text, answer))
        elif _CATALOG.search(bare) and _ASKS.match(bare):
            continue
        elif _ASKS.match(bare):
            return None
        elif relation and _is_swap(relation, bare):
            continue
        else:
            if relation and not is_made and _makes(relation, bare):
                is_made = True
                # What replaces a table may look at it first.
                if not (on_existing and _replaces(relation, bare)):
                    statements.append(GIVE_WAY)
            statements.append(text)
    return Recording(tuple(statements), tuple(answers), on_existing)


def _replaces(relation: str, text: str) -> bool:
    """Whether a statement puts another table in the place of the relation, by itself."""
    made = rf"\bcreate\s+or\s+replace\s+table\s+{re.escape(relation)}(?!\w)"
    return bool(re.search(made, text, re.IGNORECASE))


def _beside(relation: str, suffix: str) -> str:
    return re.escape(relation.removesuffix('"') + f'__dbt_{suffix}"')


def _is_swap(relation: str, text: str) -> bool:
    """Whether a statement only moves or drops what was there."""
    here = re.escape(relation)
    names = f"({here}|{_beside(relation, 'backup')}|{_beside(relation, 'tmp')})"
    dropped = rf"drop\s+(table|view)\s+if\s+exists\s+{names}(\s+cascade)?\s*;?\s*\Z"
    moved = rf'alter\s+(table|view)\s+{here}\s+rename\s+to\s+"[^"]+__dbt_backup"\s*;?\s*\Z'
    return bool(re.match(f"({dropped}|{moved})", text, re.IGNORECASE))


def _makes(relation: str, text: str) -> bool:
    """Whether a statement gives the relation its name."""
    here = re.escape(relation)
    made = rf"\bcreate\s+(or\s+replace\s+)?(table|view)\s+(if\s+not\s+exists\s+)?{here}(?!\w)"
    moved = rf"\Aalter\s+(table|view)\s+{_beside(relation, 'tmp')}\s+rename\s+to\s+"
    return bool(re.search(f"({made}|{moved})", text, re.IGNORECASE))
