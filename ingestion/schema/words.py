"""Changes of sources in words."""

from __future__ import annotations

from ingestion.schema.shapes import Change


def tell(change: Change) -> str:
    """A change in words that follow the table's name: `lost column x`."""
    column, old, new = change.column, change.old, change.new
    return {
        "column_added": f"gained column {column} ({new})",
        "column_lost": f"lost column {column} ({old})",
        "column_back": f"has column {column} again ({new})",
        "column_renamed": f"renamed column {old} to {new}",
        "column_respelled": f"spells column {column} {new} instead of {old}",
        "column_retyped": f"retyped column {column} from {old} to {new}",
        "column_redeclared": f"declares column {column} as {new} instead of {old}",
        "column_null": f"declares column {column} as {new} instead of {old}",
        "column_default": f"fills column {column} with {new} instead of {old}",
        "field_added": f"has a new field in {column}: {new}",
        "field_retyped": f"retyped a field in {column}: {old} to {new}",
        "key_changed": f"has the primary key {new} instead of {old}",
        "table_added": "is a new table",
        "table_lost": "is gone",
        "table_renamed": f"is called {new} now instead of {old}",
        "table_back": "is there again",
        "table_emptied": "has no rows any more",
    }[change.kind]
