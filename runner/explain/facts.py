"""What is known about the relations on an explained row's way, beside their rows.

run history -> who built each model, what its tests said last
manifest -> row rules of staging
warehouse -> other raw rows of the same key, findings that were kept, files of the ledger

Left out: the way itself, which `explain` goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runner.history import History
from runner.project import attached_tests

if TYPE_CHECKING:
    import duckdb

    from runner.compiled.view import Project

_SHOWN_VERSIONS = 20
_SHOWN_FILES = 20
_LAST_BUILD = """
    select step_items.run_id, step_items.recorded_at, runs.git_revision
    from step_items inner join runs on runs.run_id = step_items.run_id
    where step = 'build' and kind in ('model', 'seed', 'snapshot') and name = ?
        and step_items.status = 'ok'
    order by step_items.recorded_at desc, step_items.rowid desc limit 1
"""
_LAST_TEST = """
    select status, row_count as failures, run_id, recorded_at
    from step_items where step = 'audit' and kind = 'test' and name = ?
    order by recorded_at desc, rowid desc limit 1
"""
_FINDING_COLUMNS = ("model", "_file", "_row", "defect", "column_name", "rule", "treatment")


def last_build(history: History | None, name: str) -> dict[str, Any] | None:
    """The run that built a model last: `run_id`, `built_at`, `git_revision`; None if none did."""
    found = history.rows(_LAST_BUILD, (name,)) if history else []
    if not found:
        return None
    row = found[0]
    return {
        "run_id": row["run_id"],
        "built_at": row["recorded_at"],
        "git_revision": row["git_revision"],
    }


def last_tests(history: History | None, manifest: Project, unique_id: str) -> list[dict[str, Any]]:
    """Data tests of a model with what they said last.

    Returns:
        By name: `test`, `file`, `status` (ok, warned, failed, or `not run` where no audit of the
        history ran it), `failures` (rows), `run_id`, `tested_at`.
    """
    listed = []
    for node in attached_tests(manifest, unique_id):
        found = history.rows(_LAST_TEST, (node.name,)) if history else []
        row = found[0] if found else {}
        listed.append(
            {
                "test": node.name,
                "file": node.original_file_path,
                "status": row.get("status", "not run"),
                "failures": row.get("failures"),
                "run_id": row.get("run_id"),
                "tested_at": row.get("recorded_at"),
            }
        )
    return listed


def published_versions(history: History | None, run_id: str | None) -> list[str]:
    """Versions that a run made and that are still there."""
    if history is None or run_id is None:
        return []
    found = history.rows(
        "select version from published_versions "
        "where run_id = ? and published_at is not null and removed_at is null",
        (run_id,),
    )
    return [row["version"] for row in found]


def declared_rules(node: Any) -> list[str]:
    """The row rules of a staging model, each as a text: `quantity between [1, 500]`."""
    texts = []
    for column in node.columns.values():
        config = getattr(column, "config", None)
        meta = (getattr(config, "meta", None) or {}) | (column.meta or {})
        texts += [_rule_text(column.name, rule) for rule in meta.get("rules") or []]
    staging = (node.config.meta or {}).get("staging") or {}
    texts += [_rule_text("", rule) for rule in staging.get("rules") or []]
    required = [f"{name} required (key)" for name in staging.get("key") or []]
    return list(dict.fromkeys([*required, *texts]))


def _rule_text(column: str, rule: Mapping[str, Any]) -> str:
    extras = ("name", "defect", "severity")
    parts = []
    for kind, argument in rule.items():
        if kind == "reference" and isinstance(argument, dict):
            theirs = argument.get("column") or ", ".join((argument.get("columns") or {}).values())
            parts.append(f"refers to {argument.get('model')}.{theirs}")
        elif kind not in extras:
            parts.append(kind if argument is True else f"{kind} {argument}")
    named = f" ({rule['name']})" if rule.get("name") else ""
    return f"{column} {'; '.join(parts)}".strip() + named


def other_versions(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    staged: str,
    quarantine: str | None,
    findings: str | None,
    only: str,
) -> list[dict[str, Any]]:
    """Raw rows that bear the same keys as staged rows, but were not staged.

    Args:
        connection: The warehouse.
        sql: The staging model's compiled SQL.
        staged: The staged table, as SQL names it.
        quarantine: Its quarantine, as SQL names it; None if there is none.
        findings: Its findings, as SQL names them; None if there are none.
        only: Condition on the key columns.

    Returns:
        `_file`, `_row`, `_load_id`, `outcome` (quarantined, deleted, superseded), `reasons`.
    """
    found_in = findings or "(select '' as _file, 0 as _row, '' as rule where false)"
    rejected = quarantine or "(select '' as _file, 0 as _row, '' as reasons where false)"
    found = connection.execute(
        f"""
        select
            cleaned._file, cleaned._row, cleaned._load_id,
            case
                when rejected._file is not null then 'quarantined'
                when cleaned._deleted then 'deleted'
                else 'superseded'
            end as outcome,
            coalesce(rejected.reasons, (
                select string_agg(distinct found.rule, '; ' order by found.rule)
                from {found_in} as found
                where found._file = cleaned._file and found._row = cleaned._row
            )) as reasons
        from ({sql}) as cleaned
        left join {rejected} as rejected
            on rejected._file = cleaned._file and rejected._row = cleaned._row
        where ({only}) and not exists (
            select 1 from {staged} as staged
            where staged._file = cleaned._file and staged._row = cleaned._row
        )
        order by cleaned._load_id desc, cleaned._file desc, cleaned._row desc
        limit {_SHOWN_VERSIONS}
        """
    )
    return _records(found)


def kept_findings(
    connection: duckdb.DuckDBPyConnection, findings: str, model: str, rows: str
) -> list[dict[str, Any]]:
    """Defects that rules found in contributing rows without rejecting them.

    Args:
        connection: The warehouse.
        findings: The relation of findings, as SQL names it.
        model: The staging model's name.
        rows: A query of the contributing rows' `_file` and `_row`.
    """
    found = connection.execute(
        f"""
        select findings.defect, findings.column_name, findings.rule, count(*) as row_count
        from {findings} as findings
        inner join ({rows}) as contributing
            on findings._file = contributing._file and findings._row = contributing._row
        where findings.model = ? and findings.treatment = 'staged'
        group by all
        order by all
        """,
        [model],
    )
    return _records(found)


def findings_place(columns: Mapping[str, Mapping[str, str]]) -> str | None:
    """The relation of findings, if the warehouse has one."""
    for relation, known in columns.items():
        if relation.endswith(".findings") and set(_FINDING_COLUMNS) <= set(known):
            return relation
    return None


def ledger_files(
    connection: duckdb.DuckDBPyConnection, source: str, table: str, rows: str
) -> list[dict[str, Any]]:
    """The landed files of contributing raw rows, those with most rows first.

    Args:
        connection: The warehouse.
        source: The source's name.
        table: The table's name.
        rows: A query of the raw rows' `_file`, `_load_id` and `_extracted_at`.
    """
    found = connection.execute(
        f"""
        with contributing as (
            select _file, _load_id, max(_extracted_at) as extracted_at, count(*) as row_count
            from ({rows}) group by all
        )

        select
            contributing._file as file, files.origin_name, contributing.row_count,
            contributing._load_id as load_id, contributing.extracted_at, files.loaded_at,
            files.reader, files.sha256, files.rows_read, files.rows_rejected
        from contributing
        left join ledger.files as files
            on files.file = contributing._file and files.load_id = contributing._load_id
            and files.source = ? and files.table_name = ?
        order by contributing.row_count desc, contributing._file
        limit {_SHOWN_FILES}
        """,
        [source, table],
    )
    return _records(found)


def _records(found: Any) -> list[dict[str, Any]]:
    names: Sequence[str] = [column[0] for column in found.description]
    rows: Iterator[tuple[Any, ...]] = iter(found.fetchall())
    return [dict(zip(names, row, strict=True)) for row in rows]
