"""What is kept of a project between runs, below the data folder.

dbt's manifest, what dbt sent for its nodes, compiled tests -> `Kept` -> `state/compiled/*.json`

Valid for one key (`key`): whatever else names the project finds nothing. A node's recording is
valid for one shape of the source tables that it is made from, too, because dbt looks at columns.
Left out: playing it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from hashlib import sha256
from typing import Any

from ingestion.durable import write_whole
from ingestion.failpoints import failpoint
from ingestion.settings import Settings
from runner.compiled.recording import Recording, Rehearsed, Sent, recorded
from runner.compiled.view import Part, View

# Materializations whose statements say the same each time.
_PLAYED = {"table", "view", "incremental", "seed", "staging", "by_key"}
# Made anew each time.
REPLACED = {"table", "view"}
_KINDS = {"model", "seed", "operation"}
# What writes something else into the text of a node each time it is rendered.
_RENDERS_MOMENT = re.compile(
    r"\b(run_started_at|invocation_id|invocation_args_dict|py_current_timestring"
    r"|modules\s*\.\s*(datetime|pytz)\b|modules\s*\[)"
)
_GRAPH = re.compile(r"\bgraph\s*[.\[]")
_FORMAT = 1
# Of selections; the oldest go.
_MOST_SELECTIONS = 64
# What such a selection finds depends on earlier runs.
_OF_RUNS = re.compile(r"\b(state|result|source_status):")
# Answers are few; more would be answers that change all the time.
_MOST_WAYS = 8


@dataclass
class Kept:
    """A project as dbt parsed and built it.

    Attributes:
        key: Names the code that it holds for.
        content: The project, as `view.lasting` gives it.
        codes: By unique id, the code that a node is built with.
        code: The code of all of it; None if it does not decide the result by itself.
        connection: How dbt sets its connection; None if only dbt can open it.
        moving: Unique ids of nodes whose text dbt renders anew each time.
        reach: By unique id, the code that decides what a node is: its own, and of all above it.
        recordings: By unique id, all ways in which dbt was seen to build a node.
        grounds: By unique id, the shape of what a node is made from when it was recorded.
        tests: By unique id of a test, its compiled SQL and the file that holds it.
        selections: What dbt found for selections, by what was asked.
    """

    key: str
    content: dict[str, Any]
    codes: dict[str, str]
    code: str | None
    connection: dict[str, Any] | None = None
    moving: frozenset[str] = frozenset()
    reach: dict[str, str] = field(default_factory=dict)
    recordings: dict[str, list[Recording]] = field(default_factory=dict)
    grounds: dict[str, str] = field(default_factory=dict)
    tests: dict[str, dict[str, str]] = field(default_factory=dict)
    selections: dict[str, list[str]] = field(default_factory=dict)
    _view: View | None = field(default=None, init=False, repr=False)

    @property
    def view(self) -> View:
        """The project."""
        if self._view is None:
            self._view = View(self.content)
        return self._view

    def note(
        self,
        unique_id: str,
        sent: Sequence[Sent],
        on_existing: bool,
        ground: str,
        rehearsed: Iterable[Rehearsed] = (),
    ) -> None:
        """Keeps what dbt sent for a node, if it can be sent again.

        Args:
            unique_id: The node.
            sent: The statements, in order, each with the answer that a macro was given.
            on_existing: Whether dbt could add to a relation that was there.
            ground: The shape of what the node is made from.
            rehearsed: What would have been sent with other answers, to a table that is there.
        """
        node = self.view.nodes.get(unique_id)
        if node is None or not self._may_play(node):
            return
        can_add = on_existing and node.config.materialized not in REPLACED
        found = recorded(node.relation_name or "", sent, can_add)
        if self.grounds.get(unique_id) != ground:
            self.recordings.pop(unique_id, None)
        self.grounds[unique_id] = ground
        if found is None:
            self.recordings.pop(unique_id, None)
            return
        more = [recorded(node.relation_name or "", one.sent(sent), True) for one in rehearsed]
        ways = {(one.on_existing, one.answers): one for one in self.recordings.get(unique_id, [])}
        for one in (*more, found):
            if one is not None:
                case = (one.on_existing, one.answers)
                ways.pop(case, None)
                ways[case] = one
        self.recordings[unique_id] = list(ways.values())[-_MOST_WAYS:]

    def note_test(self, node: Any, sent: Sequence[Sent]) -> None:
        """Keeps a compiled test, if it compiles to the same each time.

        Args:
            node: dbt's node of the test.
            sent: What dbt asked to compile it.
        """
        if not sent and node.compiled_code and node.unique_id not in self.moving:
            path = getattr(node, "compiled_path", None) or ""
            self.tests[node.unique_id] = {"compiled_code": node.compiled_code, "path": path}

    def compiled_test(self, unique_id: str) -> Any:
        """A test as dbt compiled it; None if that is not kept."""
        found = self.tests.get(unique_id)
        if found is None:
            return None
        fields = self.content["nodes"][unique_id]
        more = {"compiled_code": found["compiled_code"], "compiled_path": found["path"] or None}
        return Part({**fields, **more})

    def note_selection(self, asked: str, found: Iterable[str]) -> bool:
        """Keeps what dbt found for a selection; returns whether it finds the same each time.

        Args:
            asked: The selection, and of what.
            found: Unique ids.
        """
        if _OF_RUNS.search(asked):
            return False
        self.selections.pop(asked, None)
        self.selections[asked] = sorted(found)
        for oldest in list(self.selections)[:-_MOST_SELECTIONS]:
            del self.selections[oldest]
        return True

    def _may_play(self, node: Any) -> bool:
        if node.unique_id in self.moving or str(node.resource_type) not in _KINDS:
            return False
        if str(node.resource_type) == "operation":
            return True
        config = node.config
        return (
            config.materialized in _PLAYED
            and getattr(node, "language", "sql") == "sql"
            and getattr(config, "incremental_strategy", None) != "microbatch"
        )


def reach_codes(manifest: Mapping[str, Any], codes: Mapping[str, str], key: str) -> dict[str, str]:
    """Names the code that decides what a node is: its own, and of all above it.

    A node whose macros look around in the graph may depend on any code of the project; on what lies
    above it only, where the macro says `meta: {graph: above}`.

    Args:
        manifest: dbt's manifest as a dictionary.
        codes: By unique id, the code that a node is built with.
        key: Names the code of the project.
    """
    own = manifest["metadata"]["project_name"]
    looks = _spread(
        manifest,
        {
            name
            for name, macro in manifest["macros"].items()
            if macro["package_name"] == own
            and _GRAPH.search(macro["macro_sql"])
            and (macro.get("meta") or {}).get("graph") != "above"
        },
    )
    nodes = manifest["nodes"]
    above = {name: node["depends_on"].get("nodes", []) for name, node in nodes.items()}
    found: dict[str, str] = {}
    for name in TopologicalSorter(above).static_order():
        if name in codes:
            node = nodes[name]
            around = bool(_GRAPH.search(node.get("raw_code") or ""))
            around = around or bool(looks & set(node["depends_on"].get("macros", ())))
            parts = [codes[name], [found.get(one, one) for one in above[name]]]
            found[name] = short_hash([*parts, key if around else None])
    return found


def _spread(manifest: Mapping[str, Any], macros: set[str]) -> set[str]:
    """These macros of the project, and those of it that call them, however deep."""
    own = manifest["metadata"]["project_name"]
    known = {k: m for k, m in manifest["macros"].items() if m["package_name"] == own}
    found = set(macros)
    while (
        more := {
            name for name, macro in known.items() if found & set(macro["depends_on"]["macros"])
        }
        - found
    ):
        found |= more
    return found


def moving_nodes(manifest: Mapping[str, Any]) -> frozenset[str]:
    """Nodes whose text, or whose own project's macros, dbt renders to something else each time.

    Args:
        manifest: dbt's manifest as a dictionary.
    """
    own = manifest["metadata"]["project_name"]
    macros = {k: m for k, m in manifest["macros"].items() if m["package_name"] == own}
    moves = {key for key, macro in macros.items() if _RENDERS_MOMENT.search(macro["macro_sql"])}
    moves = _spread(manifest, moves)
    return frozenset(
        key
        for key, node in manifest["nodes"].items()
        if _RENDERS_MOMENT.search(node.get("raw_code") or "")
        or moves & set(node["depends_on"].get("macros", ()))
    )


class Store:
    """Where it is kept.

    Args:
        settings: The project's settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.state_dir / "compiled"

    def read(self, key: str) -> Kept | None:
        """What is kept under a key; None if there is nothing."""
        project = self._parsed("project.json", key)
        if project is None:
            return None
        kept = Kept(
            *(key, project["content"], project["codes"], project["code"]),
            project["connection"],
            frozenset(project["moving"]),
            project["reach"],
        )
        statements = self._parsed("statements.json", key)
        if statements is not None:
            kept.grounds = statements["grounds"]
            kept.tests = statements["tests"]
            kept.recordings = {
                unique_id: [Recording.of_fields(fields) for fields in ways]
                for unique_id, ways in statements["recordings"].items()
            }
        selections = self._parsed("selections.json", key)
        if selections is not None:
            kept.selections = selections["selections"]
        return kept

    def write_project(self, kept: Kept) -> None:
        """Keeps the project as it was parsed."""
        self._write(
            "project.json",
            kept.key,
            {
                "content": kept.content,
                "codes": kept.codes,
                "code": kept.code,
                "connection": kept.connection,
                "moving": sorted(kept.moving),
                "reach": kept.reach,
            },
        )

    def write_statements(self, kept: Kept) -> None:
        """Keeps what builds and tests it."""
        recordings = {
            unique_id: [found.as_fields() for found in ways]
            for unique_id, ways in kept.recordings.items()
        }
        fields = {"grounds": kept.grounds, "tests": kept.tests, "recordings": recordings}
        self._write("statements.json", kept.key, fields)

    def write_selections(self, kept: Kept) -> None:
        """Keeps what was selected."""
        self._write("selections.json", kept.key, {"selections": kept.selections})

    def _parsed(self, name: str, key: str) -> dict[str, Any] | None:
        try:
            found = json.loads((self._folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        is_ours = isinstance(found, dict) and found.get("format") == _FORMAT
        return found if is_ours and found.get("key") == key else None

    def _write(self, name: str, key: str, fields: Mapping[str, Any]) -> None:
        text = json.dumps({"format": _FORMAT, "key": key, **fields}, default=str)
        write_whole(self._folder / name, text, before=lambda: failpoint("compiled.written"))


def short_hash(parts: Iterable[Any]) -> str:
    """A name for a list of things that can be written as JSON."""
    text = json.dumps(list(parts), sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:32]
