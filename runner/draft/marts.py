"""The files of a drafted intermediate and mart: keys of its own and of what it refers to.

`Table` -> `keyed_sql`, `keyed_yaml` (intermediate) -> `mart_sql`, `mart_yaml`

The intermediate has a row for each staged row: references are looked up in keys that are tested to
be unique, and one that leads nowhere leaves its key empty. So nothing is lost or counted twice.
Left out: measures that would have to be thought of, and nested columns in marts, whose contracts
name plain types.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from runner.draft.columns import Column
from runner.draft.names import keywords, plural
from runner.draft.staging import doc_name, selected
from runner.draft.tables import Link, Table, import_name


def keyed_sql(table: Table, tables: Mapping[str, Table]) -> str:
    """The SQL of a table's intermediate model."""
    own = import_name(table.plural, {"keyed"})
    imports = {table.full_name: own}
    for link in table.links:
        if link.target not in imports:
            target = tables[link.target]
            name = target.plural if target.source == table.source else _far(target)
            imports[link.target] = import_name(name, {*imports.values(), "keyed"})
    lines: list[str] = []
    for full_name, name in imports.items():
        opening = "with " if not lines else ""
        lines += [
            f"{opening}{name} as (",
            f'    select * from {{{{ ref("{tables[full_name].staging}") }}}}',
            "),",
            "",
        ]
    aliases = _aliases(table, imports)
    lines += ["keyed as (", "    select"]
    dot = f"{own}." if table.links else ""
    made = _quoted([dot + name for name in table.key])
    chosen = selected(f"{{{{ surrogate_key([{made}]) }}}}", table.surrogate)
    for link, alias in zip(table.links, aliases, strict=True):
        chosen += _foreign_key(link, alias)
    if not table.is_keyed:
        chosen += selected(f"{dot}row_key", "row_key") if dot else ["        row_key,"]
    for column in table.columns:
        chosen.append(f"        {dot}{column.name},")
    chosen[-1] = chosen[-1].rstrip(",")
    lines += [*chosen, f"    from {own}"]
    for link, alias in zip(table.links, aliases, strict=True):
        lines += _join(link, imports[link.target], alias, own)
    lines += [")", "", "select * from keyed"]
    return "\n".join(lines) + "\n"


def _far(target: Table) -> str:
    return f"{target.source}_{target.plural}"


def _aliases(table: Table, imports: Mapping[str, str]) -> list[str]:
    """What each reference's rows are called: by their role where a table is joined twice."""
    seen = [table.full_name]
    aliases = []
    for link in table.links:
        name = imports[link.target]
        if link.target in seen:
            name = plural(link.key.removesuffix("_key"))
            name = f"{name}_rows" if name in keywords() or name in imports.values() else name
        seen.append(link.target)
        aliases.append(name)
    return aliases


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _foreign_key(link: Link, alias: str) -> list[str]:
    made = _quoted([f"{alias}.{name}" for name in link.target_columns])
    then = f"                then {{{{ surrogate_key([{made}]) }}}}"
    if len(then) > 80:
        then = (
            "                then {{ surrogate_key([\n"
            + ",\n".join(f'                    "{alias}.{name}"' for name in link.target_columns)
            + "\n                ]) }}"
        )
    return [
        "        case",
        f"            when {alias}.{link.target_columns[0]} is not null",
        *then.split("\n"),
        f"        end as {link.key},",
    ]


def _join(link: Link, name: str, alias: str, own: str) -> list[str]:
    joined = name if name == alias else f"{name} as {alias}"
    pairs = [
        (f"{own}.{left}", f"{alias}.{right}")
        for left, right in zip(link.columns, link.target_columns, strict=True)
    ]
    if link.is_as_text:
        pairs = [(f"cast({left} as string)", f"cast({right} as string)") for left, right in pairs]
    lines = [f"    left join {joined}"]
    if len(pairs) == 1:
        line = f"        on {pairs[0][0]} = {pairs[0][1]}"
        if len(line) <= 80:
            return [*lines, line]
    lines.append("        on")
    for number, (left, right) in enumerate(pairs):
        mark = "and " if number else ""
        line = f"            {mark}{left} = {right}"
        lines += (
            [line] if len(line) <= 80 else [f"            {mark}{left}", f"            = {right}"]
        )
    return lines


def keyed_yaml(table: Table, tables: Mapping[str, Table]) -> str:
    """The YAML of a table's intermediate model, with a unit test of its keys."""
    what = table.entity.replace("_", " ")
    ending = ", with the keys of what it refers to." if table.links else ", with its key."
    lines = [
        "models:",
        f"  - name: {table.intermediate}",
        f"    description: One row per {what} of {table.source}{ending}",
        *_conserved(table.staging, table.key),
        "    columns:",
        *_key_head(table),
        "        data_tests: [unique, not_null]",
    ]
    for link in table.links:
        lines += _link_head(link)
    for name in _natural(table):
        lines += _plain(table, name)
    return "\n".join([*lines, "", *_unit_test(table, tables)]) + "\n"


def _natural(table: Table) -> list[str]:
    own = [] if table.is_keyed else ["row_key"]
    return own + [column.name for column in table.columns]


def _conserved(parent: str, key: tuple[str, ...]) -> list[str]:
    return [
        "    data_tests:",
        "      - row_conservation:",
        "          arguments:",
        f"            to: ref('{parent}')",
        f"            key: [{', '.join(key)}]",
    ]


def _key_head(table: Table) -> list[str]:
    made = ", ".join(f"`{name}`" for name in table.key)
    what = table.entity.replace("_", " ")
    return [
        f"      - name: {table.surrogate}",
        f"        description: Surrogate key of the {what}, made of {made}.",
    ]


def _link_head(link: Link) -> list[str]:
    told = ", ".join(f"`{name}`" for name in link.columns)
    return [
        f"      - name: {link.key}",
        f"        description: Surrogate key of the `{link.target}` that {told} leads to; "
        "empty if it leads nowhere.",
    ]


def _plain(table: Table, name: str) -> list[str]:
    return [
        f"      - name: {name}",
        f"        description: \"{{{{ doc('{doc_name(table, name)}') }}}}\"",
        *_pii(table, name),
    ]


def _pii(table: Table, name: str) -> list[str]:
    found = [column.pii for column in table.columns if column.name == name and column.pii]
    return [f"        config: {{meta: {{pii: {found[0]}}}}}"] if found else []


# Two different values of each type: as YAML, and as the text that a key is made of.
_SAMPLES = {
    "string": (('"1"', "1"), ('"2"', "2")),
    "boolean": (("true", "true"), ("false", "false")),
    "date": (("2026-01-01", "2026-01-01"), ("2026-01-02", "2026-01-02")),
    "timestamp": (
        ("2026-01-01 08:00:00", "2026-01-01 08:00:00"),
        ("2026-01-02 08:00:00", "2026-01-02 08:00:00"),
    ),
}
_WHOLE = ("bigint", "integer", "smallint", "tinyint")


def _sample(table: Table, name: str, number: int) -> tuple[str, str | None]:
    """A value of a column as YAML and as its text; None where the text depends on the engine."""
    kind = table.data_type(name)
    if kind in _WHOLE:
        return str(number + 1), str(number + 1)
    if kind in _SAMPLES:
        return _SAMPLES[kind][number]
    return str(number + 1), None


def _hashed(texts: list[str | None]) -> str | None:
    if any(text is None for text in texts):
        return None
    joined = "\x1f".join(text for text in texts if text is not None)
    return hashlib.md5(joined.encode(), usedforsecurity=False).hexdigest()


def _unit_test(table: Table, tables: Mapping[str, Table]) -> list[str]:
    """Two rows: the first finds what it refers to, the second does not, and neither is lost."""
    given = [_given_row(table, number) for number in (0, 1)]
    inputs = {table.full_name: given}
    for link in table.links:
        if link.target != table.full_name:
            target = tables[link.target]
            row = {name: _sample(target, name, 0)[0] for name in link.target_columns}
            inputs.setdefault(link.target, [{}])[0].update(row)
    expected = [_expected_row(table, tables, number) for number in (0, 1)]
    name = f"{table.prefix}{table.plural}_keep_every_row"
    told = (
        "Keys are made of what identifies a row; a reference that leads nowhere leaves its key "
        "empty."
    )
    lines = [
        "unit_tests:",
        f"  - name: {name}",
        f"    description: {told}",
        f"    model: {table.intermediate}",
        "    given:",
    ]
    for full_name, rows in inputs.items():
        lines += [f'      - input: ref("{tables[full_name].staging}")', "        rows:"]
        lines += [f"          - {_flow(row)}" for row in rows]
    lines += ["    expect:", "      rows:"]
    return lines + [f"        - {_flow(row)}" for row in expected]


def _flow(row: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in row.items()) + "}"


def _given_row(table: Table, number: int) -> dict[str, str]:
    row = {name: _sample(table, name, number)[0] for name in table.key}
    for link in table.links:
        for name in link.columns:
            if name in row and name in table.key:
                continue
            if link.target == table.full_name:
                row[name] = _sample(table, name, 0)[0] if number else "null"
            else:
                row[name] = _sample(table, name, number)[0]
    return row


def _expected_row(table: Table, tables: Mapping[str, Table], number: int) -> dict[str, str]:
    row = {}
    own = _hashed([_sample(table, name, number)[1] for name in table.key])
    if own:
        row[table.surrogate] = own
    for link in table.links:
        is_self = link.target == table.full_name
        if number == (1 if is_self else 0):
            target = tables[link.target]
            made = _hashed([_sample(target, name, 0)[1] for name in link.target_columns])
            if made:
                row[link.key] = made
        else:
            row[link.key] = "null"
    return row | {name: _sample(table, name, number)[0] for name in table.key}


def mart_sql(table: Table) -> str:
    """The SQL of a table's mart."""
    own = import_name(table.plural, {"described"})
    names = [table.surrogate, *(link.key for link in table.links), *_mart_columns(table)]
    lines = [
        f"with {own} as (",
        f'    select * from {{{{ ref("{table.intermediate}") }}}}',
        "),",
        "",
    ]
    lines += ["described as (", "    select"]
    lines += [f"        {name}," for name in names[:-1]] + [f"        {names[-1]}"]
    return "\n".join([*lines, f"    from {own}", ")", "", "select * from described"]) + "\n"


def _mart_columns(table: Table) -> list[str]:
    nested = {column.name for column in table.columns if column.is_nested}
    return [name for name in _natural(table) if name not in nested]


def mart_yaml(table: Table, tables: Mapping[str, Table], has_mart: Mapping[str, bool]) -> str:
    """The YAML of a table's mart: its contract and the tests of its keys."""
    what = table.entity.replace("_", " ")
    lines = [
        "models:",
        f"  - name: {table.mart}",
        f"    description: One row per {what} of {table.source}.",
        *_conserved(table.intermediate, (table.surrogate,)),
        "    columns:",
        *_key_head(table)[:1],
        "        data_type: string",
        *_key_head(table)[1:],
        "        data_tests: [unique, not_null]",
    ]
    for link in table.links:
        head = _link_head(link)
        lines += [head[0], "        data_type: string", *head[1:]]
        if has_mart[link.target]:
            target = tables[link.target]
            lines += [
                "        data_tests:",
                "          - relationships:",
                "              arguments:",
                f"                to: ref('{target.mart}')",
                f"                field: {target.surrogate}",
            ]
    for name in _mart_columns(table):
        head = _plain(table, name)
        lines += [head[0], f"        data_type: {table.data_type(name)}", *head[1:]]
    return "\n".join(lines) + "\n"


def group_yaml(area: str, owner: str) -> str:
    """The YAML of the group that owns an area's marts."""
    from runner.yaml_scalar import scalar

    return "\n".join(
        [
            "groups:",
            f"  - name: {area}",
            f"    description: Answers for what is made from {area}.",
            "    owner:",
            f"      name: {scalar(owner)}",
            "",
        ]
    )


def is_wide(table: Table) -> bool:
    """Whether a model of the table would be longer than the house allows."""
    return len(table.columns) + 3 * len(table.links) > 150


def unkept(table: Table) -> list[Column]:
    """Columns that its mart leaves out."""
    return [column for column in table.columns if column.is_nested]
