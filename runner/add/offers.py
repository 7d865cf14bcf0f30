"""What a system offers, as named values between asking it and writing its declaration.

`Place` (where it is) -> `Listing` (what is there) -> `Offer` a table (columns, key, cursor, why)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["database", "files", "rest", "stream"]


@dataclass(frozen=True)
class Place:
    """A system and the connection that leads to it.

    Attributes:
        kind: How it is read.
        connection: Name of its connection.
        url: Its address, with what it needs to log in.
        options: Further keys of the connection, such as `token`.
        told: What it is, in words: "PostgreSQL database crm".
    """

    kind: Kind
    connection: str
    url: str = field(repr=False)
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    told: str = ""


@dataclass(frozen=True)
class OfferedColumn:
    """A column as the loader would see it.

    Attributes:
        name: Its name in raw.
        data_type: Its type in raw.
        description: What is known about it.
    """

    name: str
    data_type: str
    description: str


@dataclass(frozen=True)
class Proposal:
    """Columns that are proposed for something, and why.

    Attributes:
        columns: Their names as the source has them.
        why: The evidence, in words.
    """

    columns: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Offer:
    """A table that can be declared.

    Attributes:
        name: Name of the raw table.
        description: One row per what.
        columns: Its columns.
        ingest: What `config.meta.ingest` says beside key and cursor.
        key: What identifies a row; None if nothing does.
        cursor: What tells which rows are new or changed; None if nothing does.
        notes: What a person should know.
    """

    name: str
    description: str
    columns: tuple[OfferedColumn, ...]
    ingest: dict[str, Any] = field(default_factory=dict)
    key: Proposal | None = None
    cursor: Proposal | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """Something that could become a table.

    Attributes:
        label: How the system calls it; what selections name.
        name: The raw table's name.
        size: How much it holds, in words.
        what: What it is, in words: table, view, csv files.
        offer: Looks closer at it.
    """

    label: str
    name: str
    size: str
    what: str
    offer: Callable[[], Offer] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Found:
    """What a system has.

    Attributes:
        listings: What could become tables.
        shared: Keys of `ingest` that hold for all tables, beside `kind` and `connection`.
        told: What was done to find out, in words.
    """

    listings: Sequence[Listing]
    shared: dict[str, Any] = field(default_factory=dict)
    told: str = ""
