"""What names of columns and tables tell: entities, keys, units, personal data.

name -> `tokens` -> stem without key words -> how alike a column and the table it may point to are

Names are evidence, never proof; what the data say is asked elsewhere. Left out: languages other
than English, but for short words that many share.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from functools import cache


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


KEY_WORDS = word_set(
    "id ids key no nr num number code ref reference fk pk uuid guid sk nk oid identifier "
)
# A name of only these tells nothing about the entity.
GENERIC = KEY_WORDS | word_set(
    "name type kind value status state date time title label line position sequence text "
    "description comment note reason version order_by amount currency_amount event "
)
_SAME = tuple(
    frozenset(group.split())
    for group in (
        "customer client buyer account acct consumer shopper patron debtor",
        "employee staff rep representative agent manager supervisor worker clerk salesperson",
        "product item article material listing good part sku catalog catalogue merchandise",
        "order purchase invoice sale deal",
        "supplier vendor seller retailer merchant distributor",
        "user member person people contact player login profile",
        "ticket case issue incident request",
        "company organisation organization firm business",
        "country nation ctry land",
        "category group family class segment genre",
        "store shop branch outlet site location",
        "payment transaction charge",
        "device machine unit asset",
    )
)
_PEOPLE = frozenset().union(_SAME[0], _SAME[1], _SAME[5])
ROLES = word_set(
    "requester assignee author submitter owner creator approver agent rep manager recipient "
    "sender reviewer editor assigned requested created updated modified handled reported seller "
    "buyer driver teacher student patient doctor host guest winner "
)
SELF_WORDS = word_set(
    "parent manager reports supervisor boss predecessor successor previous next original root "
    "replaces replaced ancestor mother father duplicate superior "
)
MEASURES = word_set(
    "quantity qty amount price cost total count size length width height weight age year month "
    "day hour minute second seconds ms pct percent ratio rate score rank rating level points "
    "balance discount tax net gross lat lon latitude longitude bytes milliseconds duration "
    "temperature offset uptime rpm attempts version page pages players errors minor "
)
_UNITS = {
    "usd": "USD", "eur": "EUR", "gbp": "GBP", "pct": "%", "percent": "%", "ms": "ms",
    "milliseconds": "ms", "seconds": "s", "secs": "s", "minutes": "min", "hours": "h",
    "days": "d", "kg": "kg", "grams": "g", "km": "km", "cm": "cm", "mm": "mm", "miles": "mi",
    "celsius": "°C", "fahrenheit": "°F", "bytes": "B", "kb": "kB", "mb": "MB", "gb": "GB",
    "rpm": "rpm", "kwh": "kWh", "volts": "V", "watts": "W", "cents": "cents", "litres": "l",
    "liters": "l",
}  # fmt: skip
_LAST_UNITS = {"s": "s", "c": "°C", "f": "°F", "m": "m", "h": "h", "g": "g", "v": "V", "w": "W"}
_PERSONAL = (
    ("email", {"email", "mail", "emails"}),
    ("phone", {"phone", "tel", "telephone", "mobile", "fax", "cell"}),
    ("birth_date", {"birth", "birthday", "dob", "born", "birthdate"}),
    ("ip", {"ip", "ipaddress"}),
    ("address", {"street", "address", "postal", "postcode", "zip", "addr", "address1", "address2"}),
    ("iban", {"iban"}),
    ("card", {"pan", "cardnumber"}),
)
_PROSE = word_set("comment comments note notes remark remarks message body text memo feedback")
_NATIONAL = word_set("ssn passport nino nric cpf curp sin")
_POSTAL = word_set("postal zip")
_COUNTED = word_set("no nr num number")
_NAME_WORDS = word_set("first last given family sur middle full display nick maiden fore user ")
_WHOLE_NAMES = word_set("firstname lastname surname fullname username forename given family ")
_DELETED = re.compile(
    r"(^|_)(is_)?(deleted|removed|cancelled|canceled|archived|inactive|void(ed)?)(_|$)"
)
_CHANGED = word_set("updated modified changed edited update change mtime revised ")
_CREATED = word_set(
    "created inserted registered placed occurred opened at received sent ordered since "
    "timestamp event date added joined raised time create "
)


@cache
def tokens(name: str) -> tuple[str, ...]:
    """The words of a name in snake case, camel case or with blanks, in lower case."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    spaced = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", spaced)
    return tuple(re.findall(r"[a-z]+|\d+", spaced.lower()))


@cache
def singular(word: str) -> str:
    """The word in singular, as far as its ending tells."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "xes", "ches", "shes", "uses")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is", "news")):
        return word[:-1]
    return word


@cache
def stem(name: str) -> tuple[str, ...]:
    """Words of a column's name that speak of an entity: without `id`, `no`, `code` ..."""
    return tuple(singular(word) for word in tokens(name) if word not in KEY_WORDS)


@cache
def table_words(name: str) -> tuple[str, ...]:
    """Words of a table's name, in singular, without what only says which layer it is of."""
    words = [singular(word) for word in tokens(name.rpartition(".")[2])]
    kept = [word for word in words if word not in ("tbl", "dim", "fact", "stg", "raw", "t")]
    return tuple(kept or words)


def has_key_word(name: str) -> bool:
    """Whether a name says that it is an identifier."""
    return any(word in KEY_WORDS for word in tokens(name)) or name.lower().endswith(("sku", "ean"))


def is_measure(name: str) -> bool:
    """Whether a name speaks of a quantity."""
    return any(word in MEASURES for word in tokens(name)) and not has_key_word(name)


def is_own_key(column: str, table: str) -> bool:
    """Whether a column bears the name of its own table, as keys do, or none (`id`)."""
    words = stem(column)
    own = table_words(table)
    return not words or words == own or words == own[-len(words) :] or words == own[: len(words)]


def is_person_table(table: str) -> bool:
    """Whether a table's name says that its rows are people."""
    return any(word in _PEOPLE for word in table_words(table))


def likeness(column: str, target: str, table: str, is_self: bool) -> tuple[float, str]:
    """How much names say that a column points to a column of a table.

    Args:
        column: The column that may refer.
        target: The column that it may refer to.
        table: The table of that column.
        is_self: Whether both are of the same table.

    Returns:
        From 0 to 1, and why.
    """
    words, theirs, aim = stem(column), stem(target), table_words(table)
    if is_self:
        hints = [word for word in tokens(column) if word in SELF_WORDS]
        return (0.8, f"`{hints[0]}` points into the same table") if hints else (0.0, "")
    if not words:
        return 0.0, ""
    if words == aim:
        return 1.0, "bears the table's name"
    generic = all(word in GENERIC for word in words)
    same = column.lower() == target.lower() and not generic
    if same and (theirs == aim or theirs == aim[-len(theirs) :]):
        return 1.0, "has the same name"
    if words[-len(aim) :] == aim:
        return 0.9, "ends with the table's name"
    if same:
        return 0.85, "has the same name"
    if theirs and words == theirs and not generic:
        return 0.8, "has the same name but for the word for a key"
    if words == aim[-len(words) :]:
        return 0.75, "bears the end of the table's name"
    return _loosely(words, aim, theirs, table)


def _loosely(
    words: tuple[str, ...], aim: tuple[str, ...], theirs: tuple[str, ...], table: str
) -> tuple[float, str]:
    last, entity = words[-1], aim[-1]
    if any(_abbreviates(word, entity) for word in words):
        return 0.7, "is short for the table's name"
    for group in _SAME:
        if entity in group and any(word in group for word in words):
            return 0.65, "means the same as the table's name"
    if any(word in ROLES for word in words) and is_person_table(table):
        return 0.55, "names a role of people"
    if theirs and (theirs[-1] == last and last not in GENERIC):
        return 0.5, "ends like the column"
    if words == aim[: len(words)]:
        return 0.45, "bears the beginning of the table's name"
    ratio = SequenceMatcher(None, "".join(words), "".join(aim)).ratio()
    return (0.4, "sounds like the table's name") if ratio >= 0.8 else (0.0, "")


def _abbreviates(short: str, whole: str) -> bool:
    """`cust` or `acct` for customer and account."""
    if len(short) < 3 or len(short) >= len(whole) or short[0] != whole[0]:
        return False
    if whole.startswith(short):
        return True
    letters = iter(whole)
    return len(short) <= 5 and short[-1] == whole[-1] and all(letter in letters for letter in short)


def unit_of(name: str) -> str:
    """The unit of measure that a name ends with; empty if it tells none."""
    words = tokens(name)
    if len(words) > 1 and words[-1] in _LAST_UNITS:
        return _LAST_UNITS[words[-1]]
    return _UNITS.get(words[-1], "") if words else ""


def personal_by_name(column: str, table: str) -> str:
    """The kind of personal data that a name speaks of; empty if none."""
    words = tokens(column)
    if _NATIONAL & set(words) or {"soc", "sec"} <= set(words):
        return "national_id"
    if words[-1:] and words[-1] in KEY_WORDS - _COUNTED and not _POSTAL & set(words):
        return ""
    for kind, known in _PERSONAL:
        if known & set(words):
            return kind
    if set(words) & _WHOLE_NAMES and len(words) == 1:
        return "name"
    ends = words[-1:] == ("name",) or words[:1] == ("name",)
    if ends and (_NAME_WORDS & set(words) or is_person_table(table)):
        return "name"
    return "card" if {"card", "number"} <= set(words) else ""


def is_prose_name(name: str) -> bool:
    """Whether a column's name says that people write into it what they like."""
    return bool(_PROSE & set(tokens(name)))


def is_deleted_name(name: str) -> bool:
    """Whether a column's name says that it marks deleted rows."""
    return bool(_DELETED.search("_".join(tokens(name))))


def cursor_kind(name: str) -> str:
    """`changed`, `created` or nothing, as the name of a column of times says."""
    words = set(tokens(name))
    if words & _CHANGED:
        return "changed"
    return "created" if words & _CREATED else ""


def entity_name(tables: list[str]) -> str:
    """What to call the thing that several tables know, from their names."""
    ends = [table_words(name)[-1] for name in tables]
    for group in _SAME:
        if sum(word in group for word in ends) * 2 > len(ends):
            return max(sorted(group & set(ends)), key=ends.count)
    return max(sorted(set(ends)), key=ends.count)
