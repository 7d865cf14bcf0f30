"""The changes of sources for people and programs: all of them, or one in detail.

journals + lineage + patches -> `Known` each -> a list, a detail with evidence and diff, JSON
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput, IngestionError, LockHeld
from ingestion.schema.journal import Noted, journal_folder, read_journal
from ingestion.schema.shapes import OTHER_DELIMITER
from ingestion.schema.words import tell
from ingestion.settings import Settings
from runner.changes.patches import Patched, Patches, Place, combined
from runner.changes.reach import Reach, is_read, reach_of

if TYPE_CHECKING:
    from rich.console import Console

    from ingestion.declarations import SourceDeclaration
    from runner.transform import Dbt

_POLICIES = {
    "evolve": "taken as it came",
    "freeze": "refused: nothing of the table was landed or loaded while it lasted",
    "quarantine": "rows that do not fit are kept aside",
}
_GARBLED = (
    "the file seems to have another delimiter: declare it (`csv: {delimiter: ...}`), then "
    "`wellspring quarantine replay`; where both come, ask for one"
)
_WITHOUT_ROWS = "rows before it stay in raw as they are"


@dataclass(frozen=True)
class Known:
    """All that is known of a change.

    Attributes:
        noted: The change.
        reach: What depends on it; None if that could not be told.
        patch: What would make the project follow it; nothing if it does.
        is_garbled: Whether the file was read with another delimiter than it has.
        aside: Rows that are kept aside because of it; None if that could not be told.
    """

    noted: Noted
    reach: Reach | None
    patch: tuple[Patched, ...]
    aside: int | None
    is_garbled: bool = False

    @property
    def state(self) -> str:
        """Open (the project does not follow it), settled, refused or reverted."""
        if self.noted.status != "taken":
            return self.noted.status
        return "open" if self.patch or self.is_garbled else "settled"

    def fields(self) -> dict[str, Any]:
        """The change as values."""
        return {
            **self.noted.fields(),
            "told": tell(self.noted.change),
            "state": self.state,
            "affects": self.reach.fields() if self.reach else None,
            "rows_kept_aside": self.aside,
            "patch": combined(self.patch),
        }


@dataclass
class Changes:
    """The changes of a project's sources.

    Attributes:
        known: The changes, newest last.
        note: Why something could not be told; empty if all could.
    """

    known: list[Known]
    note: str = ""


def all_noted(settings: Settings) -> list[Noted]:
    """Every change of every source, oldest first. Works while a run is under way."""
    noted = []
    for path in sorted(journal_folder(settings).glob("*.json")):
        noted += read_journal(settings, path.stem).changes
    return sorted(noted, key=lambda entry: (entry.since, entry.source, int(entry.id.split("#")[1])))


def chosen(noted: Sequence[Noted], names: Sequence[str]) -> list[Noted]:
    """The changes that names mean: a change's id, a source, or a table of one.

    Raises:
        BadInput: A name means none.
    """
    if not names:
        return list(noted)
    found: list[Noted] = []
    for name in names:
        mine = [n for n in noted if name in (n.id, n.source, f"{n.source}.{n.table}")]
        if not mine:
            tables = sorted({f"{entry.source}.{entry.table}" for entry in noted})
            known = f"Changes are known of: {', '.join(tables[:10])}." if tables else ""
            raise BadInput(
                f"no change of {name} is known",
                hint=known or "No source has changed since it was read for the first time.",
            )
        found += [entry for entry in mine if entry not in found]
    return found


def changes_of(
    settings: Settings, noted: Sequence[Noted], dbt: Dbt, *, with_reach: bool = True
) -> Changes:
    """What there is to know of some changes.

    Args:
        settings: The project's settings.
        noted: The changes.
        dbt: The project's dbt.
        with_reach: Whether to find what depends on them, for which dbt compiles the models.

    Raises:
        DeclarationError: dbt refuses the project, or a declaration is wrong.
    """
    reached, note = reaches(settings, noted, dbt) if with_reach and noted else ({}, "")
    places = _places(settings, noted, dbt)
    patches = Patches(settings.project_dir)
    garbled = _garbled(settings)
    known = []
    for entry in noted:
        place = places.get((entry.source, entry.table))
        lasts = place is not None and entry.status != "reverted" and _lasts(entry, place)
        is_garbled = lasts and (entry.source, entry.table, entry.since) in garbled
        patch: Sequence[Patched] = ()
        if place is not None and lasts and not is_garbled:
            patch = patches.of([(entry, place)])
        aside = _aside(settings, entry) if entry.policy == "quarantine" else 0
        known.append(Known(entry, reached.get(entry.id), tuple(patch), aside, is_garbled))
    return Changes(known, note)


def _garbled(settings: Settings) -> set[tuple[str, str, str]]:
    """Source, table and time of what came of reading a file with another delimiter."""
    return {
        (entry.source, entry.table, entry.since)
        for entry in all_noted(settings)
        if OTHER_DELIMITER in entry.change.evidence
    }


def _lasts(noted: Noted, place: Place) -> bool:
    """Whether what a change brought is still so: later ones may have undone it."""
    if place.shape is None or noted.status == "refused":
        return True
    names, column = place.shape.by_name, noted.change.column
    if noted.change.kind == "column_lost":
        return column not in names
    return not column or column in names


def patch_of(settings: Settings, known: Sequence[Known], dbt: Dbt) -> list[Patched]:
    """One patch for several changes."""
    wanted = [entry.noted for entry in known if entry.patch]
    places = _places(settings, wanted, dbt)
    pairs = [(entry, places[(entry.source, entry.table)]) for entry in wanted]
    return Patches(settings.project_dir).of(pairs)


def apply_patch(settings: Settings, patched: Sequence[Patched], console: Console) -> None:
    """Writes a patch to the project and says what to look at.

    Raises:
        DeclarationError: dbt refuses the project with it; all is as before.
    """
    from runner.transform import Dbt

    if not patched:
        console.print("there is nothing to apply: the project follows these changes")
        return
    Patches(settings.project_dir).apply(patched, lambda: Dbt(settings).manifest)
    for file in patched:
        lines = file.diff.splitlines()
        added = sum(line.startswith("+") and not line.startswith("+++") for line in lines)
        removed = sum(line.startswith("-") and not line.startswith("---") for line in lines)
        console.print(f"  {file.file}: {added} lines in, {removed} out", markup=False)
    console.print("applied; look at it with `git diff`, then `wellspring run`")


def reaches(settings: Settings, noted: Sequence[Noted], dbt: Dbt) -> tuple[dict[str, Reach], str]:
    """What depends on changes, by their ids, and why not, if that cannot be told."""
    if not any(map(is_read, noted)):
        return {entry.id: Reach() for entry in noted}, ""
    from runner.lineage.project import project_graph

    try:
        graph = project_graph(settings, dbt)
    except LockHeld as error:
        return {}, f"what depends on them cannot be told now: {error.message}"
    except IngestionError as error:
        return {}, f"what depends on them cannot be told: {str(error).splitlines()[0]}"
    exposures = dbt.manifest.exposures
    return {entry.id: reach_of(entry, graph, exposures) for entry in noted}, ""


def _places(settings: Settings, noted: Sequence[Noted], dbt: Dbt) -> dict[tuple[str, str], Place]:
    from ingestion.declarations import load_declarations
    from runner.transform import Selection

    if not noted:
        return {}
    manifest, _ = dbt.sources(Selection())
    declarations: dict[str, SourceDeclaration] = {d.name: d for d in load_declarations(manifest)}
    found = {}
    for source, table in {(entry.source, entry.table) for entry in noted}:
        declaration = declarations.get(source)
        names = [t.name for t in declaration.tables] if declaration else []
        if declaration is not None and table in names:
            declared = declaration.table(table)
            shape = read_journal(settings, source).shape(table)
            models = _readers(settings, dbt, declared.unique_id)
            found[(source, table)] = Place(declaration, declared, shape, models)
    return found


def _readers(settings: Settings, dbt: Dbt, unique_id: str) -> tuple[str, ...]:
    """Files of the models of this project that read a source table."""
    files = [
        str(node.original_file_path)
        for node in dbt.project.nodes.values()
        if str(node.resource_type) == "model" and unique_id in node.depends_on.nodes
    ]
    own = [name for name in files if (settings.project_dir / name).is_file()]
    return tuple(sorted(name for name in own if name.endswith(".sql")))


def _aside(settings: Settings, noted: Noted) -> int | None:
    """Rows that a contract of `quarantine` keeps aside because of a change."""
    from ingestion.warehouse import connect

    column = noted.change.column
    if not settings.warehouse_path.is_file():
        return 0
    try:
        with closing(connect(settings, read_only=True)) as connection:
            found = connection.execute(
                "select count(*) from ledger.rejected_records where source = ? "
                "and table_name = ? and (contains(reason, ?) or contains(reason, ?))",
                [
                    noted.source,
                    noted.table,
                    f"the column {column} is not declared",
                    f"{column} is no ",
                ],
            ).fetchall()
    except IngestionError:
        return None
    return int(found[0][0])


# -- for people --------------------------------------------------------------------------------


def print_list(shown: Sequence[Known], note: str, hidden: int, console: Console) -> None:
    """Shows changes, one a line.

    Args:
        shown: The changes.
        note: Why something could not be told.
        hidden: How many settled ones are left out.
        console: Where to.
    """
    from rich import box
    from rich.table import Table

    if not shown:
        told = f"{hidden} settled: `wellspring changes --all`" if hidden else "none was seen so far"
        console.print(f"no source has a change that the project does not follow ({told})")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title in ("change", "since", "table", "what", "depends on it", "state"):
        table.add_column(title, no_wrap=title in ("change", "since", "state"))
    for known in shown:
        noted = known.noted
        models = "" if known.reach is None else _count(known.reach)
        since = noted.since[:16].replace("T", " ")
        name = f"{noted.source}.{noted.table}"
        table.add_row(noted.id, since, name, tell(noted.change), models, known.state)
    console.print(table)
    if note:
        console.print(f"! {note}", markup=False, soft_wrap=True)
    if hidden:
        console.print(f"{hidden} settled: `wellspring changes --all`")
    if shown:
        console.print("`wellspring changes CHANGE` shows one, `--apply` makes the project follow")


def _count(reach: Reach) -> str:
    models = len(reach.models)
    return "nothing" if not models else "1 model" if models == 1 else f"{models} models"


def print_detail(known: Known, note: str, console: Console) -> None:
    """Shows all that is known of one change."""
    noted = known.noted
    console.print(
        f"[bold]{noted.id}  {noted.source}.{noted.table}[/bold] {tell(noted.change)}  "
        f"[dim]{known.state}[/dim]",
        soft_wrap=True,
    )
    place = f", first in {noted.place}" if noted.place else ""
    _line(console, "since", f"{noted.since}{place}")
    if noted.change.evidence:
        _line(console, "evidence", "; ".join(noted.change.evidence))
    _line(console, "contract", f"{noted.policy}: {_what_was_done(known)}")
    if known.reach is None:
        _line(console, "reaches", note or "unknown")
    else:
        _print_reach(known.reach, console)
    if known.is_garbled:
        _line(console, "means", _GARBLED)
    for line in _consequences(noted):
        _line(console, "means", line)
    if known.patch:
        console.print("  patch")
        console.print(combined(known.patch), markup=False, soft_wrap=True, end="")
    elif noted.status == "taken" and not known.is_garbled:
        _line(console, "patch", "none: the project follows it, or there is nothing to follow")


def _print_reach(reach: Reach, console: Console) -> None:
    _line(console, "reaches", reach.told)
    for touched in reach.models:
        parts = [", ".join(touched.columns)] if touched.columns else []
        parts += ["which rows there are"] if touched.rows else []
        console.print(f"    {touched.model}: {'; '.join(parts)}", markup=False, soft_wrap=True)
    for exposure in reach.exposures:
        console.print(f"    exposure {exposure}", markup=False, soft_wrap=True)


def _what_was_done(known: Known) -> str:
    if known.noted.status == "reverted":
        return "it was refused, and the source has gone back on it"
    if known.noted.policy == "freeze" and known.noted.status == "taken":
        return "the declaration allows it"
    if known.noted.policy == "quarantine":
        if known.aside is None:
            return "how many rows are kept aside cannot be told while the warehouse is in use"
        where = f"wellspring quarantine show {known.noted.source}.{known.noted.table}"
        rows = "1 row is" if known.aside == 1 else f"{known.aside:,} rows are"
        return f"{rows} kept aside" + (f" (`{where} --warehouse`)" if known.aside else "")
    return _POLICIES[known.noted.policy]


def _consequences(noted: Noted) -> list[str]:
    """What a change means for rows."""
    change = noted.change
    if noted.status == "refused":
        return []
    return {
        "column_lost": [
            f"raw keeps {change.column} of rows from before; rows since then have null there"
        ],
        "column_renamed": [
            f"rows since then have {change.old} as null and their value in {change.new}"
        ],
        "column_added": ["rows from before have null there"],
        "table_lost": [_WITHOUT_ROWS, "the source fails until it is back or no more declared"],
        "table_renamed": [_WITHOUT_ROWS, "the source fails until the declaration says `from`"],
        "table_emptied": [_WITHOUT_ROWS + ", unless `deletes: sweep` marks them as deleted"],
        "key_changed": ["rows are told apart by the new key; look at the key of its staging model"],
    }.get(change.kind, [])


def _line(console: Console, title: str, text: str) -> None:
    console.print(f"  {title:<9} {text}", markup=False, soft_wrap=True)
