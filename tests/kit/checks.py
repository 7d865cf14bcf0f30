"""Rules of the house, asked of dbt's manifest and catalog.

manifest, catalog ─> one function per rule ─> findings: file, what is wrong, what to do

Each function takes the manifest as dbt writes it (plain dictionaries) and returns findings, so the
rules hold for any models that are added to the project, and can be tried on a hand-made manifest.
What needs eyes (is a name well chosen, is a description true) is left out.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

Node = Mapping[str, Any]
Manifest = Mapping[str, Any]

READS = {
    "staging": {"source", "staging", "seed"},
    "intermediate": {"staging", "intermediate", "seed"},
    "marts/core": {"intermediate", "marts/core", "seed"},
    "marts": {"intermediate", "marts/core", "seed"},
    "ledger": {"source", "staging", "intermediate", "ledger", "seed"},
    "ops": {"source", "ops"},
}
"""Which layers a model may read. Staging reads staging only to check a reference."""

NAMES = {
    "staging": r"stg_{folder}__[a-z0-9_]+s",
    "intermediate": r"int_[a-z0-9_]+_([a-z]+ed|built|found|held|kept|known|made|sent|split)",
    "marts/core": r"(dim|fct|bridge)_[a-z0-9_]+",
    "marts": r"(dim|fct|bridge|rpt)_[a-z0-9_]+",
    "ledger": r"[a-z0-9_]+",
    "ops": r"[a-z0-9_]+",
}
"""How a model of each layer is called; `{folder}` is the folder that it lies in."""

NAME_HINTS = {
    "staging": "stg_<source>__<entity>s",
    "intermediate": "int_<entity>s_<verb in the past participle>",
    "marts/core": "dim_, fct_ or bridge_",
    "marts": "fct_, dim_, bridge_ or rpt_",
    "ledger": "lower case with underscores",
    "ops": "lower case with underscores",
}

TABLES = {"model", "seed", "source"}

UNIT_TESTED_SHARE = 0.4
LINES_MEDIAN, LINES_P90, LINES_MOST = 40, 110, 200


@dataclass(frozen=True, order=True)
class Finding:
    """One breach of a rule.

    Attributes:
        file: where to mend it, relative to the project.
        message: what is wrong and what to do.
    """

    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


def models(manifest: Manifest) -> list[Node]:
    """Return the project's own models, in order of their files."""
    project = manifest["metadata"]["project_name"]
    own = [
        node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["package_name"] == project
    ]
    return sorted(own, key=lambda node: str(node["original_file_path"]))


def layer(node: Node) -> str:
    """Name the layer of a model, seed or source: by its folder, nothing else."""
    if node["resource_type"] in {"source", "seed"}:
        return str(node["resource_type"])
    folders = PurePosixPath(node["original_file_path"]).parts[1:-1]
    if folders[:2] == ("marts", "core"):
        return "marts/core"
    return folders[0] if folders else "none"


def _parents(manifest: Manifest, node: Node) -> Iterator[Node]:
    for unique_id in node["depends_on"]["nodes"]:
        parent = manifest["nodes"].get(unique_id) or manifest["sources"].get(unique_id)
        if parent:
            yield parent


def _children(manifest: Manifest) -> Mapping[str, list[Node]]:
    children: dict[str, list[Node]] = defaultdict(list)
    for node in models(manifest):
        for unique_id in node["depends_on"]["nodes"]:
            children[unique_id].append(node)
    return children


def layering(manifest: Manifest) -> list[Finding]:
    """A layer reads only the one below; only staging calls `source()`; marts read marts/core."""
    findings = []
    for node in models(manifest):
        here = layer(node)
        if here not in READS:
            known = ", ".join(f"models/{name}" for name in READS)
            message = f"lies in no layer; move it to a folder of {known}"
            findings.append(Finding(node["original_file_path"], message))
            continue
        for parent in _parents(manifest, node):
            if layer(parent) not in READS[here]:
                message = (
                    f"{here} reads {layer(parent)} ({parent['name']}); read "
                    f"{' or '.join(sorted(READS[here] - {'source', 'seed'}))} instead, or move the "
                    f"model"
                )
                findings.append(Finding(node["original_file_path"], message))
    return findings


def naming(manifest: Manifest) -> list[Finding]:
    """File, model and YAML share one name, and the name tells the layer."""
    findings = []
    for node in models(manifest):
        path = PurePosixPath(node["original_file_path"])
        pattern = NAMES.get(layer(node), ".*").format(folder=re.escape(path.parent.name))
        if not re.fullmatch(pattern, node["name"]):
            message = f"`{node['name']}` does not tell its layer; name it {NAME_HINTS[layer(node)]}"
            findings.append(Finding(str(path), message))
        if node["name"] != path.stem:
            findings.append(Finding(str(path), f"model {node['name']} differs from its file"))
        described_in = PurePosixPath((node.get("patch_path") or "").split("://")[-1])
        if described_in.stem != path.stem or described_in.parent != path.parent:
            message = (
                f"is described in `{described_in}`; put its YAML into {path.stem}.yml beside it"
            )
            findings.append(Finding(str(path), message))
    return findings


def _tests_by_model(manifest: Manifest) -> Mapping[str, list[Node]]:
    tests: dict[str, list[Node]] = defaultdict(list)
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test" and node.get("attached_node"):
            tests[node["attached_node"]].append(node)
    return tests


def _tested_columns(tests: list[Node], test_name: str) -> set[str]:
    found = set()
    for test in tests:
        metadata = test.get("test_metadata") or {}
        column = metadata.get("kwargs", {}).get("column_name") or test.get("column_name")
        if metadata.get("name") == test_name and column:
            found.add(str(column))
    return found


def keys_tested(manifest: Manifest) -> list[Finding]:
    """Every model proves its grain: unique and not_null on one column, or a unique combination."""
    tests = _tests_by_model(manifest)
    findings = []
    for node in models(manifest):
        own = tests[node["unique_id"]]
        single = _tested_columns(own, "unique") & _tested_columns(own, "not_null")
        several = [
            t for t in own if "unique_comb" in (t.get("test_metadata") or {}).get("name", "")
        ]
        if not single and not several:
            message = "its key is untested; add unique and not_null to it, or unique_combination"
            findings.append(Finding(node["original_file_path"], message))
    return findings


def foreign_keys_tested(manifest: Manifest) -> list[Finding]:
    """A surrogate key of another mart has a `relationships` test."""
    tests = _tests_by_model(manifest)
    marts = [node for node in models(manifest) if layer(node).startswith("marts")]
    owners: dict[str, str] = {}
    for node in marts:
        for column in _tested_columns(tests[node["unique_id"]], "unique"):
            if column.endswith("_key") and node["name"].startswith("dim_"):
                owners[column] = node["name"]
    findings = []
    for node in marts:
        tested = _tested_columns(tests[node["unique_id"]], "relationships")
        for column in set(node["columns"]) & set(owners) - tested:
            if owners[column] != node["name"]:
                message = f"{column} points to {owners[column]}; add a relationships test to it"
                findings.append(Finding(node["original_file_path"], message))
    return findings


def described(manifest: Manifest) -> list[Finding]:
    """Everything a reader can meet has a description, in words of its own."""
    project = manifest["metadata"]["project_name"]
    findings = []
    for owner, thing in _describable(manifest, project):
        text = " ".join((thing.get("description") or "").split())
        if not text:
            findings.append(Finding(thing["original_file_path"], f"{owner} has no description"))
        elif thing.get("resource_type") in {"model", "seed", "source"} and not re.match(
            "One row per ", text
        ):
            message = f"{owner}: begin its description with 'One row per ...', the grain"
            findings.append(Finding(thing["original_file_path"], message))
        for name, column in (thing.get("columns") or {}).items():
            said = " ".join((column.get("description") or "").split())
            if not said or _restates(name, said):
                message = f"{owner}: say in `description` what column {name} means"
                findings.append(Finding(thing["original_file_path"], message))
    return findings


def _restates(name: str, description: str) -> bool:
    words = re.findall(r"[a-z0-9]+", description.lower())
    return [word for word in words if word not in {"the", "a", "an", "of"}] == name.split("_")


def _describable(manifest: Manifest, project: str) -> Iterator[tuple[str, Node]]:
    for node in manifest["nodes"].values():
        is_generic = bool(node.get("test_metadata"))
        is_hook = node["resource_type"] == "operation"
        if node["package_name"] == project and not is_generic and not is_hook:
            yield f"{node['resource_type']} {node['name']}", node
    for kind in ("sources", "exposures", "unit_tests", "groups"):
        for node in manifest.get(kind, {}).values():
            if node["package_name"] == project:
                yield f"{kind[:-1]} {node['name']}", node
    for macro in manifest["macros"].values():
        # dbt names a materialization's macro itself, arguments included
        if macro["package_name"] != project or macro["name"].startswith("materialization_"):
            continue
        yield f"macro {macro['name']}", macro
        for argument in macro.get("arguments") or []:
            named = {**argument, "original_file_path": macro["original_file_path"]}
            yield f"macro {macro['name']}, argument {argument['name']}", named


def documented_is_built(manifest: Manifest, catalog: Mapping[str, Any]) -> list[Finding]:
    """Documented columns equal built columns, both ways."""
    findings = []
    seeds = [node for node in manifest["nodes"].values() if node["resource_type"] == "seed"]
    for node in [*models(manifest), *seeds]:
        built = catalog["nodes"].get(node["unique_id"])
        path = node["original_file_path"]
        if built is None:
            findings.append(Finding(path, f"{node['name']} was not built; run dbt build"))
            continue
        columns = {name.lower() for name in built["columns"]}
        documented = {name.lower() for name in node["columns"]}
        for name in sorted(columns - documented):
            findings.append(Finding(path, f"column {name} is built, not documented; describe it"))
        for name in sorted(documented - columns):
            findings.append(Finding(path, f"column {name} is documented, not built; remove it"))
    return findings


def no_orphans(manifest: Manifest) -> list[Finding]:
    """What is loaded is staged, what is staged is used, and every seed is read."""
    children = _children(manifest)
    findings = []
    for source in manifest["sources"].values():
        if not children[source["unique_id"]]:
            message = (
                f"no model reads {source['source_name']}.{source['name']}; stage it, as "
                f"`wellspring draft {source['source_name']}` does, or drop it"
            )
            findings.append(Finding(source["original_file_path"], message))
    for node in manifest["nodes"].values():
        if node["resource_type"] == "seed" and not _is_read(manifest, node, children):
            findings.append(Finding(node["original_file_path"], "nothing reads this seed; drop it"))
    for node in models(manifest):
        # The books see every staging model; that alone is no use of it.
        everything = layer(node) == "staging"
        used = [
            child
            for child in children[node["unique_id"]]
            if not everything or layer(child) != "ledger"
        ]
        if layer(node) in {"staging", "intermediate"} and not used:
            message = "no model uses it; use it in a layer above, or drop it"
            findings.append(Finding(node["original_file_path"], message))
    return findings


def _is_read(manifest: Manifest, node: Node, children: Mapping[str, list[Node]]) -> bool:
    return bool(children[node["unique_id"]]) or any(
        node["unique_id"] in test["depends_on"]["nodes"]
        for test in manifest["nodes"].values()
        if test["resource_type"] == "test" and not test.get("attached_node")
    )


def contracts(manifest: Manifest) -> list[Finding]:
    """What an exposure or a reader uses is public, typed by contract and owned by a group."""
    findings = []
    exposed = {
        unique_id
        for exposure in manifest["exposures"].values()
        for unique_id in exposure["depends_on"]["nodes"]
    }
    for node in models(manifest):
        if not (layer(node).startswith("marts") or node["unique_id"] in exposed):
            continue
        path = node["original_file_path"]
        if node["config"].get("access") != "public" and node["unique_id"] in exposed:
            findings.append(Finding(path, "an exposure reads it; set access: public"))
        if node["config"].get("access") == "public" and not node["contract"]["enforced"]:
            findings.append(Finding(path, "readers use it; enforce its contract"))
        if not node["config"].get("group"):
            findings.append(Finding(path, "has no owner; set its group in dbt_project.yml"))
    return findings


def unit_tests(manifest: Manifest) -> list[Finding]:
    """At least two in five intermediate and mart models have a unit test."""
    tested = {
        unique_id for t in manifest["unit_tests"].values() for unique_id in t["depends_on"]["nodes"]
    }
    named = {test["model"] for test in manifest["unit_tests"].values()}
    candidates = [
        n for n in models(manifest) if layer(n) in {"intermediate", "marts", "marts/core"}
    ]
    without = [n for n in candidates if n["unique_id"] not in tested or n["name"] not in named]
    if not candidates or 1 - len(without) / len(candidates) >= UNIT_TESTED_SHARE:
        return []
    share = round(100 * (1 - len(without) / len(candidates)))
    message = f"no unit test, and only {share} % of intermediate and mart models have one"
    return [Finding(node["original_file_path"], message) for node in without]


def lengths(manifest: Manifest) -> list[Finding]:
    """Models stay short: half within 40 lines, nine in ten within 110, none above 200."""
    lines = {
        n["original_file_path"]: n["raw_code"].strip().count("\n") + 1 for n in models(manifest)
    }
    if not lines:
        return []
    findings = [
        Finding(path, f"{count} lines; split it, at most {LINES_MOST} are allowed")
        for path, count in lines.items()
        if count > LINES_MOST
    ]
    longest = sorted(lines, key=lambda path: -lines[path])
    if statistics.median(lines.values()) > LINES_MEDIAN:
        message = f"the median model is longer than {LINES_MEDIAN} lines; shorten the longest first"
        findings.append(Finding(longest[0], message))
    if lines[longest[len(longest) // 10]] > LINES_P90:
        message = f"more than one model in ten is longer than {LINES_P90} lines; split this one"
        findings.append(Finding(longest[0], message))
    return findings


def exposures_owned(manifest: Manifest) -> list[Finding]:
    """An exposure names whom to ask, and reads marts."""
    findings = []
    for exposure in manifest["exposures"].values():
        path = exposure["original_file_path"]
        owner = exposure.get("owner") or {}
        if not owner.get("name") or not owner.get("email"):
            message = f"exposure {exposure['name']}: give its owner a name and an email"
            findings.append(Finding(path, message))
        reads = [manifest["nodes"].get(unique_id) for unique_id in exposure["depends_on"]["nodes"]]
        if not any(node and layer(node).startswith("marts") for node in reads):
            findings.append(Finding(path, f"exposure {exposure['name']} reads no mart"))
    return findings


def sql_shape(manifest: Manifest) -> list[Finding]:
    """Import CTEs first, `select *` only there and on the last line, no control flow."""
    findings = []
    for node in models(manifest):
        path = node["original_file_path"]
        code = _without_comments(node["raw_code"])
        if layer(node) == "ledger":
            continue
        if not re.search(r"select \* from [a-z0-9_]+\s*$", code):
            findings.append(Finding(path, "end with `select * from <last cte>`"))
        if re.search(r"\{%-?\s*(if|for)\b(?!\s+is_incremental\(\))", code):
            findings.append(Finding(path, "control flow in a model; move it into a macro"))
        imports = "ref|source|staged_and_rejected|staging_history"
        code = re.sub(rf"select \*\s+from \{{\{{\s*({imports})\(", "import(", code)
        if code.count("select *") > 1:
            message = "list the columns; `select *` is for imports and the last line"
            findings.append(Finding(path, message))
        if re.search(r"\b(from|join)\s+\{\{\s*(ref|source)\(", code):
            message = "read ref() and source() in import CTEs, `select * from {{ ref(...) }}`"
            findings.append(Finding(path, message))
    return findings


def _without_comments(code: str) -> str:
    return re.sub(r"(?s)\{#.*?#\}|--[^\n]*|/\*.*?\*/", "", code).strip()


def duplicated_tests(manifest: Manifest) -> list[Finding]:
    """No model carries the same generic test twice, nor more data tests than a reader can weigh."""
    findings = []
    for unique_id, tests in _tests_by_model(manifest).items():
        owner = manifest["nodes"].get(unique_id)
        if owner is None or owner["resource_type"] != "model":
            continue
        counts = Counter(
            str(test.get("test_metadata")) for test in tests if test.get("test_metadata")
        )
        if any(count > 1 for count in counts.values()):
            findings.append(Finding(owner["original_file_path"], "declares the same test twice"))
    return findings


BY_MANIFEST = (
    layering,
    naming,
    keys_tested,
    foreign_keys_tested,
    described,
    no_orphans,
    contracts,
    unit_tests,
    lengths,
    exposures_owned,
    sql_shape,
    duplicated_tests,
)
"""Every rule that needs the manifest alone."""
