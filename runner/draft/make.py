"""`wellspring draft`: staging, intermediates and first marts of sources, for people to edit.

declarations + discovery (made anew if raw is newer) -> `plan_tables` -> the files' texts ->
`settle` with what is there -> written, merged or proposed

It asks for the run's lock, because it reads the warehouse and dbt must not parse half a draft. Left
out: declarations, which `wellspring add` writes, and everything that has to be known, not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput
from ingestion.lock import RunLock, lock_path
from ingestion.settings import Settings
from runner.discover.find import Told, declared_sources, discovery_path, keep_discovery
from runner.discover.model import Discovery, TableProfile, read_discovery
from runner.draft import marts, merge, staging
from runner.draft.merge import Outcome, base_of, settle
from runner.draft.notes import Note, notes_on
from runner.draft.project_files import PROJECT, STAGING_LIST, with_area, with_staging_models
from runner.draft.tables import Table, plan_tables
from runner.history import new_run_id

if TYPE_CHECKING:
    from ingestion.declarations import SourceDeclaration

_KINDS = ("dim", "fct", "bridge")


@dataclass(frozen=True)
class Drafted:
    """What a draft did, or would do.

    Attributes:
        sources: The sources that were drafted.
        outcomes: What became of each file.
        notes: What a person should look at.
        left_out: Tables that were not drafted, with the reason.
        proposals: Proposals that lie beside their files, older ones included.
        seen_on: The day that the evidence is of.
        is_dry: Whether nothing was written.
    """

    sources: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    notes: tuple[Note, ...]
    left_out: Mapping[str, str]
    proposals: tuple[str, ...]
    seen_on: str
    is_dry: bool


def draft_sources(
    settings: Settings,
    wanted: Sequence[str],
    command: str,
    *,
    staging_only: bool = False,
    is_dry: bool = False,
    on_table: Told = lambda name: None,
) -> Drafted:
    """Drafts the models of sources and puts them where they belong.

    Args:
        settings: The project's settings.
        wanted: Names of sources; all that have something to draft if none is named.
        command: The command line, shown to whoever is refused meanwhile.
        staging_only: Whether to leave intermediates and marts out.
        is_dry: Whether to write nothing.
        on_table: Is told the name of each table before it is looked at.

    Raises:
        BadInput: There is no such source, nothing of it has been loaded, or a file of the project
            has a form that is not known.
        LockHeld: A run is under way.
    """
    root = settings.project_dir
    with RunLock(lock_path(settings), new_run_id, command):
        known = declared_sources(settings, ())
        chosen = [source.name for source in declared_sources(settings, wanted)]
        if not is_dry:
            merge.recover(root)
        drafter = _Drafter(root, known, _staged(settings, known), staging_only)
        if not wanted:
            chosen = [name for name in chosen if drafter.has_room(name)]
        if not chosen:
            return drafter.nothing(is_dry)
        found = _discovery(settings, known, drafter.with_former(chosen), on_table)
        drafter.plan(found, chosen, _midnights(settings, found))
        drafted = drafter.settled(chosen, found, is_dry)
        if not is_dry:
            for outcome in drafted.outcomes:
                merge.write(root, outcome)
    return drafted


def _staged(settings: Settings, known: Iterable[SourceDeclaration]) -> dict[str, str]:
    """The file that stages each declared table, by `source.table`."""
    from runner.transform import Dbt

    names = {t.unique_id: f"{s.name}.{t.name}" for s in known for t in s.tables}
    found = {}
    for node in Dbt(settings).manifest.nodes.values():
        path = Path(node.original_file_path)
        if node.resource_type.value == "model" and path.parts[:2] == ("models", "staging"):
            for unique_id in getattr(node.depends_on, "nodes", ()):
                if unique_id in names:
                    found[names[unique_id]] = path.as_posix()
    return found


def _discovery(
    settings: Settings,
    known: Sequence[SourceDeclaration],
    names: Collection[str],
    on_table: Told,
) -> Discovery:
    """What was discovered of these sources, made anew if something was loaded since."""
    found = read_discovery(discovery_path(settings)) if discovery_path(settings).is_file() else None
    if found is not None and set(names) <= set(found.sources) and _is_fresh(settings, found, names):
        return found
    before = set(found.sources) if found is not None else set()
    return keep_discovery(
        settings, [s for s in known if s.name in {*names, *before}], on_table=on_table
    )


def _is_fresh(settings: Settings, found: Discovery, names: Collection[str]) -> bool:
    """Whether nothing of these sources was loaded, and no table came or went, since."""
    from ingestion.warehouse import connect

    if not found.is_declared_used:
        return False
    listed = [f"{t.source}.{t.name}" for t in found.tables if not t.nested_in]
    with closing(connect(settings, read_only=True)) as connection:
        rows = connection.execute(
            "select source || '.' || table_name, max(loaded_at) from ledger.files "
            "where list_contains(?, source) and status = 'loaded' group by 1",
            [sorted(names)],
        ).fetchall()
    made_at = datetime.fromisoformat(found.made_at).astimezone(UTC).replace(tzinfo=None)
    return all(name in listed and loaded_at < made_at for name, loaded_at in rows)


def _midnights(settings: Settings, found: Discovery) -> dict[str, list[str]]:
    """Columns of times, by table, that are always the beginning of a day."""
    from ingestion.evolution import quoted
    from ingestion.warehouse import connect

    told: dict[str, list[str]] = {}
    with closing(connect(settings, read_only=True)) as connection:
        for table in found.tables:
            times = [c.name for c in table.columns if c.data_type.startswith("TIMESTAMP")]
            times = [] if table.nested_in else times
            if not times:
                continue
            asked = ", ".join(
                f"coalesce(bool_and({quoted(n)} = date_trunc('day', {quoted(n)})), false)"
                for n in times
            )
            schema, _, name = table.relation.partition(".")
            row = connection.execute(
                f"select {asked} from {quoted(schema)}.{quoted(name)}"
            ).fetchone()
            told[table.full_name] = [
                n for n, is_day in zip(times, row or (), strict=True) if is_day
            ]
    return told


@dataclass
class _Drafter:
    """The draft of some sources.

    Attributes:
        root: The project's root.
        known: All declared sources.
        staged: The file that stages each table, by `source.table`.
        staging_only: Whether to leave intermediates and marts out.
        tables: What is drafted, by `source.table`.
        left_out: Tables that are not, with the reason.
    """

    root: Path
    known: Sequence[SourceDeclaration]
    staged: Mapping[str, str]
    staging_only: bool
    tables: dict[str, Table] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def has_room(self, source: str) -> bool:
        """Whether a source has tables that nobody staged by hand."""
        tables = next(s.tables for s in self.known if s.name == source)
        return any(self._is_ours(self.staged.get(f"{source}.{t.name}")) for t in tables)

    def _is_ours(self, path: str | None) -> bool:
        return path is None or base_of(self.root, path).is_file()

    def with_former(self, chosen: Sequence[str]) -> list[str]:
        """These sources and those that were drafted before, to which they may refer."""
        folder = self.root / merge.BASES / "models" / "staging"
        former = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        return [s.name for s in self.known if s.name in chosen or s.name in former]

    def nothing(self, is_dry: bool) -> Drafted:
        """The answer where all is staged by hand."""
        left = {name: f"staged by hand in {path}" for name, path in sorted(self.staged.items())}
        return Drafted((), (), (), left, tuple(merge.proposals(self.root)), "", is_dry)

    def plan(
        self, found: Discovery, chosen: Sequence[str], midnights: Mapping[str, Collection[str]]
    ) -> None:
        """Decides what is drafted."""
        loaded = {t.full_name for t in found.tables if t.columns}
        for source in self.known:
            for table in source.tables if source.name in chosen else ():
                if f"{source.name}.{table.name}" not in loaded:
                    name = f"{source.name}.{table.name}"
                    self.left_out[name] = "nothing of it has arrived yet: `wellspring extract load`"
        planned = plan_tables(
            found,
            self.with_former(chosen),
            midnights,
            self._is_left_out,
            self._is_taken,
            self._mart_kind,
        )
        self.tables = {table.full_name: table for table in planned}

    def _is_left_out(self, profile: TableProfile, model: str) -> bool:
        """Whether a table's staging is a person's own, or was deleted by one."""
        path = f"models/staging/{profile.source}/{model}.sql"
        if not profile.columns:
            return True
        by_hand = self.staged.get(profile.full_name)
        if by_hand is not None and not self._is_ours(by_hand):
            self.left_out[profile.full_name] = f"staged by hand in {by_hand}"
        elif base_of(self.root, path).is_file() and not (self.root / path).is_file():
            told = f"its draft was deleted; remove {merge.BASES}/{path} to have it again"
            self.left_out[profile.full_name] = told
        return profile.full_name in self.left_out

    def _is_taken(self, area: str, name: str) -> bool:
        folders = {"int": "models/intermediate"}
        own = f"{folders.get(name.partition('_')[0], 'models/marts')}/{area}/{name}.sql"
        found = {
            p.relative_to(self.root).as_posix() for p in self.root.glob(f"models/**/{name}.sql")
        }
        planned = {
            path.relative_to(self.root / merge.BASES).as_posix()
            for path in (self.root / merge.BASES).glob(f"models/**/{name}.sql")
        }
        return bool((found | planned) - {own}) and not (self.root / own).is_file()

    def _mart_kind(self, area: str, name: str) -> str:
        for kind in _KINDS:
            if base_of(self.root, f"models/marts/{area}/{kind}_{name}.sql").is_file():
                return kind
        return ""

    def settled(self, chosen: Sequence[str], found: Discovery, is_dry: bool) -> Drafted:
        """What becomes of each file."""
        seen_on = found.made_at[:10]
        mine = [table for table in self.tables.values() if table.source in chosen]
        texts: dict[str, str] = {}
        for source in chosen:
            own = [table for table in mine if table.source == source]
            texts |= self._texts(source, own, chosen, seen_on) if own else {}
        outcomes = [settle(self.root, path, text) for path, text in texts.items()]
        outcomes += self._listed(mine, outcomes)
        waiting = {f"{o.path}{merge.PROPOSED}" for o in outcomes if o.proposal is not None}
        return Drafted(
            sources=tuple(chosen),
            outcomes=tuple(outcomes),
            notes=tuple(notes_on(mine, self.tables, found)),
            left_out=self.left_out,
            proposals=tuple(sorted({*merge.proposals(self.root), *waiting})),
            seen_on=seen_on,
            is_dry=is_dry,
        )

    def _texts(
        self, source: str, tables: Sequence[Table], chosen: Collection[str], seen_on: str
    ) -> dict[str, str]:
        """The files of a source by their paths."""
        folder = f"models/staging/{source}"
        texts = {f"{folder}/_{source}__docs.md": staging.docs_text(tables, seen_on)}
        for table in tables:
            texts[f"{folder}/{table.staging}.sql"] = staging.staging_sql(table, self.tables)
            texts[f"{folder}/{table.staging}.yml"] = staging.staging_yaml(
                table, self.tables, seen_on
            )
        if self.staging_only:
            return texts
        has_mart = {
            name: self._has(self._mart_path(table), table.source in chosen)
            for name, table in self.tables.items()
        }
        for table in tables:
            place = self._keyed_path(table)
            if not self._has(place):
                continue
            texts[f"{place}.sql"] = marts.keyed_sql(table, self.tables)
            texts[f"{place}.yml"] = marts.keyed_yaml(table, self.tables)
            place = self._mart_path(table)
            texts[f"{place}.sql"] = marts.mart_sql(table)
            texts[f"{place}.yml"] = marts.mart_yaml(table, self.tables, has_mart)
        texts[f"models/marts/{source}/_{source}__groups.yml"] = marts.group_yaml(
            source, self._owner(source)
        )
        return texts

    def _keyed_path(self, table: Table) -> str:
        return f"models/intermediate/{table.source}/{table.intermediate}"

    def _mart_path(self, table: Table) -> str:
        return f"models/marts/{table.source}/{table.mart}"

    def _has(self, place: str, is_drafted: bool = True) -> bool:
        """Whether a model is there, or is being drafted and no person has deleted it."""
        path = f"{place}.sql"
        is_new = is_drafted and not base_of(self.root, path).is_file()
        return is_new or (self.root / path).is_file()

    def _owner(self, source: str) -> str:
        return f"Owner of {source}"

    def _listed(self, tables: Sequence[Table], outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The files of the project that list models and areas, where something is missing."""
        written = {o.path for o in outcomes if o.what == "new"}
        names = [
            table.staging
            for table in tables
            if f"models/staging/{table.source}/{table.staging}.sql" in written
        ]
        areas = [
            source
            for source in dict.fromkeys(table.source for table in tables)
            if f"models/marts/{source}/_{source}__groups.yml" in written
        ]
        changes: list[tuple[str, Callable[[str], str]]] = []
        if names:
            changes.append((STAGING_LIST, lambda text: with_staging_models(text, names)))
        if areas:
            changes.append((PROJECT, lambda text: _with_areas(text, areas)))
        return [found for path, change in changes for found in self._changed(path, change)]

    def _changed(self, path: str, change: Callable[[str], str]) -> list[Outcome]:
        try:
            text = (self.root / path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise BadInput("the file is not there", file=path) from None
        after = change(text)
        return [] if after == text else [merge.replaced(path, text, after)]


def _with_areas(text: str, areas: Sequence[str]) -> str:
    for area in areas:
        text = with_area(text, area)
    return text


def drafted_fields(drafted: Drafted) -> dict[str, Any]:
    """The draft as JSON takes it."""
    return {
        "sources": list(drafted.sources),
        "files": [{"path": o.path, "what": o.what, "diff": o.diff} for o in drafted.outcomes],
        "notes": [{"table": n.table, "told": n.told} for n in drafted.notes],
        "left_out": dict(drafted.left_out),
        "proposals": list(drafted.proposals),
        "seen_on": drafted.seen_on,
        "is_dry": drafted.is_dry,
    }
