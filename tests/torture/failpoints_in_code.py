"""Finds the failpoints in the code by reading it, not by running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ingestion", "runner")


def failpoint_calls() -> Iterator[tuple[str, str]]:
    """Name (empty if it is no literal) and place of every call of `failpoint`."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                    continue
                if node.func.id == "failpoint":
                    first = node.args[0] if node.args else None
                    literal = isinstance(first, ast.Constant) and isinstance(first.value, str)
                    name = str(first.value) if literal else ""  # type: ignore[union-attr]  # literal says it is a constant
                    yield name, f"{path.relative_to(ROOT)}:{node.lineno}"


def failpoints_in_code() -> set[str]:
    """Names of all failpoints."""
    return {name for name, _ in failpoint_calls()}
