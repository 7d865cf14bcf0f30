"""Writes the declaration of a source in house style, or adds tables to one that is there.

`Offer`s -> YAML text -> read back and checked as a run would check it -> written whole

What a person wrote stays as it is: tables are put behind the last one, a table that is declared is
left alone. Left out: connections, which `secrets` writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from ingestion.errors import BadInput
from runner.add.offers import Offer, Place

_WIDTH = 118
_FLOW_WIDTH = 90


@dataclass(frozen=True)
class Draft:
    """A declaration that is ready to be written.

    Attributes:
        path: Its file.
        text: The whole file as it will be.
        added: Names of the tables that it gains.
        present: Names of tables that are declared already, and stay as they are.
        is_new: Whether there was no such declaration.
    """

    path: Path
    text: str
    added: tuple[str, ...]
    present: tuple[str, ...]
    is_new: bool


def compose(
    project: Path,
    name: str,
    place: Place,
    shared: Mapping[str, Any],
    offers: Sequence[Offer],
    *,
    description: str,
    owner: str | None,
) -> Draft:
    """The file that declares a source with these tables.

    Args:
        project: The project's root.
        name: Name of the source.
        place: Where it is.
        shared: Keys of `ingest` that hold for all of its tables.
        offers: The tables.
        description: What the source is.
        owner: Who owns it.

    Raises:
        BadInput: A source of that name is declared and is another one.
    """
    ingest = {"kind": place.kind, "connection": place.connection, **shared}
    found = find_declared(project, name)
    if found is None:
        path = project / "models" / "staging" / name / f"_{name}__sources.yml"
        head = _head(name, ingest, description, owner)
        text = "\n".join([*head, *_tables(offers, "      ")]) + "\n"
        return _checked(Draft(path, text, tuple(o.name for o in offers), (), True), project, name)
    path, text, declared = found
    _check_same(path, name, declared, ingest)
    known = {str(table.get("name")) for table in declared.get("tables") or []}
    fresh = [offer for offer in offers if offer.name not in known]
    present = tuple(offer.name for offer in offers if offer.name in known)
    if fresh:
        text = _extended(path, text, name, _with_own_keys(fresh, declared, ingest))
    added = tuple(offer.name for offer in fresh)
    return _checked(Draft(path, text, added, present, False), project, name)


def find_declared(project: Path, name: str) -> tuple[Path, str, dict[str, Any]] | None:
    """The file that declares a source, its text and what it says; None if there is none."""
    import yaml

    for path in sorted((project / "models").rglob("*.y*ml")):
        text = path.read_text(encoding="utf-8")
        if not re.search(rf"name:\s*[\"']?{name}\b", text) or "sources:" not in text:
            continue
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise BadInput(f"it is no YAML: {error}", file=path) from error
        for source in (content or {}).get("sources") or []:
            if isinstance(source, dict) and source.get("name") == name:
                return path, text, source
    return None


def _head(name: str, ingest: Mapping[str, Any], description: str, owner: str | None) -> list[str]:
    told = wrap(_plain(description), _WIDTH - 6, break_long_words=False, break_on_hyphens=False)
    return [
        "sources:",
        f"  - name: {name}",
        f"    schema: raw_{name}",
        "    description: >",
        *(f"      {line}" for line in told),
        "    loader: dlt",
        "    config:",
        "      loaded_at_field: _extracted_at",
        "      meta:",
        *([f"        owner: {_scalar(_plain(owner))}"] if owner else []),
        "        ingest:",
        *_block(ingest, "          "),
        "    tables:",
    ]


def _tables(offers: Sequence[Offer], indent: str) -> list[str]:
    lines: list[str] = []
    for place, offer in enumerate(offers):
        lines += ([""] if place else []) + _table(offer, indent)
    return lines


def _table(offer: Offer, indent: str) -> list[str]:
    inner = indent + "  "
    keys: dict[str, Any] = {}
    evidence: dict[str, str] = {}
    if offer.key:
        keys["primary_key"] = list(offer.key.columns)
        evidence["primary_key"] = _plain(offer.key.why)
    if offer.cursor:
        keys["cursor"] = offer.cursor.columns[0]
        evidence["cursor"] = _plain(offer.cursor.why)
    first = {key: offer.ingest[key] for key in ("from", "schema", "path") if key in offer.ingest}
    ingest = {**first, **keys, **{k: v for k, v in offer.ingest.items() if k not in first}}
    meta = {"ingest": ingest, "evidence": evidence}
    meta = {key: value for key, value in meta.items() if value}
    lines = [
        f"{indent}- name: {offer.name}",
        *_sentence("description", offer.description, inner),
    ]
    if meta:
        lines += [f"{inner}config:", f"{inner}  meta:"]
        for key, value in meta.items():
            lines += [f"{inner}    {key}:", *_block(value, inner + "      ")]
    if offer.columns:
        lines.append(f"{inner}columns:")
    for column in offer.columns:
        lines += [
            f"{inner}  - name: {_scalar(column.name)}",
            f"{inner}    data_type: {_scalar(column.data_type)}",
            *_sentence("description", column.description, inner + "    "),
        ]
    return lines


def _sentence(key: str, text: str, indent: str) -> list[str]:
    line = f"{indent}{key}: {_scalar(_plain(text))}"
    if len(line) <= _WIDTH:
        return [line]
    told = wrap(_plain(text), _WIDTH - len(indent) - 2, break_on_hyphens=False)
    return [f"{indent}{key}: >", *(f"{indent}  {part}" for part in told)]


def _block(content: Mapping[str, Any], indent: str) -> list[str]:
    lines: list[str] = []
    for key, value in content.items():
        flow = f"{indent}{key}: {_flow(value)}"
        is_deep = isinstance(value, Mapping) and any(
            isinstance(inner, (Mapping, list)) for inner in value.values()
        )
        if isinstance(value, Mapping) and (is_deep or len(flow) > _FLOW_WIDTH):
            lines += [f"{indent}{key}:", *_block(value, indent + "  ")]
        else:
            lines.append(flow)
    return lines


def _flow(value: Any) -> str:
    if isinstance(value, (list, tuple, Mapping)):
        import yaml

        plain = list(value) if isinstance(value, (list, tuple)) else dict(value)
        dumped = yaml.safe_dump(
            plain,
            default_flow_style=True,
            width=float("inf"),
            allow_unicode=True,
            sort_keys=False,
        )
        return str(dumped).strip()
    return _scalar(value)


def _scalar(value: Any) -> str:
    import yaml

    text = str(yaml.safe_dump(value, width=float("inf"), allow_unicode=True))
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _plain(text: str) -> str:
    """One line without what dbt would take for Jinja."""
    line = " ".join(text.split())
    for sign in ("{{", "}}", "{%", "%}", "{#", "#}"):
        line = line.replace(sign, f"{sign[0]} {sign[1]}")
    return line


def _check_same(
    path: Path, name: str, declared: Mapping[str, Any], ingest: Mapping[str, Any]
) -> None:
    meta = (declared.get("config") or {}).get("meta") or {}
    there = meta.get("ingest") or {}
    for key in ("kind", "connection"):
        if there.get(key) != ingest[key]:
            raise BadInput(
                f"the source {name} is declared with the {key} {there.get(key)}, not {ingest[key]}",
                file=path,
                hint="Choose another --name, or the --connection that it has.",
            )


def _with_own_keys(
    offers: Sequence[Offer], declared: Mapping[str, Any], ingest: Mapping[str, Any]
) -> list[Offer]:
    """Offers that say themselves what the declared source says otherwise for all its tables."""
    from dataclasses import replace

    there = (((declared.get("config") or {}).get("meta")) or {}).get("ingest") or {}
    apart = {
        key: value
        for key, value in ingest.items()
        if key not in ("kind", "connection") and there.get(key) != value
    }
    return [replace(offer, ingest={**apart, **offer.ingest}) for offer in offers]


def _extended(path: Path, text: str, name: str, offers: Sequence[Offer]) -> str:
    """The text with tables behind the last one of a source."""
    import yaml

    by_hand = BadInput(
        f"the tables of the source {name} are not written as a list of their own lines",
        file=path,
        hint="Write `tables:` with a `- name:` a line, or add the tables by hand: --dry-run "
        "with another --name shows them.",
    )
    tables = _tables_node(yaml.compose(text), name)
    if tables is None or tables.flow_style or not tables.value:
        raise by_hand
    indent = " " * (tables.value[0].start_mark.column - 2)
    lines = text.splitlines()
    end = tables.value[-1].end_mark.line
    if tables.value[-1].end_mark.column:
        end += 1
    while end and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    inserted = ["", *_tables(offers, indent)]
    return "\n".join([*lines[:end], *inserted, *lines[end:]]) + "\n"


def _tables_node(root: Any, name: str) -> Any:
    """The node of a source's tables within the nodes of a YAML file."""

    def entry(mapping: Any, key: str) -> Any:
        return next((value for known, value in mapping.value if known.value == key), None)

    for source in entry(root, "sources").value:
        named = entry(source, "name")
        if named is not None and named.value == name:
            return entry(source, "tables")
    return None


def _checked(draft: Draft, project: Path, name: str) -> Draft:
    """The draft, if a run would accept it.

    Raises:
        DeclarationError: It would not.
    """
    import yaml

    from ingestion.declarations import load_declarations

    shown = str(draft.path.relative_to(project))
    sources = {}
    for source in yaml.safe_load(draft.text)["sources"]:
        meta = (source.get("config") or {}).get("meta") or {}
        for table in source.get("tables") or []:
            unique_id = f"source.{source['name']}.{table['name']}"
            own = ((table.get("config") or {}).get("meta")) or {}
            sources[unique_id] = {
                "unique_id": unique_id,
                "name": table["name"],
                "identifier": table.get("identifier", table["name"]),
                "source_name": source["name"],
                "schema": source.get("schema", source["name"]),
                "original_file_path": shown,
                "source_meta": meta,
                "config": {"meta": {**meta, **own}},
                "columns": {column["name"]: column for column in table.get("columns") or []},
            }
    load_declarations({"sources": sources})
    return draft
