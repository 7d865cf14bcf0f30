"""Reference data in the shape of public data sets: countries, currencies, rates, holidays.

facts/*.csv and the company's rates ─> CSV, JSON, Excel, NDJSON.gz, one dated file per version

The facts are ISO 3166 and ISO 4217; exchange rates are a walk of the generator's own. Nothing here
is ever spoilt.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from anycompany import days, money
from anycompany.systems.files import Outbox, month_of
from anycompany.text import join, lines, number, pick
from anycompany.world import World

_FACTS = Path(__file__).parents[1] / "facts"
_FIXED = {
    "US": {
        "01-01": "New Year's Day",
        "06-19": "Juneteenth",
        "07-04": "Independence Day",
        "11-11": "Veterans Day",
        "12-25": "Christmas Day",
    },
    "CA": {
        "01-01": "New Year's Day",
        "07-01": "Canada Day",
        "12-25": "Christmas Day",
        "12-26": "Boxing Day",
    },
    "MX": {
        "01-01": "Año Nuevo",
        "05-01": "Día del Trabajo",
        "09-16": "Día de la Independencia",
        "12-25": "Navidad",
    },
    "DE": {
        "01-01": "Neujahr",
        "05-01": "Tag der Arbeit",
        "10-03": "Tag der Deutschen Einheit",
        "12-25": "Weihnachtstag",
    },
    "FR": {
        "01-01": "Jour de l'An",
        "05-01": "Fête du Travail",
        "07-14": "Fête nationale",
        "11-11": "Armistice",
        "12-25": "Noël",
    },
    "GB": {"01-01": "New Year's Day", "12-25": "Christmas Day", "12-26": "Boxing Day"},
    "CH": {"01-01": "Neujahr", "08-01": "Bundesfeier", "12-25": "Weihnachtstag"},
    "PL": {
        "01-01": "Nowy Rok",
        "05-03": "Święto Konstytucji",
        "11-11": "Święto Niepodległości",
        "12-25": "Boże Narodzenie",
    },
    "SE": {"01-01": "Nyårsdagen", "06-06": "Sveriges nationaldag", "12-25": "Juldagen"},
    "ES": {
        "01-01": "Año Nuevo",
        "01-06": "Epifanía",
        "10-12": "Fiesta Nacional",
        "12-25": "Navidad",
    },
    "IT": {
        "01-01": "Capodanno",
        "04-25": "Liberazione",
        "06-02": "Festa della Repubblica",
        "12-25": "Natale",
    },
    "NL": {"01-01": "Nieuwjaarsdag", "04-27": "Koningsdag", "12-25": "Eerste Kerstdag"},
    "JP": {
        "01-01": "New Year's Day",
        "02-11": "National Foundation Day",
        "05-03": "Constitution Day",
        "11-03": "Culture Day",
    },
    "AU": {
        "01-01": "New Year's Day",
        "01-26": "Australia Day",
        "04-25": "Anzac Day",
        "12-25": "Christmas Day",
    },
    "IN": {"01-26": "Republic Day", "08-15": "Independence Day", "10-02": "Gandhi Jayanti"},
    "KR": {
        "01-01": "New Year's Day",
        "03-01": "Independence Movement Day",
        "08-15": "Liberation Day",
        "10-09": "Hangul Day",
    },
    "SG": {
        "01-01": "New Year's Day",
        "05-01": "Labour Day",
        "08-09": "National Day",
        "12-25": "Christmas Day",
    },
    "BR": {
        "01-01": "Ano Novo",
        "04-21": "Tiradentes",
        "09-07": "Independência",
        "11-15": "Proclamação da República",
    },
    "CL": {
        "01-01": "Año Nuevo",
        "05-21": "Glorias Navales",
        "09-18": "Fiestas Patrias",
        "12-25": "Navidad",
    },
    "CO": {
        "01-01": "Año Nuevo",
        "07-20": "Independencia",
        "08-07": "Batalla de Boyacá",
        "12-25": "Navidad",
    },
    "AR": {
        "01-01": "Año Nuevo",
        "05-25": "Revolución de Mayo",
        "07-09": "Independencia",
        "12-25": "Navidad",
    },
}
_EASTER = [
    "US",
    "CA",
    "MX",
    "DE",
    "FR",
    "GB",
    "CH",
    "PL",
    "SE",
    "ES",
    "IT",
    "NL",
    "AU",
    "SG",
    "BR",
    "CL",
    "CO",
    "AR",
]


def facts(name: str) -> list[dict[str, str]]:
    """Returns the rows of one of the fact files, `countries` or `currencies`."""
    with (_FACTS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def sales_region(row: dict[str, str]) -> str:
    """Returns the sales region that a country belongs to."""
    if row["region"] == "Americas":
        return "NA" if row["sub_region"] == "Northern America" or row["alpha2"] == "MX" else "LATAM"
    if row["region"] in ("Europe", "Africa") or row["sub_region"] in (
        "Western Asia",
        "Central Asia",
    ):
        return "EMEA"
    return "APAC"


def build(world: World) -> Outbox:
    """Returns the files of the reference data on the world's day."""
    box, first = Outbox(), days.FIRST_STATE
    countries = (_FACTS / "countries.csv").read_bytes()
    regions = [
        {"country": row["alpha2"], "sales_region": sales_region(row)} for row in facts("countries")
    ]
    box.add("countries/countries_2026-01.csv", first, lambda: countries)
    box.add(
        "sales_regions/sales_regions_2026-01.json",
        first,
        lambda: json.dumps(regions, indent=1).encode() + b"\n",
    )
    box.add(
        "currencies/currencies.xlsx", first, lambda: workbook("currencies", facts("currencies"))
    )
    for year in (2025, 2026):
        box.add(f"holidays/holidays_{year}.ndjson.gz", first, partial(holidays, year))
    if world.day > first + 180:
        box.add("holidays/holidays_2027.ndjson.gz", first + 181, partial(holidays, 2027))
    _rates(world, box)
    return box


def _rates(world: World, box: Outbox) -> None:
    starts = [int(start) for start in days.month_starts() if start <= world.day]
    for start in starts:
        following = next(day for day in range(start + 1, start + 33) if month_of(day) != start)
        end = min(following - 1, world.day)
        name = f"fx_rates/fx_{days.date_of(start).strftime('%Y-%m')}.csv"
        box.add(
            name,
            max(end, days.FIRST_STATE),
            partial(_rate_file, world, start, end),
        )


def _rate_file(world: World, start: int, end: int) -> bytes:
    day = np.arange(start, end + 1)
    day = day[money.is_business_day(day)]
    which = np.tile(np.arange(len(money.CURRENCIES)), len(day))
    when_day = np.repeat(day, len(money.CURRENCIES))
    whole, rest = np.divmod(world.rates[which, when_day], money.RATE_UNIT)
    text = join(
        pick(days.texts("%Y-%m-%d", start, end), when_day - start),
        ",",
        pick(money.CURRENCIES, which),
        ",",
        number(whole),
        ".",
        number(rest, 8),
    )
    return b"date,currency,usd_per_unit\n" + lines(text)


def _easter(year: int) -> date:
    """Returns Easter Sunday of a year (Gauss, Gregorian)."""
    century, golden = year // 100, year % 19
    epact = (
        19 * golden + century - century // 4 - (century - (century + 8) // 25 + 1) // 3 + 15
    ) % 30
    weekday = (32 + 2 * (century % 4) + 2 * (year % 100 // 4) - epact - year % 4) % 7
    shift = epact + weekday - 7 * ((golden + 11 * epact + 22 * weekday) // 451) + 114
    return date(year, shift // 31, shift % 31 + 1)


def holidays(year: int) -> bytes:
    """Returns the public holidays of a year as gzipped NDJSON."""
    rows = [
        {"date": f"{year}-{day}", "country": country, "name": name}
        for country, dates in _FIXED.items()
        for day, name in dates.items()
    ]
    monday = (_easter(year) + timedelta(days=1)).isoformat()
    friday = (_easter(year) - timedelta(days=2)).isoformat()
    rows += [{"date": friday, "country": country, "name": "Good Friday"} for country in _EASTER]
    rows += [
        {"date": monday, "country": country, "name": "Easter Monday"}
        for country in _EASTER
        if country not in ("US", "MX", "CO")
    ]
    rows.sort(key=lambda row: (row["date"], row["country"]))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    # No time in the header: the same rows must give the same bytes.
    return gzip.compress(text.encode(), 6, mtime=0)


_OOXML = "http://schemas.openxmlformats.org"
_MAIN = f"{_OOXML}/spreadsheetml/2006/main"
_DOCUMENT = f"{_OOXML}/officeDocument/2006/relationships"
_PACKAGE = f"{_OOXML}/package/2006"
_RELATIONS_TYPE = "application/vnd.openxmlformats-package.relationships+xml"
_SHEET_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"


def workbook(sheet: str, rows: list[dict[str, str]]) -> bytes:
    """Returns an Excel workbook of one sheet with a header row and text cells."""
    table = [list(rows[0])] + [list(row.values()) for row in rows]
    cells = "".join(_row(position + 1, values) for position, values in enumerate(table))
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
        f'<Default Extension="rels" ContentType="{_RELATIONS_TYPE}"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_SHEET_TYPE}.sheet.main+xml"/>'
        '<Override PartName="/xl/worksheets/sheet1.xml" '
        f'ContentType="{_SHEET_TYPE}.worksheet+xml"/></Types>',
        "_rels/.rels": _relation("officeDocument", "xl/workbook.xml"),
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_DOCUMENT}"><sheets>'
        f'<sheet name="{sheet}" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relation("worksheet", "worksheets/sheet1.xml"),
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_MAIN}">'
        f"<sheetData>{cells}</sheetData></worksheet>",
    }
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            entry = zipfile.ZipInfo(name, date_time=(2025, 1, 1, 0, 0, 0))
            archive.writestr(entry, head + content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _relation(kind: str, target: str) -> str:
    return (
        f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="rId1" Type="{_DOCUMENT}/{kind}" Target="{target}"/></Relationships>'
    )


def _row(place: int, values: list[str]) -> str:
    cells = "".join(
        f'<c r="{chr(65 + column)}{place}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
        for column, value in enumerate(values)
    )
    return f'<row r="{place}">{cells}</row>'
