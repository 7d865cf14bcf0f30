"""What the tests of files and of the loader share: a folder, a declared source, its raw tables."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import duckdb

from ingestion import landing
from ingestion.declarations import (
    DeclaredColumn,
    FilesTable,
    SourceDeclaration,
    TableDeclaration,
)
from ingestion.extract import SourceResult, extract
from ingestion.load import LoadResult, load
from ingestion.settings import Settings

METADATA = {"_file", "_row", "_load_id", "_extracted_at", "_deleted"}


@dataclass
class Lab:
    """A project in a temporary folder with one source `src` of kind files.

    Attributes:
        folder: The project's root.
        tables: Declared tables: name -> `ingest`.
        columns: Declared columns: table -> name -> data type.
    """

    folder: Path
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return Settings(project_dir=self.folder, data_dir=self.folder / "data")

    @property
    def drop(self) -> Path:
        """The folder that the connection leads to."""
        return self.folder / "drop"

    @property
    def declaration(self) -> SourceDeclaration:
        return SourceDeclaration(
            name="src",
            schema="raw_src",
            kind="files",
            connection="src",
            file="models/staging/src/_src__sources.yml",
            tables=tuple(
                TableDeclaration(
                    name,
                    f"source.x.src.{name}",
                    FilesTable.model_validate(ingest),
                    tuple(DeclaredColumn(c, t) for c, t in self.columns.get(name, {}).items()),
                )
                for name, ingest in self.tables.items()
            ),
        )

    def put(self, name: str, content: bytes | str, *, age: int | None = None) -> Path:
        """Delivers a file; `age` sets its time of modification to so many seconds after 2026."""
        path = self.drop / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if age is not None:
            os.utime(path, (1_767_225_600 + age, 1_767_225_600 + age))
        return path

    def extract(self, **options: Any) -> SourceResult:
        (result,) = extract([self.declaration], self.settings, **options)
        return result

    def load(self) -> LoadResult:
        return load([self.declaration], self.settings)

    def run(self) -> LoadResult:
        """Extracts and loads; fails with the source's error if there is one."""
        result = self.extract()
        assert result.error is None, str(result.error)
        return self.load()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.settings.warehouse_path), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def raw(self, table: str, *, order: str = "_load_id, _file, _row") -> list[dict[str, Any]]:
        """Rows of a raw table without metadata, in the order in which they came."""
        with duckdb.connect(str(self.settings.warehouse_path), read_only=True) as connection:
            rows = (
                connection.execute(f"select * from raw_src.{table} order by {order}")
                .to_arrow_table()
                .to_pylist()
            )
        return [{k: v for k, v in row.items() if k not in METADATA} for row in rows]

    def types(self, table: str) -> dict[str, str]:
        return {row[0]: row[1] for row in self.query(f"describe raw_src.{table}")}

    def ledger(self) -> list[tuple[Any, ...]]:
        """(table, origin, rows read, loaded, rejected, status) of every file."""
        return self.query(
            "select table_name, origin_name, rows_read, rows_loaded, rows_rejected, status "
            "from ledger.files order by load_id, table_name, file"
        )

    def rejected(self) -> list[tuple[Any, ...]]:
        """(record number, reason, raw record) of every rejected record."""
        return self.query(
            "select record_number, reason, raw_record from ledger.rejected_records "
            "order by file, record_number"
        )

    def register(self, table: str) -> list[landing.RegisterRow]:
        return landing.register_rows(self.settings, "src", table)

    def state(self) -> list[tuple[Any, ...]]:
        """Everything in raw and ledger but when it was loaded and what was replayed."""
        with duckdb.connect(str(self.settings.warehouse_path), read_only=True) as connection:
            tables = connection.execute(
                "select schema_name, table_name from duckdb_tables() "
                "where schema_name in ('raw_src', 'ledger') and table_name <> 'replays' "
                "order by all"
            ).fetchall()
            found: list[tuple[Any, ...]] = []
            for schema, table in tables:
                columns = [
                    row[0] for row in connection.execute(f"describe {schema}.{table}").fetchall()
                ]
                found.append((schema, table, *columns))
                left_out = " exclude (loaded_at)" if (schema, table) == ("ledger", "files") else ""
                query = f"select *{left_out} from {schema}.{table} order by all"
                found += [(schema, table, *row) for row in connection.execute(query).fetchall()]
        return found


def make_workbook(sheet: str, rows: list[list[Any]]) -> bytes:
    """The smallest Excel workbook that holds these cells."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    packages = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": (
            f'<Types xmlns="{packages}/content-types">'
            '<Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
            f'<Override PartName="/xl/styles.xml" ContentType="{kind}.styles+xml"/>'
            f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kind}.worksheet+xml"/>'
            "</Types>"
        ),
        "_rels/.rels": (
            f'<Relationships xmlns="{packages}/relationships"><Relationship Id="rId1" '
            f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>'
        ),
        "xl/workbook.xml": (
            f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
            f'<sheet name="{escape(sheet)}" sheetId="1" r:id="rId1"/></sheets></workbook>'
        ),
        "xl/_rels/workbook.xml.rels": (
            f'<Relationships xmlns="{packages}/relationships">'
            f'<Relationship Id="rId1" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/>'
            f'<Relationship Id="rId2" Type="{office}/styles" Target="styles.xml"/>'
            "</Relationships>"
        ),
        "xl/styles.xml": (
            f'<styleSheet xmlns="{main}"><fonts count="1"><font/></fonts>'
            '<fills count="1"><fill/></fills><borders count="1"><border/></borders>'
            '<cellStyleXfs count="1"><xf/></cellStyleXfs>'
            '<cellXfs count="2"><xf/><xf numFmtId="14" applyNumberFormat="1"/></cellXfs>'
            "</styleSheet>"
        ),
        "xl/worksheets/sheet1.xml": (
            f'<worksheet xmlns="{main}"><sheetData>'
            + "".join(
                f'<row r="{i}">{"".join(_cell(i, j, v) for j, v in enumerate(row))}</row>'
                for i, row in enumerate(rows, start=1)
            )
            + "</sheetData></worksheet>"
        ),
    }
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return sink.getvalue()


def _cell(row: int, column: int, value: Any) -> str:
    place = f'r="{chr(65 + column)}{row}"'
    if value is None:
        return ""
    if isinstance(value, bool):
        return f'<c {place} t="b"><v>{int(value)}</v></c>'
    if isinstance(value, date):
        # Excel counts days; the style says that it is a date.
        return f'<c {place} s="1"><v>{(value - date(1899, 12, 30)).days}</v></c>'
    if isinstance(value, int | float):
        return f"<c {place}><v>{value}</v></c>"
    return f'<c {place} t="inlineStr"><is><t>{escape(str(value))}</t></is></c>'
