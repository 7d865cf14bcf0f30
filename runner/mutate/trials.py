"""Rules that are tested: defects put into clean rows, to see which rule or test notices.

warehouse -> scratch copy, staging built anew -> per staging model, in a transaction that is taken
back: mutated raw rows -> the model's own screening -> what it rejected, flagged or superseded;
for what it let through: the data tests of the model and of those that read it -> scores

Each mutated row carries one defect and is known by (_file, _row). A defect that leaves the staged
row as it was is no defect and does not count. Left out: mutating SQL or rules, and the real
warehouse, which is only copied.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput, disk_full, disk_full_error, first_line
from ingestion.lock import writer_lock
from ingestion.settings import Settings
from runner.errors import BuildFailed
from runner.explain.lineage import ColumnLineage
from runner.explain.provenance import full_name
from runner.history import new_run_id
from runner.mutate.mutants import (
    CODE_VALUES,
    FREE_TEXT_LENGTH,
    NEW_LOAD,
    NEW_ROW,
    Mutation,
    RawColumn,
    Role,
    mutations,
)
from runner.project import attached_tests, descendants, parents
from runner.transform import Dbt, Selection

if TYPE_CHECKING:
    import duckdb

# A raw table of more rows is screened in part: its mutated rows and this many others.
RAW_ROWS = 300_000
_SPARE_ROWS = 4
_SCALAR = re.compile(r"^\w+( WITH TIME ZONE)?(\(\d+,\s*\d+\))?$")
_NUMBER = re.compile(r"^(DECIMAL|DOUBLE|FLOAT|U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?\b)")
OnModel = Callable[[int, int, str], None]


@dataclass
class MutationResult:
    """What became of the rows that got one defect in one place.

    Attributes:
        kind: The defect.
        columns: Staged columns it shows in; empty for defects of the whole row.
        injected: Rows that got it.
        no_effect: Rows whose staged values stayed the same.
        caught: Rows that a rule or test noticed.
        caught_by: Rows by the rule or test that noticed; a row may count under several rules.
        survivors: `(_file, _row)` of rows that nothing noticed.
    """

    kind: str
    columns: tuple[str, ...]
    injected: int = 0
    no_effect: int = 0
    caught: int = 0
    caught_by: dict[str, int] = field(default_factory=dict)
    survivors: list[tuple[str, int]] = field(default_factory=list)

    @property
    def decidable(self) -> int:
        """Rows that the defect made another row of."""
        return self.injected - self.no_effect


@dataclass
class ModelScore:
    """What the rules and tests of a staging model notice.

    Attributes:
        model: Its name.
        results: By kind and place.
        unruled: Columns that no rule and no test speaks of.
        notes: What is to be known about the figures.
    """

    model: str
    results: list[MutationResult] = field(default_factory=list)
    unruled: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def decidable(self) -> int:
        """Mutated rows that are another row than before."""
        return sum(result.decidable for result in self.results)

    @property
    def caught(self) -> int:
        """Those of them that were noticed."""
        return sum(result.caught for result in self.results)

    @property
    def score(self) -> float | None:
        """Share of mutated rows that were noticed, 0 to 1; None if there were none."""
        return self.caught / self.decidable if self.decidable else None

    @property
    def blind(self) -> tuple[str, ...]:
        """Columns in which no defect at all was noticed."""
        seen: dict[str, int] = {}
        for result in self.results:
            for column in result.columns if result.decidable else ():
                seen[column] = seen.get(column, 0) + result.caught
        return tuple(sorted(column for column, caught in seen.items() if not caught))


def mutate(
    settings: Settings,
    selection: Selection,
    command: str,
    *,
    rows: int = 3,
    seed: int = 1,
    on_model: OnModel | None = None,
) -> list[ModelScore]:
    """Measures what the rules and tests of staging models notice.

    Args:
        settings: The project's settings.
        selection: Which models; those that are not materialized as staging are passed over.
        command: The command line, shown to whoever is refused meanwhile.
        rows: Rows that get each defect in each column.
        seed: Another seed chooses other rows.
        on_model: Called as `on_model(done, total, name)` before each model.

    Returns:
        A score a model, by name.

    Raises:
        BadInput: The selection holds no staging model, or there is no warehouse.
        BuildFailed: A staging model cannot be built.
        DiskFull: There is no room for the copy.
        LockHeld: A run is under way.
    """
    from ingestion.warehouse import connect

    with writer_lock(settings, new_run_id, command):
        # Before the project is parsed: this tells in plain words that it is not there, or held.
        connect(settings, read_only=True).close()
        dbt = Dbt(settings)
        chosen = _staging_models(dbt, selection)
        with _scratch(settings) as (scratch, target):
            copied = Dbt(scratch, parsed=dbt.manifest)
            _build(copied, chosen, settings)
            copied.compile(chosen, "{}+2")
            return _scores(scratch, copied, chosen, target, rows, seed, on_model)


def _scores(
    scratch: Settings,
    dbt: Dbt,
    chosen: Sequence[str],
    target: Path,
    rows: int,
    seed: int,
    on_model: OnModel | None,
) -> list[ModelScore]:
    from ingestion.warehouse import connect

    scores = []
    with closing(connect(scratch)) as connection:
        for number, unique_id in enumerate(chosen):
            node = dbt.manifest.nodes[unique_id]
            if on_model is not None:
                on_model(number, len(chosen), node.name)
            screening = target / "run" / node.package_name / node.original_file_path
            trial = _Trial(connection, dbt, node, screening.read_text(encoding="utf-8"))
            scores.append(trial.score(rows, seed))
    return scores


def _staging_models(dbt: Dbt, selection: Selection) -> list[str]:
    found = [
        key
        for key in dbt.select(selection, "model")
        if dbt.manifest.nodes[key].config.materialized == "staging"
    ]
    if not found:
        raise BadInput(
            f"the selection {selection} holds no staging model".replace("  ", " "),
            hint="Rows are screened by models that are materialized as staging; name one of them, "
            "or a model above which they lie: --select +fct_orders.",
        )
    return found


@contextmanager
def _scratch(settings: Settings) -> Iterator[tuple[Settings, Path]]:
    """A copy of the warehouse, gone afterwards, and a folder for what dbt writes about it."""
    former = {name: os.environ.get(name) for name in ("WELLSPRING_DATA", "DBT_TARGET_PATH")}
    with tempfile.TemporaryDirectory(prefix="mutate-", dir=settings.state_dir) as folder:
        scratch = replace(settings, data_dir=Path(folder) / "data")
        target = Path(folder) / "target"
        scratch.warehouse_path.parent.mkdir(parents=True)
        try:
            shutil.copyfile(settings.warehouse_path, scratch.warehouse_path)
            os.environ["DBT_TARGET_PATH"] = str(target)
            yield scratch, target
        except Exception as error:
            if disk_full(error):
                raise disk_full_error(settings.state_dir, error) from error
            raise
        finally:
            for name, value in former.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _build(dbt: Dbt, chosen: Sequence[str], settings: Settings) -> None:
    names = tuple(".".join(dbt.manifest.nodes[key].fqn) for key in chosen)
    failed = [result for result in dbt.build(Selection(names)) if result.status != "ok"]
    if failed:
        raise BuildFailed(
            f"{failed[0].name} cannot be built: {failed[0].message.splitlines()[0]}",
            file=settings.project_dir / failed[0].file,
            hint="Mutation needs staging models that build: `wellspring build` first.",
        )


class _Trial:
    """One staging model: its rows mutated, screened and tested, then put back."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, dbt: Dbt, node: Any, screening: str
    ) -> None:
        self._connection = connection
        self._manifest = dbt.manifest
        self._node = node
        self._screening = screening
        source = next(
            self._manifest.sources[key]
            for key in parents(self._manifest, node.unique_id)
            if key in self._manifest.sources
        )
        self._raw = f'"{source.schema}"."{source.identifier}"'
        self._raw_name = full_name(source.schema, source.identifier)
        self._staged = f'"{node.schema}"."{node.alias}"'
        self._result = ModelScore(node.name)
        self._specs: list[tuple[Mutation, MutationResult]] = []

    def score(self, rows: int, seed: int) -> ModelScore:
        """Does the trial."""
        self._connection.execute("begin")
        try:
            columns = self._raw_columns()
            self._result.unruled = _unruled(self._manifest, self._node, self._staged_types())
            self._choose(mutations(columns), rows, seed)
            if any(result.injected for _, result in self._specs):
                self._inject()
                self._connection.execute(self._screening)
                self._judge()
                self._put_raw_back()
                self._test_survivors()
        finally:
            self._connection.execute("rollback")
        self._result.results = [result for _, result in self._specs if result.injected]
        return self._result

    # -- what there is to mutate ---------------------------------------------------------------

    def _raw_columns(self) -> list[RawColumn]:
        """The raw columns that staging makes something of."""
        types = self._types(self._raw)
        staged = self._staged_types()
        feeds = self._feeds(types, staged)
        keys, orders = self._declared("key"), self._declared("version_order")
        referring = _referring(self._manifest, self._node)
        found = []
        for name, kind in types.items():
            own = feeds.get(name, ())
            if name.startswith("_") or not own:
                continue
            found.append(
                RawColumn(
                    name,
                    kind,
                    self._role(name, kind, staged[own[0]]),
                    own,
                    is_key=any(column in keys for column in own),
                    refers=any(column in referring for column in own),
                    orders=any(column in orders for column in own),
                )
            )
        return found

    def _feeds(self, raw: dict[str, str], staged: dict[str, str]) -> dict[str, tuple[str, ...]]:
        """Staged columns by the raw column that they are made from."""
        schema, _, name = self._raw_name.partition(".")
        sql = self._node.compiled_code or ""
        found: dict[str, list[str]] = {}
        try:
            lineage = ColumnLineage(sql, {schema: {name: list(raw)}})
            for column in staged:
                for used in lineage.origin(column).columns.get(self._raw_name, ()):
                    found.setdefault(used, []).append(column)
        except ValueError:
            # Where the SQL cannot be resolved, a column is taken to keep its name.
            self._result.notes.append("columns that staging renames are left out")
            found = {column: [column] for column in staged if column in raw}
        return {column: tuple(names) for column, names in found.items()}

    def _role(self, name: str, kind: str, staged: str) -> Role:
        if not _SCALAR.match(kind) or not _SCALAR.match(staged):
            return "other"
        if _NUMBER.match(staged):
            return "number" if kind == "VARCHAR" or _NUMBER.match(kind) else "other"
        if staged.startswith(("DATE", "TIME")):
            return "time"
        if staged == "BOOLEAN":
            return "flag"
        if staged != "VARCHAR" or kind != "VARCHAR":
            return "other"
        [(values, rows, length)] = self._ask(
            f'select count(distinct "{name}"), count("{name}"), avg(length("{name}")) '
            f"from (select * from {self._raw} limit 5000)"
        )
        if values <= CODE_VALUES and values * 4 <= rows:
            return "code"
        return "free text" if (length or 0) >= FREE_TEXT_LENGTH else "text"

    def _declared(self, name: str) -> list[str]:
        declared = ((self._node.config.meta or {}).get("staging") or {}).get(name) or []
        return [str(column).lower() for column in declared]

    # -- mutating ------------------------------------------------------------------------------

    def _choose(self, listed: Sequence[Mutation], rows: int, seed: int) -> None:
        """Gives each mutation some clean rows that no other has."""
        order = f"hash(raw._file, raw._row, {seed})"
        wanted = len(listed) * rows * _SPARE_ROWS
        clean = self._clean_condition()
        self._connection.execute(
            f"create temporary table clean_rows as select raw.*, {order} as _place "
            f"from {self._raw} as raw where {clean} order by _place limit {wanted}"
        )
        self._connection.execute(
            "create temporary table mutants (_file varchar, _row bigint, _spec integer)"
        )
        for number, mutation in enumerate(listed):
            self._connection.execute(
                "insert into mutants select _file, _row, ? from clean_rows as raw "
                f"where ({mutation.where}) and not exists (select 1 from mutants "
                "where mutants._file = raw._file and mutants._row = raw._row) "
                "order by hash(_place, ?) limit ?",
                [number, number, rows],
            )
            [(count,)] = self._ask(f"select count(*) from mutants where _spec = {number}")
            self._specs.append((mutation, MutationResult(mutation.kind, mutation.staged, count)))
        if not any(result.injected for _, result in self._specs):
            self._result.notes.append("there is no clean row to mutate")

    def _clean_condition(self) -> str:
        """Rows that are staged and of which no rule has anything to say."""
        same = "found._file = raw._file and found._row = raw._row"
        clean = f"exists (select 1 from {self._staged} as found where {same})"
        findings = f'"findings"."{self._node.alias}"'
        if self._types(findings):
            clean += f" and not exists (select 1 from {findings} as found where {same})"
        return f"{clean} and not coalesce(raw._deleted, false)"

    def _inject(self) -> None:
        """Replaces the raw table by one with the mutated rows, the first one kept aside."""
        columns = ", ".join(f'"{name}"' for name in self._types(self._raw))
        self._connection.execute(
            f"create temporary table base_rows as select * from {self._staged};"
            f"create temporary table raw_rows as select * from {self._raw};"
            f"create or replace table {self._raw} as select {columns} from raw_rows as raw "
            f"where not exists (select 1 from mutants where {_SAME_ROW}) {self._part()}"
        )
        for number, (mutation, result) in enumerate(self._specs):
            if not result.injected or mutation.way == "remove":
                continue
            chosen = f"exists (select 1 from mutants where {_SAME_ROW} and _spec = {number})"
            sets = [f'{value} as "{name}"' for name, value in mutation.sets.items()]
            if mutation.way == "append":
                self._insert(columns, [], chosen)
                sets.append(f"_row + {NEW_ROW} as _row")
                if mutation.kind != "duplicated row":
                    sets.append(f"'{NEW_LOAD}' as _load_id")
            self._insert(columns, sets, chosen)

    def _insert(self, columns: str, sets: Sequence[str], chosen: str) -> None:
        replaced = (
            f"* exclude (_place) replace ({', '.join(sets)})" if sets else "* exclude (_place)"
        )
        self._connection.execute(
            f"insert into {self._raw} ({columns}) select {columns} from "
            f"(select {replaced} from clean_rows as raw where {chosen})"
        )

    def _part(self) -> str:
        [(count,)] = self._ask(f"select count(*) from {self._raw}")
        if count <= RAW_ROWS:
            return ""
        self._result.notes.append(f"screened with {RAW_ROWS:,} of its {count:,} raw rows")
        return f"order by hash(raw._file, raw._row) limit {RAW_ROWS}"

    def _put_raw_back(self) -> None:
        self._connection.execute(
            f"create or replace table {self._raw} as select * from raw_rows;"
            f"create temporary table screened_rows as select * from {self._staged}"
        )

    # -- what the rules noticed ----------------------------------------------------------------

    def _judge(self) -> None:
        """Reads off what the screening made of each mutated row."""
        self._connection.execute(
            f"create temporary table fates as with judged as ("
            f"select mutants._spec, mutants._file, mutants._row, {self._place()} as _place "
            f"from mutants) select judged._spec, judged._file, judged._row, "
            f"exists (select 1 from {self._staged} as staged where staged._file = judged._file "
            "and staged._row = judged._place) as is_staged, "
            f"exists (select 1 from {self._staged} as staged where staged._file = judged._file "
            "and staged._row = judged._row) as is_former_staged, "
            f"{self._reasons()} as reasons from judged"
        )
        unchanged = self._unchanged()
        for number, file, row, staged, former, reasons in self._ask(
            "select _spec, _file, _row, is_staged, is_former_staged, reasons "
            "from fates order by all"
        ):
            mutation, result = self._specs[number]
            rules = list(dict.fromkeys(reason for reason in reasons or () if reason))
            if mutation.way == "append" and not rules and _superseded(mutation, staged, former):
                rules = ["superseded: one row per key"]
            if rules:
                result.caught += 1
                for rule in rules:
                    result.caught_by[rule] = result.caught_by.get(rule, 0) + 1
            elif (file, row) in unchanged and mutation.way == "change":
                result.no_effect += 1
            else:
                result.survivors.append((file, row))

    def _place(self) -> str:
        """The number of a mutated row: that of the added row, where one was added."""
        added = [str(n) for n, (mutation, _) in enumerate(self._specs) if mutation.way == "append"]
        return (
            f"mutants._row + case when mutants._spec in ({', '.join(added) or 'null'}) "
            f"then {NEW_ROW} else 0 end"
        )

    def _reasons(self) -> str:
        """What rules said of a row, whether it was rejected or kept."""
        said = []
        for schema, column in (("quarantine", "reasons"), ("findings", "rule")):
            place = f'"{schema}"."{self._node.alias}"'
            if self._types(place):
                said.append(
                    f"select unnest(string_split(told.{column}, '; ')) as reason "
                    f"from {place} as told where told._file = judged._file "
                    "and told._row = judged._place"
                )
        return f"(select list(distinct reason order by reason) from ({' union all '.join(said)}))"

    def _unchanged(self) -> set[tuple[str, int]]:
        """Rows that are staged with the values they had before."""
        names = [name for name in self._staged_types() if name not in ("_file", "_row")]
        same = " and ".join(f'now."{name}" is not distinct from base."{name}"' for name in names)
        rows = self._ask(
            f"select now._file, now._row from {self._staged} as now "
            "inner join mutants on mutants._file = now._file and mutants._row = now._row "
            "inner join base_rows as base on base._file = now._file and base._row = now._row "
            f"where {same}"
        )
        return {(file, row) for file, row in rows}

    # -- what the tests noticed ----------------------------------------------------------------

    def _test_survivors(self) -> None:
        """Runs data tests over staged tables that hold what the rules let through."""
        groups = [(m, r) for m, r in self._specs if r.survivors]
        if not groups:
            return
        self._connection.execute(
            f"create or replace table {self._staged} as select * from base_rows;"
            "create temporary table put (_file varchar, _row bigint)"
        )
        tests = self._tests()
        before = {name: self._failures(sql) for name, (_, sql) in tests.items()}
        known = {name: count for name, count in before.items() if count is not None}
        self._stage(groups)
        noticing = {name for name in known if self._noticed(tests[name], known[name])}
        children = {tests[name][0] for name in noticing} - {self._node.unique_id}
        if children:
            # Built anew from what was: only what differs from that is the mutants' doing.
            self._stage([])
            self._rebuild(children)
            known |= {name: self._failures(tests[name][1]) or 0 for name in noticing}
        if not noticing:
            return
        for spec in groups:
            self._test_group(spec, sorted(noticing), tests, known, children)
        self._stage([])

    def _test_group(
        self,
        spec: tuple[Mutation, MutationResult],
        noticing: Sequence[str],
        tests: dict[str, tuple[str, str]],
        known: dict[str, int],
        children: set[str],
    ) -> None:
        """Finds out which survivors of one mutation tests notice: all at once, then one by one."""
        result = spec[1]
        survivors = list(result.survivors)

        def noticed() -> list[str]:
            self._stage([spec])
            self._rebuild(children)
            return [n for n in noticing if (self._failures(tests[n][1]) or 0) > known[n]]

        if not noticed():
            return
        for row in survivors:
            result.survivors = [row]
            for name in (found := noticed()):
                label = f"test {name}"
                result.caught_by[label] = result.caught_by.get(label, 0) + 1
            survivors = [other for other in survivors if not found or other != row]
            result.caught += 1 if found else 0
        result.survivors = survivors

    def _noticed(self, test: tuple[str, str], before: int) -> bool:
        owner, sql = test
        if owner != self._node.unique_id:
            self._rebuild({owner})
        return (self._failures(sql) or 0) > before

    def _tests(self) -> dict[str, tuple[str, str]]:
        """Data tests of the model and of the tables made from it: by name, owner and SQL.

        Left out are tests that compare it with what is not built anew here (its raw table, marts
        far below): they would notice the trial, not the defect.
        """
        below = descendants(self._manifest, self._node.unique_id)
        source = [
            k for k in parents(self._manifest, self._node.unique_id) if k.startswith("source")
        ]
        found: dict[str, tuple[str, str]] = {}
        for owner in [self._node.unique_id, *self._children()]:
            stale = (below | set(source)) - {owner, self._node.unique_id}
            for test in attached_tests(self._manifest, owner):
                sql = getattr(test, "compiled_code", None)
                compared = stale & set(parents(self._manifest, test.unique_id))
                if sql and not compared and test.name not in found:
                    found[test.name] = (owner, f"select {test.config.fail_calc} from ({sql}) as t")
        return found | self._references()

    def _references(self) -> dict[str, tuple[str, str]]:
        """Tests that other staged rows still have the row they refer to: they miss a lost one."""
        found: dict[str, tuple[str, str]] = {}
        for test in self._manifest.nodes.values():
            metadata = getattr(test, "test_metadata", None)
            sql = getattr(test, "compiled_code", None)
            if metadata is None or metadata.name != "relationships" or not sql:
                continue
            above = parents(self._manifest, test.unique_id)
            kinds = {self._manifest.nodes[key].config.materialized for key in above}
            if kinds == {"staging"} and self._node.unique_id in above:
                calculated = f"select {test.config.fail_calc} from ({sql}) as t"
                found[test.name] = (self._node.unique_id, calculated)
        return found

    def _children(self) -> list[str]:
        """Tables that are made from the staged rows; books of their outcome are not."""
        return [
            node.unique_id
            for node in self._manifest.nodes.values()
            if str(node.resource_type) == "model"
            and node.config.materialized in ("table", "by_key")
            and self._node.unique_id in parents(self._manifest, node.unique_id)
            and str(self._node.relation_name) in (node.compiled_code or "")
        ]

    def _stage(self, groups: Sequence[tuple[Mutation, MutationResult]]) -> None:
        """Makes the staged table hold the survivors of some mutations beside all other rows."""
        numbers = [n for n, spec in enumerate(self._specs) if any(spec[1] is g[1] for g in groups)]
        rows = [
            (file, row, self._specs[n][0].way)
            for n in numbers
            for file, row in self._specs[n][1].survivors
        ]
        places = [
            (file, place)
            for file, row, way in rows
            for place in ([row, row + NEW_ROW] if way == "append" else [row])
        ]
        self._swap("base_rows")
        self._connection.execute("delete from put")
        if places:
            self._connection.executemany("insert into put values (?, ?)", places)
        self._swap("screened_rows")

    def _swap(self, origin: str) -> None:
        """Takes the rows named in `put` from another table; cheaper than writing all anew."""
        is_put = "exists (select 1 from put where put._file = t._file and put._row = t._row)"
        self._connection.execute(
            f"delete from {self._staged} as t where {is_put};"
            f"insert into {self._staged} select * from {origin} as t where {is_put}"
        )

    def _rebuild(self, models: set[str]) -> None:
        import duckdb

        for unique_id in sorted(models - {self._node.unique_id}):
            node = self._manifest.nodes[unique_id]
            try:
                self._connection.execute(
                    f'create or replace table "{node.schema}"."{node.alias}" as '
                    f"{node.compiled_code}"
                )
            except duckdb.Error as error:
                note = f"{node.name} cannot be built over mutated rows: {first_line(error)}"
                self._result.notes.append(note)

    def _failures(self, sql: str) -> int | None:
        import duckdb

        try:
            [(count,)] = self._ask(sql)
        except duckdb.Error:
            return None
        return int(count or 0)

    # -- asking --------------------------------------------------------------------------------

    def _staged_types(self) -> dict[str, str]:
        return self._types(self._staged)

    def _types(self, relation: str) -> dict[str, str]:
        schema, name = (part.strip('"') for part in relation.split("."))
        rows = self._connection.execute(
            "select lower(column_name), data_type from duckdb_columns() "
            "where lower(schema_name) = lower(?) and lower(table_name) = lower(?) "
            "and database_name = current_database() order by column_index",
            [schema, name],
        ).fetchall()
        return {row[0]: row[1] for row in rows}

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._connection.execute(sql).fetchall()
        return found


_SAME_ROW = "mutants._file = raw._file and mutants._row = raw._row"


def _superseded(mutation: Mutation, is_staged: bool, is_former_staged: bool) -> bool:
    """Whether one row of the key is left, and the right one."""
    if mutation.caught_if_last:
        return is_staged != is_former_staged
    return is_former_staged and not is_staged


def _rules_of(column: Any) -> list[Any]:
    config = getattr(column, "config", None)
    meta = (getattr(config, "meta", None) or {}) | (column.meta or {})
    return list(meta.get("rules") or [])


def _referring(manifest: Any, node: Any) -> set[str]:
    """Staged columns that point to another table, as rules and tests say."""
    found = set()
    for column in node.columns.values():
        if any("reference" in rule for rule in _rules_of(column)):
            found.add(column.name.lower())
    for rule in ((node.config.meta or {}).get("staging") or {}).get("rules") or []:
        found |= {str(name).lower() for name in (rule.get("reference") or {}).get("columns") or {}}
    for test in attached_tests(manifest, node.unique_id):
        metadata = getattr(test, "test_metadata", None)
        if metadata is not None and metadata.name == "relationships":
            found.add(str(metadata.kwargs.get("column_name")).lower())
    return found


def _unruled(manifest: Any, node: Any, columns: dict[str, str]) -> tuple[str, ...]:
    """Staged columns that no rule and no data test speaks of."""
    meta = (node.config.meta or {}).get("staging") or {}
    spoken = " ".join(str(rule) for rule in meta.get("rules") or [])
    named = {column.name.lower() for column in node.columns.values() if _rules_of(column)}
    named |= {str(name).lower() for name in meta.get("key") or []}
    for test in attached_tests(manifest, node.unique_id):
        metadata = getattr(test, "test_metadata", None)
        spoken += f" {metadata.kwargs}" if metadata is not None else ""
    words = set(_words(spoken))
    return tuple(name for name in columns if not name.startswith("_") and name not in named | words)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
