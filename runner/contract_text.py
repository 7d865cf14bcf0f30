"""The description that a model with a contract lacks, as YAML to be completed.

message of dbt, compiled SQL -> columns as DuckDB sees them -> YAML in the message
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.yaml_scalar import scalar

if TYPE_CHECKING:
    from runner.transform import NodeResult

# What dbt says of a model whose contract has nothing to be held against.
_NO_COLUMNS = "has an enforced contract, and its 'columns' specification is missing"
_TYPES = {"varchar": "string", "timestamp with time zone": "timestamptz"}


def with_missing_contract(result: NodeResult, ask: Callable[[str], list[tuple[Any, ...]]]) -> str:
    """What dbt said; with the YAML to write, where it misses the columns of a contract.

    Args:
        result: What became of the model.
        ask: Answers a query over the warehouse.
    """
    import duckdb

    if _NO_COLUMNS not in result.message or not result.compiled_sql:
        return result.message
    try:
        columns = ask(f"describe {result.compiled_sql}")
    except duckdb.Error as error:
        return f"it has a contract, but nothing describes its columns; nor can it be read: {error}"
    file = Path(result.file).with_suffix(".yml")
    lines = [
        f"it has a contract, but nothing describes its columns. Put this into {file}, and say what "
        "they mean:",
        "models:",
        f"  - name: {scalar(result.name)}",
        "    description: One row per ...",
        "    columns:",
    ]
    for name, data_type, *_ in columns:
        kind = _TYPES.get(data_type.lower(), data_type.lower().replace(",", ", "))
        lines += [f"      - name: {scalar(name)}", f"        data_type: {kind}"]
        lines.append("        description: ...")
    return "\n".join(lines)
