"""Where people live: towns, postal codes, telephone numbers, time zones.

country ─> towns with postal codes ─> place numbers; country ─> code, area, subscriber ─> a number
in several formats
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anycompany.draws import Ints


@dataclass(frozen=True)
class Country:
    """What the generator knows of a country.

    Attributes:
        code: ISO 3166 alpha-2.
        alpha3: ISO 3166 alpha-3.
        name: English name, as the reference data has it.
        calling_code: Of the telephone, without plus.
        trunk: What a national call starts with.
        digits: Count of digits of a subscriber's number.
        cultures: Whose names are common, with weights.
        currency: ISO 4217.
        towns: `town|state|postal prefix|area code`; `#` in the prefix stands for two digits.
    """

    code: str
    alpha3: str
    name: str
    calling_code: str
    trunk: str
    digits: int
    cultures: dict[str, float]
    currency: str
    towns: tuple[str, ...]


POSTCODES_PER_TOWN = 60

COUNTRIES = [
    Country(
        "US",
        "USA",
        "United States",
        "1",
        "",
        7,
        {"en": 0.8, "es": 0.2},
        "USD",
        (
            "San Francisco|CA|941#|415",
            "Chicago|IL|606#|312",
            "Boston|MA|021#|617",
            "Austin|TX|787#|512",
            "Denver|CO|802#|303",
            "Seattle|WA|981#|206",
            "Atlanta|GA|303#|404",
            "Miami|FL|331#|305",
            "Phoenix|AZ|850#|602",
            "Portland|OR|972#|503",
            "Columbus|OH|432#|614",
            "Nashville|TN|372#|615",
        ),
    ),
    Country(
        "CA",
        "CAN",
        "Canada",
        "1",
        "",
        7,
        {"en": 0.7, "fr": 0.3},
        "CAD",
        (
            "Toronto|ON|M5V #A|416",
            "Montréal|QC|H2X #B|514",
            "Vancouver|BC|V6B #C|604",
            "Calgary|AB|T2P #E|403",
            "Ottawa|ON|K1P #G|613",
        ),
    ),
    Country(
        "MX",
        "MEX",
        "Mexico",
        "52",
        "",
        8,
        {"es": 1.0},
        "MXN",
        (
            "Ciudad de México|CDMX|061#|55",
            "Guadalajara|JAL|441#|33",
            "Monterrey|NLE|640#|81",
            "Puebla|PUE|720#|22",
        ),
    ),
    Country(
        "DE",
        "DEU",
        "Germany",
        "49",
        "0",
        7,
        {"de": 0.95, "pl": 0.05},
        "EUR",
        (
            "Berlin|BE|101#|30",
            "Hamburg|HH|200#|40",
            "München|BY|803#|89",
            "Köln|NW|506#|221",
            "Frankfurt am Main|HE|603#|69",
            "Düsseldorf|NW|402#|211",
            "Leipzig|SN|041#|341",
        ),
    ),
    Country(
        "FR",
        "FRA",
        "France",
        "33",
        "0",
        8,
        {"fr": 1.0},
        "EUR",
        (
            "Paris|IDF|750#|1",
            "Lyon|ARA|690#|4",
            "Lille|HDF|590#|3",
            "Nantes|PDL|440#|2",
            "Orléans|CVL|450#|2",
        ),
    ),
    Country(
        "GB",
        "GBR",
        "United Kingdom",
        "44",
        "0",
        7,
        {"en": 0.9, "in": 0.1},
        "GBP",
        (
            "London|LND|SW1A #|207",
            "Manchester|MAN|M1 #|161",
            "Leeds|LDS|LS2 #|113",
            "Bristol|BST|BS1 #|117",
            "Glasgow|GLG|G2 #|141",
        ),
    ),
    Country(
        "CH",
        "CHE",
        "Switzerland",
        "41",
        "0",
        7,
        {"de": 0.7, "fr": 0.3},
        "CHF",
        ("Zürich|ZH|80#|44", "Genève|GE|12#|22", "Bern|BE|30#|31", "Basel|BS|40#|61"),
    ),
    Country(
        "PL",
        "POL",
        "Poland",
        "48",
        "",
        7,
        {"pl": 1.0},
        "PLN",
        ("Warszawa|MZ|00-1#|22", "Kraków|MA|30-0#|12", "Łódź|LD|90-0#|42", "Poznań|WP|60-1#|61"),
    ),
    Country(
        "SE",
        "SWE",
        "Sweden",
        "46",
        "0",
        7,
        {"se": 1.0},
        "SEK",
        ("Stockholm|AB|111 #|8", "Göteborg|O|411 #|31", "Malmö|M|211 #|40", "Uppsala|C|753 #|18"),
    ),
    Country(
        "ES",
        "ESP",
        "Spain",
        "34",
        "",
        7,
        {"es": 1.0},
        "EUR",
        ("Madrid|MD|280#|91", "Barcelona|CT|080#|93", "Sevilla|AN|410#|95", "A Coruña|GA|150#|98"),
    ),
    Country(
        "IT",
        "ITA",
        "Italy",
        "39",
        "",
        7,
        {"it": 1.0},
        "EUR",
        ("Roma|RM|001#|347", "Milano|MI|201#|348", "Torino|TO|101#|349", "Napoli|NA|801#|333"),
    ),
    Country(
        "NL",
        "NLD",
        "Netherlands",
        "31",
        "0",
        7,
        {"nl": 1.0},
        "EUR",
        (
            "Amsterdam|NH|10# AB|20",
            "Rotterdam|ZH|30# CD|10",
            "Utrecht|UT|35# EF|30",
            "Eindhoven|NB|56# GH|40",
        ),
    ),
    Country(
        "AE",
        "ARE",
        "United Arab Emirates",
        "971",
        "0",
        7,
        {"en": 0.4, "in": 0.6},
        "EUR",
        ("Dubai|DU|000#|4", "Abu Dhabi|AZ|510#|2"),
    ),
    Country(
        "ZA",
        "ZAF",
        "South Africa",
        "27",
        "0",
        7,
        {"en": 0.6, "nl": 0.4},
        "GBP",
        ("Cape Town|WC|80#|21", "Johannesburg|GP|20#|11"),
    ),
    Country(
        "JP",
        "JPN",
        "Japan",
        "81",
        "0",
        8,
        {"jp": 1.0},
        "JPY",
        (
            "Tokyo|13|100-00#|3",
            "Osaka|27|530-00#|6",
            "Nagoya|23|460-00#|52",
            "Sapporo|01|060-00#|11",
        ),
    ),
    Country(
        "AU",
        "AUS",
        "Australia",
        "61",
        "0",
        8,
        {"en": 0.85, "cn": 0.15},
        "AUD",
        ("Sydney|NSW|20#|2", "Melbourne|VIC|30#|3", "Brisbane|QLD|40#|7", "Perth|WA|60#|8"),
    ),
    Country(
        "IN",
        "IND",
        "India",
        "91",
        "0",
        8,
        {"in": 1.0},
        "INR",
        ("Mumbai|MH|4000#|22", "Bengaluru|KA|5600#|80", "Delhi|DL|1100#|11", "Chennai|TN|6000#|44"),
    ),
    Country(
        "KR",
        "KOR",
        "South Korea",
        "82",
        "0",
        8,
        {"kr": 1.0},
        "KRW",
        ("Seoul|11|045#|2", "Busan|26|485#|51", "Incheon|28|223#|32"),
    ),
    Country(
        "SG",
        "SGP",
        "Singapore",
        "65",
        "",
        7,
        {"cn": 0.8, "in": 0.2},
        "SGD",
        ("Singapore|SG|0180#|6", "Singapore|SG|5200#|6"),
    ),
]

CODES = [country.code for country in COUNTRIES]
ALPHA3 = [country.alpha3 for country in COUNTRIES]
NAMES = [country.name for country in COUNTRIES]
INDEX = {code: position for position, code in enumerate(CODES)}
CURRENCY = [country.currency for country in COUNTRIES]


@dataclass(frozen=True)
class Places:
    """Every postal code of every town; a place is an index into these lists.

    Attributes:
        town: Town of each place.
        state: Its state or province.
        postal_code: Its postal code.
        area: Its telephone area code.
        first: For each country, the first of its places.
        size: For each country, how many it has.
    """

    town: list[str]
    state: list[str]
    postal_code: list[str]
    area: list[str]
    first: Ints
    size: Ints


def _places() -> Places:
    town: list[str] = []
    state: list[str] = []
    postal: list[str] = []
    area: list[str] = []
    first: list[int] = []
    size: list[int] = []
    for country in COUNTRIES:
        first.append(len(town))
        for entry in country.towns:
            name, region, prefix, code = entry.split("|")
            for part in range(POSTCODES_PER_TOWN):
                town.append(name)
                state.append(region)
                postal.append(prefix.replace("#", f"{part + 10:02d}"))
                area.append(code)
        size.append(len(town) - first[-1])
    return Places(town, state, postal, area, np.array(first), np.array(size))


PLACES = _places()
CALLING_CODE = [country.calling_code for country in COUNTRIES]
TRUNK = [country.trunk for country in COUNTRIES]
DIGITS = np.array([country.digits for country in COUNTRIES])

STREETS = [
    "Main Street",
    "Oak Avenue",
    "Park Road",
    "Station Road",
    "Church Lane",
    "High Street",
    "Mill Lane",
    "Lake View",
    "Hill Road",
    "Market Square",
    "River Walk",
    "Garden Way",
    "Cedar Court",
    "Maple Drive",
    "School Lane",
    "King Street",
    "Queen Street",
    "Bridge Street",
    "Elm Grove",
    "Harbour Road",
]
