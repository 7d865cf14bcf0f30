"""The files of a drafted staging model: SQL, YAML and the texts that describe its columns.

`Table` -> `staging_sql`, `staging_yaml`, `docs_text`

A text that describes a column stands once, as a block in the source's docs file, because three
layers show it. What the data showed stands as a comment where something follows from it. Left out:
merging with what is there (`merge`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from runner.draft.columns import Column, import_of, source_column
from runner.draft.tables import Link, Table
from runner.yaml_scalar import scalar

_WIDTH = 80
_PASSED_ON = ("_file", "_row", "_load_id", "_deleted")


def staging_sql(table: Table, tables: Mapping[str, Table]) -> str:
    """The SQL of a table's staging model."""
    referred = dict.fromkeys(
        tables[link.target].staging for link in table.links if link.is_screened
    )
    heads = [f"{{{{ refers_to('{name}') }}}}" for name in referred]
    rows = import_of(table.profile)
    lines = [*heads, "with", "", f"{rows} as (", ""]
    lines += [f"    select * from {{{{ source('{table.source}', '{table.profile.name}') }}}}", ""]
    lines += ["),", "", "cleaned as (", "", "    select"]
    for group in _groups(table):
        for line in group:
            lines += line
        lines.append("")
    lines += [f"        {name}," for name in _PASSED_ON]
    lines += [f"        {{{{ raw_record('{rows}') }}}} as _record", f"    from {rows}", "", ")", ""]
    lines += ["select * from cleaned"]
    return "\n".join(lines) + "\n"


def _groups(table: Table) -> list[list[list[str]]]:
    """The columns in groups, each as its lines."""
    groups: dict[str, list[list[str]]] = {}
    if not table.is_keyed:
        raw = [source_column(column.raw, table.profile) for column in table.columns]
        groups["ids"] = [selected(f"{{{{ surrogate_key({raw}) }}}}", "row_key")]
    for column in table.columns:
        groups.setdefault(column.reading.group, []).append(
            selected(column.reading.expression, column.name)
        )
    return list(groups.values())


def selected(expression: str, name: str, indent: int = 8) -> list[str]:
    """An expression under a name in a select list, within the width of a line."""
    space = " " * indent
    if expression == name:
        return [f"{space}{name},"]
    line = f"{space}{expression} as {name},"
    if len(line) <= _WIDTH:
        return [line]
    if len(space + expression) <= _WIDTH:
        return [space + expression, f"{space}    as {name},"]
    head, mark, rest = expression.partition("(")
    inner, end = rest.rsplit(")", 1)
    wrapped = textwrap.wrap(
        inner, _WIDTH - indent - 4, break_long_words=False, break_on_hyphens=False
    )
    return [
        f"{space}{head}{mark}",
        *(f"{space}    {part}" for part in wrapped),
        f"{space}){end} as {name},",
    ]


def staging_yaml(table: Table, tables: Mapping[str, Table], seen_on: str) -> str:
    """The YAML of a table's staging model."""
    profile = table.profile
    lines = [
        f"# Drafted from {profile.rows:,} rows, seen on {seen_on}. What was seen is no promise:",
        "# rules that rest on it only flag a row, and tests only warn. Texts that describe columns",
        "# stand in the docs file beside.",
        "models:",
        f"  - name: {table.staging}",
        f"    description: {_grain(table)}",
        "    config:",
        "      meta:",
        "        staging:",
        *_key_lines(table),
    ]
    if table.version_order:
        lines.append(f"          version_order: [{', '.join(table.version_order)}]")
    wide = [link for link in table.links if link.is_screened and len(link.columns) > 1]
    if wide:
        lines.append("          rules:")
    for link in wide:
        pairs = ", ".join(
            f"{a}: {b}" for a, b in zip(link.columns, link.target_columns, strict=True)
        )
        lines.append(f"            # seen: {_link_text(link)}")
        model = tables[link.target].staging
        lines.append(
            f"            - {{reference: {{model: {model}, columns: {{{pairs}}}}}, severity: flag}}"
        )
    lines += key_tests(table.key)
    lines.append("    columns:")
    if not table.is_keyed:
        lines += _column_head("row_key", doc_name(table, "row_key"))
        lines.append("        data_tests: [unique, not_null]")
    for column in table.columns:
        lines += _column_lines(table, column, tables)
    for name in ("file", "row"):
        lines += _column_head(f"_{name}", f"loader_{name}")
    return "\n".join(lines) + "\n"


def _grain(table: Table) -> str:
    what = f"One row per {table.entity.replace('_', ' ')} of {table.source}"
    if table.is_keyed:
        return f"{what}, at its latest valid version."
    return f"{what}; rows that are alike in every column are one."


def _key_lines(table: Table) -> list[str]:
    found, key = table.profile.primary_key, f"          key: [{', '.join(table.key)}]"
    if not table.is_keyed:
        return [
            "          # seen: no column identifies a row, nor do three together, so all of them",
            "          # do: a row that changes is a new row, and copies of a row are one",
            key,
        ]
    if found is None:
        return [key]
    told = f"{table.profile.rows:,} rows"
    if found.holds:
        told += ", each with another value"
    else:
        told += (
            f", {found.duplicates:,} beyond the first of their value, {found.nulls:,} without one"
        )
    stated = "declared" if table.profile.declared_key else "found, not declared"
    return [f"          # seen: {told}; {stated}", key]


def key_tests(key: Sequence[str]) -> list[str]:
    """The test of a key of several columns, which belongs to the model."""
    if len(key) == 1:
        return []
    return [
        "    data_tests:",
        "      - unique_combination:",
        "          arguments:",
        f"            columns: [{', '.join(key)}]",
    ]


def _column_head(name: str, doc: str) -> list[str]:
    return [f"      - name: {name}", f"        description: \"{{{{ doc('{doc}') }}}}\""]


def doc_name(table: Table, column: str) -> str:
    """The block that describes a column."""
    return f"{table.source}__{table.entity}__{column}"


def _column_lines(table: Table, column: Column, tables: Mapping[str, Table]) -> list[str]:
    lines = _column_head(column.name, doc_name(table, column.name))
    links = [link for link in table.links if link.columns == (column.name,)]
    screened = [link for link in links if link.is_screened]
    rules = list(column.rules)
    for link in screened:
        place = f"model: {tables[link.target].staging}, column: {link.target_columns[0]}"
        rules.append(f"{{reference: {{{place}}}, severity: flag}}")
    if column.pii or rules:
        lines += ["        config:", "          meta:"]
    if column.pii:
        lines.append(f"            pii: {column.pii}")
    if rules:
        lines += [f"            # seen: {column.seen}", "            rules:"]
        lines += [f"              - {rule}" for rule in rules]
    tests = _tests(table, column, screened, tables)
    return lines + (["        data_tests:", *tests] if tests else [])


def _tests(
    table: Table, column: Column, screened: Sequence[Link], tables: Mapping[str, Table]
) -> list[str]:
    lines: list[str] = []
    if table.key == (column.name,):
        lines += ["          - unique", "          - not_null"]
    elif _is_second_key(table, column):
        lines += [
            f"          # seen: {column.seen}",
            "          - unique:",
            "              config: {severity: warn}",
        ]
    for link in screened:
        if link.found.orphan_rows:
            continue
        lines += [
            f"          # seen: {_link_text(link)}",
            "          - relationships:",
            "              arguments:",
            f"                to: ref('{tables[link.target].staging}')",
            f"                field: {link.target_columns[0]}",
            "              config: {severity: warn}",
        ]
    if column.words:
        lines += [
            f"          # seen: {column.seen}",
            "          - accepted_values:",
            "              arguments:",
            f"                values: [{', '.join(scalar(word) for word in column.words)}]",
            "              config: {severity: warn}",
        ]
    return lines


def _is_second_key(table: Table, column: Column) -> bool:
    """Whether a column that is not the key identifies each row as well, and looks it."""
    from runner.discover.words import has_key_word

    found = [key for key in table.profile.keys if key.columns == (column.raw,) and key.holds]
    return bool(found) and table.profile.rows >= 30 and has_key_word(column.raw)


def _link_text(link: Link) -> str:
    found = link.found
    orphans = f"{found.orphan_rows:,} of them to nothing there"
    return f"{found.rows:,} rows refer to {found.to_table}, {orphans}"


def docs_text(tables: Iterable[Table], seen_on: str) -> str:
    """The blocks that describe the columns of a source's tables."""
    lines = [
        f"{{# Drafted on {seen_on}: what was measured. Put what it means; staging, intermediate",
        "and mart show the same text. #}",
        "",
    ]
    for table in tables:
        for name, text in described(table):
            lines += [f"{{% docs {doc_name(table, name)} %}}"]
            lines += textwrap.wrap(text, 118, break_long_words=False, break_on_hyphens=False)
            lines += ["{% enddocs %}", ""]
    return "\n".join(lines)


def described(table: Table) -> list[tuple[str, str]]:
    """The columns of a table with the texts that describe them."""
    texts = []
    if not table.is_keyed:
        told = "Made of all columns, because none of them identifies a row: alike rows share it."
        texts.append(("row_key", told))
    for column in table.columns:
        links = [link for link in table.links if column.name in link.columns]
        role = ""
        if column.name in table.key:
            several = f"together with {_others(table, column)} " if len(table.key) > 1 else ""
            role = f"Identifies the {table.entity.replace('_', ' ')} {several}in {table.source}. "
            role = role.replace("  ", " ")
        for link in links:
            role += f"Points to `{link.target}`. "
        texts.append((column.name, role + column.description))
    return texts


def _others(table: Table, column: Column) -> str:
    return ", ".join(f"`{name}`" for name in table.key if name != column.name)
