"""The house rules hold for every model, seed, source, macro, test and exposure of the project."""

from __future__ import annotations

from collections.abc import Callable

import checks
import pytest
from warehouses import BuiltProject


@pytest.mark.parametrize("rule", checks.BY_MANIFEST, ids=lambda rule: rule.__name__)
def test_rule_holds(
    built_project: BuiltProject, rule: Callable[[checks.Manifest], list[checks.Finding]]
) -> None:
    findings = rule(built_project.manifest)
    assert not findings, f"{rule.__doc__}\n" + "\n".join(map(str, sorted(findings)))


def test_documented_columns_are_the_built_columns(built_project: BuiltProject) -> None:
    findings = checks.documented_is_built(built_project.manifest, built_project.catalog)
    assert not findings, "\n".join(map(str, sorted(findings)))


# example: begin
def test_the_rules_had_something_to_judge(built_project: BuiltProject) -> None:
    layers = {checks.layer(node) for node in checks.models(built_project.manifest)}
    assert {"staging", "intermediate", "marts"} <= layers


# example: end
