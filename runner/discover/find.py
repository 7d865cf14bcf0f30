"""`wellspring discover`: what raw tables hold and how they belong together.

declarations, warehouse (read-only) -> areas -> profile and keys of each -> references and entities
-> `Discovery` -> `discovery.json` in the state folder, beside it `discovery.html`

It asks for the run's lock, because dbt reads the project meanwhile; data are only read. Left out:
what is made of the findings, which is `wellspring draft`'s.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.durable import write_whole
from ingestion.errors import BadInput
from ingestion.lock import RunLock, lock_path
from ingestion.settings import Settings
from runner.discover import keys as keys_of
from runner.discover.areas import Area, nested_areas, only_current, open_areas
from runner.discover.dependencies import find_cursors, find_dependencies
from runner.discover.model import Discovery, TableProfile, discovery_fields
from runner.discover.profile import profile_columns
from runner.discover.references import find_references
from runner.discover.values import Look
from runner.discover.words import cursor_kind, is_own_key
from runner.history import new_run_id
from runner.query import nearest

if TYPE_CHECKING:
    import duckdb

    from ingestion.declarations import SourceDeclaration

# With fewer rows in a load or file on average, most columns are unique within each.
_ROWS_TOGETHER = 10
_TELLS_VERSIONS = 0.5
Told = Callable[[str], None]


def discovery_path(settings: Settings) -> Path:
    """Where the last discovery is kept, for machines; the page lies beside it."""
    return settings.state_dir / "discovery" / "discovery.json"


def page_path(settings: Settings) -> Path:
    """Where the page of the last discovery is kept."""
    return discovery_path(settings).with_suffix(".html")


def discover_sources(
    settings: Settings,
    wanted: Sequence[str],
    command: str,
    *,
    sample: int | None = None,
    use_declared: bool = True,
    on_table: Told = lambda name: None,
) -> Discovery:
    """Looks at the raw tables of sources and keeps what was found.

    Args:
        settings: The project's settings.
        wanted: Names of sources; all if none is named.
        command: The command line, shown to whoever is refused meanwhile.
        sample: Rows of each table that figures are made of at most; None for all.
        use_declared: Whether to take declared keys into account.
        on_table: Is told the name of each table before it is looked at.

    Raises:
        BadInput: There is no such source, or nothing has been loaded.
        LockHeld: A run is under way.
    """
    with RunLock(lock_path(settings), new_run_id, command):
        declarations = declared_sources(settings, wanted)
        return keep_discovery(
            settings, declarations, sample=sample, use_declared=use_declared, on_table=on_table
        )


def keep_discovery(
    settings: Settings,
    declarations: Sequence[SourceDeclaration],
    *,
    sample: int | None = None,
    use_declared: bool = True,
    on_table: Told = lambda name: None,
) -> Discovery:
    """Looks at the raw tables of sources for one who holds the lock, and keeps what was found.

    Args:
        settings: The project's settings.
        declarations: The sources.
        sample: Rows of each table that figures are made of at most; None for all.
        use_declared: Whether to take declared keys into account.
        on_table: Is told the name of each table before it is looked at.

    Raises:
        BadInput: Nothing of these sources has been loaded.
    """
    from ingestion.warehouse import connect
    from runner.discover.page import discovery_page

    with closing(connect(settings, read_only=True)) as connection:
        found = discover(
            connection,
            declarations,
            sample=sample,
            use_declared=use_declared,
            on_table=on_table,
        )
    target = discovery_path(settings)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(page_path(settings), discovery_page(found))
    write_whole(target, json.dumps(discovery_fields(found), indent=1, default=str) + "\n")
    return found


def declared_sources(settings: Settings, wanted: Sequence[str]) -> list[SourceDeclaration]:
    """The sources of these names; all if none is named.

    Raises:
        BadInput: There is no such source, or no warehouse yet.
    """
    from ingestion.declarations import load_declarations
    from ingestion.warehouse import connect
    from runner.transform import Dbt

    # Before the project is parsed: this tells in plain words that it is not there, or held.
    connect(settings, read_only=True).close()
    known = load_declarations(Dbt(settings).manifest.to_dict())
    names = [source.name for source in known]
    for name in wanted:
        if name not in names:
            near = nearest(name, names)[:3] or names
            raise BadInput(f"no source {name} is declared", hint=f"Perhaps: {', '.join(near)}.")
    return [source for source in known if not wanted or source.name in wanted]


def discover(
    connection: duckdb.DuckDBPyConnection,
    declarations: Sequence[SourceDeclaration],
    *,
    sample: int | None = None,
    use_declared: bool = True,
    on_table: Told = lambda name: None,
) -> Discovery:
    """Looks at the raw tables of sources.

    Args:
        connection: The warehouse; it is only read.
        declarations: The sources.
        sample: Rows of each table that figures are made of at most; None for all.
        use_declared: Whether to take declared keys into account.
        on_table: Is told the name of each table before it is looked at.

    Raises:
        BadInput: Nothing of these sources has been loaded.
    """
    began = time.monotonic()
    areas = open_areas(connection, declarations)
    if not areas:
        raise BadInput("no table of these sources is loaded", hint="Run `wellspring load` first.")
    looks: list[Look] = []
    ahead = list(areas)
    while ahead:
        area = ahead.pop(0)
        on_table(area.full_name)
        # Numbers of temporary tables: some for each area and what is nested in it.
        number = 1000 * (len(looks) + 1)
        if not use_declared:
            area.declared_key = ()
        look = _look(connection, area, number, sample)
        looks.append(look)
        json_columns = [
            c.name for c in look.profile.columns if c.behind is not None and c.behind.kind == "json"
        ]
        ahead += nested_areas(connection, area, json_columns, number + 1)
        looks[-1] = replace(look, profile=replace(look.profile, notes=tuple(area.notes)))
    on_table("references")
    references, entities = find_references(connection, looks)
    return Discovery(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        sources=tuple(sorted({source.name for source in declarations})),
        tables=tuple(sorted((look.profile for look in looks), key=lambda t: t.full_name)),
        references=tuple(references),
        entities=tuple(entities),
        is_declared_used=use_declared,
        seconds=round(time.monotonic() - began, 2),
    )


def _look(
    connection: duckdb.DuckDBPyConnection, area: Area, number: int, sample: int | None
) -> Look:
    """The profile of an area with its keys, all but what other tables tell."""
    _take_current(connection, area, number)
    columns, sampled = profile_columns(connection, area, sample)
    keys = keys_of.find_keys(connection, area, columns)
    columns = keys_of.exact(columns, keys, area.rows)
    declared = keys_of.declared_key(connection, area, columns)
    profile = TableProfile(
        source=area.source,
        name=area.name,
        relation=area.relation,
        nested_in=area.nested_in,
        raw_rows=area.raw_rows,
        rows=area.rows,
        versions_by=area.versions_by,
        sampled_rows=sample if sample is not None and area.rows > sample else None,
        columns=tuple(columns),
        keys=tuple(keys),
        primary_key=keys_of.primary_key(keys, declared),
        declared_key=area.declared_key,
        dependencies=tuple(find_dependencies(connection, area, columns, keys)),
        cursors=tuple(find_cursors(connection, area, columns)),
    )
    return Look(area, profile, sampled)


def _take_current(connection: duckdb.DuckDBPyConnection, area: Area, number: int) -> None:
    """Leaves the newest version of each row, by the declared key or by one that arrivals tell."""
    if area.nested_in or not area.rows:
        return
    key = area.declared_key or _key_of_arrivals(connection, area)
    if not key:
        return
    duplicates, _ = keys_of.count(connection, area, key)
    if duplicates or area.raw_rows > area.rows:
        only_current(connection, area, key, number)
        if not area.declared_key:
            told = ", ".join(key)
            area.notes.append(f"versions of one row are told apart by ({told}), as arrivals tell")


def _key_of_arrivals(connection: duckdb.DuckDBPyConnection, area: Area) -> tuple[str, ...]:
    """Columns that are a key within each load or file, or together with the time of a change.

    What comes again, or was changed later, is a newer version.
    """
    ways = [("_load_id", area.loads), ("_file", area.files)]
    ways = [(name, count) for name, count in ways if 1 < count <= area.rows / _ROWS_TOGETHER]
    if not ways:
        return ()
    columns, _ = profile_columns(connection, area, None)
    for within in ("", *(name for name, _ in ways)):
        found = keys_of.find_keys(connection, area, columns, within)
        if found and len(found[0].columns) == 1 and found[0].score >= _TELLS_VERSIONS:
            return found[0].columns
        for key in found:
            rest = [name for name in key.columns if cursor_kind(name) != "changed"]
            if len(rest) == 1 < len(key.columns) and is_own_key(rest[0], area.name):
                return (rest[0],)
        if within and found and found[0].score >= _TELLS_VERSIONS:
            return found[0].columns
    return ()
