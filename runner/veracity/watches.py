"""What the project declares about unusual values: `meta.anomalies`, `no_gaps`, `sequence`, files.

dbt's manifest -> `watches` -> one `Watch` a staging table or mart, one `FileWatch` a source table

Staging tables and marts are watched without a word said; declarations change how severe and how
sensitive, and add what cannot be guessed: series inside a mart, gaps, the cadence of files. All
faults are reported together, before anything runs. Left out: what is unusual; `anomalies` knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ingestion.errors import DeclarationError

if TYPE_CHECKING:
    from runner.compiled.view import Project

WATCHED_FOLDERS = frozenset({"staging", "marts"})
Severity = Literal["warn", "error", "off"]
Sensitivity = Literal["low", "normal", "high"]
Grain = Literal["hour", "day", "week", "month"]
Measure = Literal["rows", "null_share", "distinct", "sum", "newest"]
_Kind = TypeVar("_Kind", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SeriesWatch(_Strict):
    """A series inside a table, such as sales by day and region.

    Attributes:
        time: Column that tells when.
        value: Column to aggregate; `rows` counts rows.
        by: Columns; each combination of their values is a series of its own.
        grain: Length of a slot.
        aggregate: How values of a slot become one; a slot without rows counts 0 for a sum.
        report: How many slots back an unusual value is still told.
        severity: Overrides that of the table.
        sensitivity: Overrides that of the table.
    """

    time: str
    value: str = "rows"
    by: tuple[str, ...] = ()
    grain: Grain = "day"
    aggregate: Literal["sum", "avg", "min", "max"] = "sum"
    report: int = 14
    severity: Severity | None = None
    sensitivity: Sensitivity | None = None


class Anomalies(_Strict):
    """`meta.anomalies` of a model, or of a folder in `dbt_project.yml`.

    Attributes:
        severity: What an unusual value does: warn, fail the audit, or nothing.
        sensitivity: `high` has the narrowest band.
        measures: Judge only these; all if None.
        series: Series inside the table.
    """

    severity: Severity = "warn"
    sensitivity: Sensitivity = "normal"
    measures: tuple[Measure, ...] | None = None
    series: tuple[SeriesWatch, ...] = ()


class ColumnAnomalies(_Strict):
    """`meta.anomalies` of a column; what is None is as for the table."""

    severity: Severity | None = None
    sensitivity: Sensitivity | None = None
    measures: tuple[Measure, ...] | None = None


class NoGaps(_Strict):
    """`meta.no_gaps` of a date or timestamp column.

    Attributes:
        by: Length of a slot that must not be empty.
        per: Columns; each combination of their values must be free of gaps by itself.
        since: Slots before this day may be empty.
        weekdays: Whether Saturdays and Sundays may be empty.
        severity: What a gap does.
    """

    by: Grain = "day"
    per: tuple[str, ...] = ()
    since: date | None = None
    weekdays: bool = False
    severity: Severity = "warn"


class NumberSequence(_Strict):
    """`meta.sequence` of a column of numbers, or of texts that end in one.

    Attributes:
        per: Columns; each combination of their values has a sequence of its own.
        severity: What a missing number does.
    """

    per: tuple[str, ...] = ()
    severity: Severity = "warn"


class ExpectedFiles(_Strict):
    """`meta.expected_files` of a source table that is read from files.

    Attributes:
        every: How often a file is due; its name must hold the date, the week or the month.
        severity: What a missing file does.
    """

    every: Literal["day", "week", "month"]
    severity: Severity = "warn"


@dataclass(frozen=True)
class Watch:
    """A table that is measured at every run.

    Attributes:
        unique_id: dbt's name of the model.
        schema: Its schema.
        name: Its name there.
        anomalies: How it is judged.
        columns: Columns that are judged otherwise.
        no_gaps: Columns of times that must not leave out a slot.
        sequences: Columns of numbers that must not leave out one.
    """

    unique_id: str
    schema: str
    name: str
    anomalies: Anomalies = field(default_factory=Anomalies)
    columns: Mapping[str, ColumnAnomalies] = field(default_factory=dict)
    no_gaps: Mapping[str, NoGaps] = field(default_factory=dict)
    sequences: Mapping[str, NumberSequence] = field(default_factory=dict)

    @property
    def relation(self) -> str:
        """Schema and name, as people write it."""
        return f"{self.schema}.{self.name}"

    def severity(self, column: str, measure: str) -> Severity:
        """What an unusual value of a measure does; `off` if it is not to be judged."""
        own = self.columns.get(column, ColumnAnomalies())
        wanted = own.measures if own.measures is not None else self.anomalies.measures
        if wanted is not None and measure not in wanted:
            return "off"
        return own.severity or self.anomalies.severity

    def sensitivity(self, column: str) -> Sensitivity:
        """How narrow the band of a column's measures is."""
        own = self.columns.get(column, ColumnAnomalies())
        return own.sensitivity or self.anomalies.sensitivity


@dataclass(frozen=True)
class FileWatch:
    """A source table whose files are due regularly.

    Attributes:
        source: Name of the source.
        table: Name of the table.
        expected: How often.
    """

    source: str
    table: str
    expected: ExpectedFiles


def watches(manifest: Project) -> tuple[list[Watch], list[FileWatch]]:
    """Reads what is watched and how.

    Args:
        manifest: The parsed project.

    Returns:
        Watched tables, and source tables with files that are due regularly.

    Raises:
        DeclarationError: A declaration is wrong; all faults are named.
    """
    faults: list[str] = []
    tables = [_watch(node, faults) for node in _watched_nodes(manifest)]
    files = list(_file_watches(manifest, faults))
    if faults:
        title = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise DeclarationError(
            message=f"{title} in what is declared about anomalies:\n"
            + "\n".join(f"  {fault}" for fault in faults),
            hint="docs/guides/anomalies.md has every key.",
        )
    return tables, files


def _watched_nodes(manifest: Project) -> Iterator[Any]:
    for _, node in sorted(manifest.nodes.items()):
        is_built = str(node.resource_type) == "model" and node.config.materialized != "ephemeral"
        if is_built and WATCHED_FOLDERS & set(node.fqn[1:-1]):
            yield node


def _watch(node: Any, faults: list[str]) -> Watch:
    place = f"{_file(node)}: model {node.name}"
    known = set(node.columns)
    anomalies = _parsed(Anomalies, node.config.meta, "anomalies", place, faults) or Anomalies()
    for series in anomalies.series:
        wanted = {series.time, *series.by, *({series.value} - {"rows"})}
        _check_columns(wanted, known, f"{place}, meta.anomalies.series", faults)
    columns, gaps, sequences = {}, {}, {}
    for name, column in node.columns.items():
        meta, where = _meta(column), f"{place}, column {name}"
        if own := _parsed(ColumnAnomalies, meta, "anomalies", where, faults):
            columns[name] = own
        if gap := _parsed(NoGaps, meta, "no_gaps", where, faults):
            gaps[name] = gap
            _check_columns(gap.per, known, f"{where}, meta.no_gaps.per", faults)
        if sequence := _parsed(NumberSequence, meta, "sequence", where, faults):
            sequences[name] = sequence
            _check_columns(sequence.per, known, f"{where}, meta.sequence.per", faults)
    key = (node.unique_id, node.schema, node.alias)
    return Watch(*key, anomalies, columns, gaps, sequences)


def _file_watches(manifest: Project, faults: list[str]) -> Iterator[FileWatch]:
    for _, node in sorted(manifest.sources.items()):
        place = f"{node.original_file_path}: source {node.source_name}, table {node.name}"
        if expected := _parsed(ExpectedFiles, _meta(node), "expected_files", place, faults):
            yield FileWatch(node.source_name, node.name, expected)


def _meta(node: Any) -> Mapping[str, Any]:
    config = getattr(node, "config", None)
    return {**(getattr(node, "meta", None) or {}), **(getattr(config, "meta", None) or {})}


def _file(node: Any) -> str:
    return str(node.patch_path or node.original_file_path).rpartition("://")[2]


def _parsed(
    kind: type[_Kind], meta: Mapping[str, Any], key: str, place: str, faults: list[str]
) -> _Kind | None:
    """One declaration; None where there is none, or where it is wrong, which `faults` then says."""
    if key not in (meta or {}):
        return None
    given = meta[key]
    # `no_gaps: true` asks for the defaults.
    try:
        return kind.model_validate({} if given is True else given)
    except ValidationError as error:
        for fault in error.errors():
            path = ".".join(map(str, ("meta", key, *fault["loc"])))
            faults.append(f"{place}, {path}: found {fault['input']!r}; {fault['msg']}")
    return None


def _check_columns(
    wanted: Collection[str], known: Collection[str], place: str, faults: list[str]
) -> None:
    for name in sorted(set(wanted) - set(known)):
        faults.append(f"{place}: no column {name}; known: {', '.join(sorted(known)) or 'none'}")
