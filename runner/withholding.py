"""What is held back because something that it is made from failed.

failed source, model or test -> everything made from it -> not built, not published: readers keep
its last good version, and are told so

Nothing is published that was not tested together with what readers get beside it: a test that reads
both a model that goes on and one that is withheld is asked of the withheld one's last good version.
Left out: whether a failure holds back what depends on it or ends the run, which `[failures]` says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.settings import Settings
from runner.batch import FORMER
from runner.machine import StepResult, to_later
from runner.project import made_from, parents, published_relations
from runner.report import count
from runner.versions import Version, current_version

if TYPE_CHECKING:
    from runner.compiled.view import Project
    from runner.steps import Run
    from runner.transform import NodeResult

_NAMED = 5


@dataclass
class Withheld:
    """Models that are held back in a run.

    Attributes:
        why: The reason, by the model's unique id.
    """

    why: dict[str, str] = field(default_factory=dict)

    def __contains__(self, unique_id: object) -> bool:
        return unique_id in self.why

    def __len__(self) -> int:
        return len(self.why)

    def add(self, manifest: Project, roots: Iterable[str], reason: str) -> int:
        """Holds back nodes and all that is made from them; returns how many models are new.

        Args:
            manifest: The project.
            roots: Unique ids of source tables, models, seeds or snapshots.
            reason: Why, as a sentence part: `source shop failed`.
        """
        wanted = set(roots)
        found = (made_from(manifest, wanted) | wanted) & set(manifest.nodes)
        new = [key for key in sorted(found) if key not in self.why]
        for key in new:
            self.why[key] = reason
        return sum(key.startswith("model.") for key in new)

    def relations(self, manifest: Project) -> dict[str, str]:
        """Reasons by the name of the table that readers would have got."""
        relations = published_relations(manifest)
        return {str(r): self.why[r.unique_id] for r in relations if r.unique_id in self.why}


@dataclass(frozen=True)
class Former:
    """The last good version, as it stands in for what is withheld.

    Attributes:
        database: Its DuckDB file.
        tables: By unique id: the relation in the warehouse, and the one that stands in for it.
    """

    database: Path
    tables: Mapping[str, tuple[str, str]]

    def rewritten(self, sql: str) -> str:
        """The SQL, asked of the stand-ins."""
        for relation, stand_in in self.tables.values():
            sql = sql.replace(relation, stand_in)
        return sql


def former_of(settings: Settings, manifest: Project, withheld: Withheld) -> Former | None:
    """What stands in for withheld models that readers have in an earlier version.

    Returns:
        None if nothing is withheld or nothing is published yet.
    """
    version = current_version(settings)
    if version is None or not withheld:
        return None
    known = {table["name"] for table in version.manifest()["tables"]}
    tables = {}
    for relation in published_relations(manifest):
        if relation.unique_id in withheld and str(relation) in known:
            name = str(manifest.nodes[relation.unique_id].relation_name)
            stand_in = f'{FORMER}."{relation.schema}"."{relation.name}"'
            tables[relation.unique_id] = (name, stand_in)
    return Former(version.database, tables)


@dataclass(frozen=True)
class SplitTests:
    """Tests, by what can be done with them while models are withheld.

    Attributes:
        fresh: They read nothing that is withheld.
        mixed: They read withheld models too, all of which have a stand-in.
        unasked: They read withheld models without one: nothing can be said.
    """

    fresh: list[Any]
    mixed: list[Any]
    unasked: list[Any]


def split_tests(tests: Iterable[Any], withheld: Withheld, former: Former | None) -> SplitTests:
    """Sorts tests by what can be done with them; those of withheld models alone are dropped."""
    split = SplitTests([], [], [])
    replaced = former.tables if former else {}
    for test in tests:
        above = list(getattr(test.depends_on, "nodes", ()))
        touched = {key for key in above if key in withheld}
        if not touched:
            split.fresh.append(test)
        elif _attached(test) in withheld or touched == set(above):
            continue
        elif touched <= set(replaced):
            split.mixed.append(test)
        else:
            split.unasked.append(test)
    return split


def tested_models(manifest: Project, test_id: str) -> list[str]:
    """What a failed test is held against: its own model, or all that it reads."""
    attached = _attached(manifest.nodes[test_id])
    return [attached] if attached else parents(manifest, test_id)


def _attached(test: Any) -> str:
    """The model that a test belongs to; empty for a singular one, whose class has no such field."""
    return getattr(test, "attached_node", None) or ""


def withhold_misfits(run: Run, split: SplitTests, mixed: Sequence[NodeResult]) -> list[NodeResult]:
    """Holds back models that cannot be vouched for beside the last good version of others.

    Args:
        run: The run.
        split: The tests.
        mixed: Results of its mixed tests.

    Returns:
        The results, with failures as warnings: what failed is held back.
    """
    manifest = run.dbt.project
    for test in split.unasked:
        if attached := _attached(test):
            reason = f"{test.name} needs a model that is withheld"
            run.withheld.add(manifest, [attached], reason)
    told = []
    for result in mixed:
        if result.status == "failed":
            fresh = [k for k in tested_models(manifest, result.unique_id) if k not in run.withheld]
            reason = f"{result.name} fails beside the last good version of what is withheld"
            run.withheld.add(manifest, fresh, reason)
            message = f"{result.message}; held back: {reason}"
            result = replace(result, status="warned", message=message)
        told.append(result)
    return told


# -- what a flow catches -----------------------------------------------------------------------


def withhold_sources(run: Run, result: StepResult) -> StepResult:
    """Goes on without the sources that failed, if any did not."""
    if result.stop is not None or run.settings.failures.source == "go_on":
        return result
    manifest = run.dbt.project
    number = 0
    for source, tables in sorted(run.failed_tables.items()):
        roots = [
            key
            for key, node in manifest.sources.items()
            if node.source_name == source and node.name in tables
        ]
        number += run.withheld.add(manifest, roots, f"source {source} failed")
    return replace(result, text=f"{result.text}{_told(number)}") if number else result


def withhold_failed(run: Run, result: StepResult) -> StepResult:
    """Goes on without the models that could not be built."""
    if run.settings.failures.build == "stop" or not run.failed_nodes:
        return result
    number = 0
    for node in run.failed_nodes:
        reason = f"{node.kind} {node.name} could not be built"
        number += run.withheld.add(run.dbt.project, [node.unique_id], reason)
    return to_later(replace(result, text=f"{result.text}{_told(number)}"))


def survives_tests(run: Run) -> bool:
    """Whether failed tests hold back their models alone: nothing else is wrong with the audit."""
    failed = any(test.result.status == "failed" for test in run.failed_tests)
    whole = not run.landing_faults and not run.observed.errors
    return failed and whole and run.settings.failures.tests == "withhold"


def withhold_tested(run: Run, result: StepResult) -> StepResult:
    """Goes on without the models whose tests failed; vouches for the others."""
    if not survives_tests(run):
        return result
    failed = [test.result for test in run.failed_tests if test.result.status == "failed"]
    manifest = run.dbt.project
    number = 0
    for test in failed:
        roots = tested_models(manifest, test.unique_id)
        number += run.withheld.add(manifest, roots, f"test {test.name} failed")
    run.note_audit(passed=True)
    return to_later(replace(result, text=f"{result.text}{_told(number)}"))


def withheld_tables(version: Version) -> dict[str, dict[str, str | None]]:
    """Tables of a version that were held back when it was made.

    Returns:
        By name: `why`, and `since`, the version that their rows are from; None if there never was
        one, so that readers do not have the table.
    """
    manifest = version.manifest()
    since = {table["name"]: table["from_version"] for table in manifest["tables"]}
    withheld = manifest.get("withheld", {})
    return {name: {"why": why, "since": since.get(name)} for name, why in withheld.items()}


def tell_kept(kept: Mapping[str, str | None]) -> str:
    """What readers have of a withheld table."""
    since = kept["since"]
    return f"readers have it as of version {since}" if since else "it was never published"


def _told(number: int) -> str:
    return f"; {count(number, 'model')} withheld" if number else ""


def named(names: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    listed = sorted(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return f"{', '.join(listed[:_NAMED])}{more}"
