"""What texts mean, judged on a sample of different values.

values -> placeholders apart -> form of each (`AA-9999`) -> kinds that nearly all have -> `Behind`

Only proposals: `profile` proves each on all rows with the SQL of `fits`. Left out: free text, which
has no form, and languages other than those whose number and date formats are listed.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from runner.discover.model import Behind
from runner.discover.words import cursor_kind, tokens, word_set

# Of the different values that were looked at, so many must have the form.
NEARLY_ALL = 0.9
_PLACEHOLDERS = word_set(
    "n/a na null none nil unknown undefined - -- --- ? ?? . .. tbd missing (null) #n/a nan "
    "(none) <null> \\n n.a. k.a. 0000-00-00 9999-12-31 31.12.9999 1900-01-01 0001-01-01 99991231 "
) | {"not available", "not applicable", "no value", "not set"}
_TRUES = word_set("true yes y t on ja oui si wahr x ")
_FALSES = word_set("false no n f off nein non falsch ")
COUNTRIES = word_set(
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ "
    "BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM "
    "DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS "
    "GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN "
    "KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ "
    "MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM "
    "PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV "
    "SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI "
    "VN VU WF WS YE YT ZA ZM ZW "
)
CURRENCIES = word_set(
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN "
    "BWP BYN BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD "
    "FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY "
    "KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP "
    "MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR "
    "RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT "
    "TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XAG XAU XCD XCG XDR "
    "XOF XPF YER ZAR ZMW ZWG "
)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_EMAIL = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+\.[A-Za-z]{2,}")
_URL = re.compile(r"(https?|ftp|s3|wss?)://\S+")
_PHONE = re.compile(r"\+?\(?\d[\d\s().\-/]{5,22}\d(\s?(x|ext\.?)\s?\d+)?")
_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_ISO_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?( ?(Z|UTC|[+-]\d\d(:?\d\d)?))?"
)
_ZONE = re.compile(r"(Z|UTC|[+-]\d\d(:?\d\d)?)$")
_AFFIX = re.compile(
    r"(?P<before>[^\d\s.,+-]{0,3}) ?(?P<number>[+-]?\d[\d.,' ]*?) ?(?P<after>[^\d\s.,]{0,4})"
)
_NUMBERS: tuple[tuple[str, str, re.Pattern[str]], ...] = (
    (".", "", re.compile(r"[+-]?\d*\.?\d+")),
    (",", "", re.compile(r"[+-]?\d+(,\d+)?")),
    (".", ",", re.compile(r"[+-]?\d{1,3}(,\d{3})*(\.\d+)?")),
    (",", ".", re.compile(r"[+-]?\d{1,3}(\.\d{3})*(,\d+)?")),
    (".", "'", re.compile(r"[+-]?\d{1,3}('\d{3})*(\.\d+)?")),
    (",", " ", re.compile(r"[+-]?\d{1,3}([ \u00a0]\d{3})*(,\d+)?")),
)
# Formats by the form of a text; those on one line can be taken for one another.
_DAY_MONTH = (("%d", "%m"), ("%m", "%d"))
_DATE_FORMATS: dict[str, tuple[str, ...]] = {
    "9999-99-99": ("%Y-%m-%d",),
    "9999/99/99": ("%Y/%m/%d",),
    "99999999": ("%Y%m%d",),
    "9999.99.99": ("%Y.%m.%d",),
    **{
        f"{a}{mark}{b}{mark}{year}": tuple(f"{x}{mark}{y}{mark}{form}" for x, y in _DAY_MONTH)
        for mark in "./-"
        for year, form in (("9999", "%Y"), ("99", "%y"))
        for a in ("9", "99")
        for b in ("9", "99")
    },
    **{f"{day} Aaa 9999": ("%d %b %Y", "%d %B %Y") for day in ("9", "99")},
    **{f"{day}-Aaa-9999": ("%d-%b-%Y", "%d-%B-%Y") for day in ("9", "99")},
    **{f"Aaa {day}, 9999": ("%b %d, %Y", "%B %d, %Y") for day in ("9", "99")},
}
_CLOCKS = {
    " 99:99": " %H:%M", " 99:99:99": " %H:%M:%S", " 9:99": " %H:%M", " 9:99:99": " %H:%M:%S",
    "T99:99:99": "T%H:%M:%S", " 99:99 AA": " %I:%M %p", " 9:99 AA": " %I:%M %p",
    " 99:99:99 AA": " %I:%M:%S %p", " 9:99:99 AA": " %I:%M:%S %p",
}  # fmt: skip
_SECONDS = (500_000_000, 4_102_444_800)
_RFC_DATE = re.compile(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}")


def shape(text: str) -> str:
    """The form of a text: `9` for a digit, `A` and `a` for letters, the rest as it is."""
    return "".join(
        "9" if c.isdigit() else "A" if c.isupper() else "a" if c.isalpha() else c for c in text
    )


def shapes(values: Sequence[str], most: int = 5) -> tuple[tuple[str, float], ...]:
    """The most frequent forms of texts with their shares; long runs are told by their length."""
    counted = Counter(_short(shape(value)) for value in values)
    return tuple((form, round(n / len(values), 4)) for form, n in counted.most_common(most))


def _short(form: str) -> str:
    packed = re.sub(r"(9{5,}|A{5,}|a{5,})", lambda run: f"{run[0][0]}{{{len(run[0])}}}", form)
    return packed if len(packed) <= 40 else packed[:40] + "…"


def placeholders() -> frozenset[str]:
    """The texts, in lower case, that are written for want of a value."""
    return _PLACEHOLDERS


def is_placeholder(text: str) -> bool:
    """Whether a text is one of those that are written for want of a value."""
    return text.strip().lower() in _PLACEHOLDERS


def judge(values: Iterable[str], name: str) -> Behind | None:
    """What the different texts of a column mean.

    Args:
        values: Some of its different values.
        name: Its name, which decides where digits alone do not.

    Returns:
        A proposal without counts; None if they are just texts.
    """
    texts = [text.strip() for text in values]
    texts = [text for text in texts if text and not is_placeholder(text)]
    if not texts:
        return None
    for look in (_words, _formed, _times, _numbers):
        found = look(texts, name)
        if found is not None:
            return found
    return None


def _nearly_all(texts: Sequence[str], has: Callable[[str], object]) -> bool:
    return sum(bool(has(text)) for text in texts) >= NEARLY_ALL * len(texts)


def _words(texts: Sequence[str], name: str) -> Behind | None:
    lower = {text.lower() for text in texts}
    both = bool(lower & _FALSES) or len(lower) == 1
    if lower <= _TRUES | _FALSES and lower & _TRUES and len(lower) <= 4 and both:
        return Behind("boolean", "boolean", trues=tuple(sorted(lower & _TRUES)))
    if lower <= {"0", "1"} and tokens(name)[:1] in (("is",), ("has",)):
        return Behind("boolean", "boolean", trues=("1",))
    words = set(tokens(name))
    if _nearly_all(texts, lambda text: text in COUNTRIES) and (
        words & {"country", "nation", "ctry", "land", "alpha"} or len(texts) > 40
    ):
        return Behind("country", "text")
    if _nearly_all(texts, lambda text: text in CURRENCIES) and len(texts[0]) == 3:
        return Behind("currency", "text")
    return None


def _formed(texts: Sequence[str], name: str) -> Behind | None:
    checks: tuple[tuple[str, str, Callable[[str], object]], ...] = (
        ("uuid", "uuid", _UUID.fullmatch),
        ("email", "text", _EMAIL.fullmatch),
        ("url", "text", _URL.fullmatch),
        ("ip", "text", is_ip),
        ("iban", "text", is_iban),
        ("json", "json", _is_json),
    )
    for kind, data_type, has in checks:
        if _nearly_all(texts, has):
            return Behind(kind, data_type)
    if _nearly_all(texts, is_card) and not _nearly_all(texts, is_article_number):
        return Behind("card", "text")
    said = set(tokens(name)) & {"phone", "tel", "telephone", "mobile", "fax", "cell"}
    marked = sum(bool(re.search(r"^\+|[ ()/-]", text)) for text in texts) >= len(texts) / 2
    is_phone = _nearly_all(texts, lambda t: _PHONE.fullmatch(t) and 7 <= _digits(t) <= 15)
    looks = sum(text.startswith(("+", "(")) for text in texts) >= len(texts) / 3
    if is_phone and (said or (marked and looks)):
        return Behind("phone", "text")
    return None


def _digits(text: str) -> int:
    return sum(c.isdigit() for c in text)


def _is_json(text: str) -> bool:
    if text[:1] + text[-1:] not in ("{}", "[]"):
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def is_ip(text: str) -> bool:
    """Whether a text is an address of version 4 or 6."""
    if text.count(".") != 3 and text.count(":") < 2:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_iban(text: str) -> bool:
    """Whether a text is an IBAN whose check digits are right."""
    packed = text.replace(" ", "")
    if not _IBAN.fullmatch(packed):
        return False
    return int("".join(str(int(c, 36)) for c in packed[4:] + packed[:4])) % 97 == 1


def is_card(text: str) -> bool:
    """Whether a text is a card number whose check digit is right (Luhn)."""
    packed = text.replace(" ", "").replace("-", "")
    if not packed.isdecimal() or not 13 <= len(packed) <= 19 or packed[0] not in "23456":
        return False
    total = 0
    for place, digit in enumerate(reversed(packed)):
        doubled = int(digit) * (1 + place % 2)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def is_article_number(text: str) -> bool:
    """Whether a text is an EAN or GTIN whose check digit is right."""
    if not text.isdecimal() or len(text) not in (8, 12, 13, 14):
        return False
    weighted = sum(int(c) * (3 - place % 2 * 2) for place, c in enumerate(reversed(text[:-1])))
    return (10 - weighted % 10) % 10 == int(text[-1])


def _times(texts: Sequence[str], name: str) -> Behind | None:
    if _nearly_all(texts, _ISO_TIME.fullmatch):
        zoned = any(_ZONE.search(text[10:]) for text in texts)
        kind = "timestamp with time zone" if zoned else "timestamp"
        return Behind("timestamp", kind, format="iso")
    if _nearly_all(texts, _RFC_DATE.fullmatch):
        return Behind("timestamp", "timestamp with time zone", format="%a, %d %b %Y %H:%M:%S %z")
    epoch = _epoch(texts, name)
    return epoch or _dates(texts, name)


def _epoch(texts: Sequence[str], name: str) -> Behind | None:
    if not _nearly_all(texts, str.isdecimal):
        return None
    said = cursor_kind(name) or set(tokens(name)) & {"ts", "epoch", "opened", "closed", "born"}
    for unit, factor, needs_name in (("s", 1, True), ("ms", 1000, False)):
        low, high = _SECONDS[0] * factor, _SECONDS[1] * factor
        inside = sum(t.isdecimal() and low <= int(t) <= high for t in texts)
        if inside >= NEARLY_ALL * len(texts) and (
            said if needs_name else not _nearly_all(texts, is_article_number)
        ):
            return Behind("epoch", "timestamp", format=unit)
    return None


def _dates(texts: Sequence[str], name: str) -> Behind | None:
    common = Counter(re.sub(r"[aA]+", _letters, shape(text)) for text in texts).most_common(4)
    formats: dict[str, None] = {}
    for form, _ in common:
        for ending, clock in (("", ""), *_CLOCKS.items()):
            head = form.removesuffix(ending) if form.endswith(ending) else ""
            for day in _DATE_FORMATS.get(head, ()):
                formats[day + clock] = None
    read = {form: sum(_is_time(text, form) for text in texts) for form in formats}
    fitting = [form for form, count in read.items() if count >= NEARLY_ALL * len(texts)]
    if not fitting:
        return None
    best = max(fitting, key=lambda form: read[form])
    if best.startswith("%Y%m%d") and len(texts) < 20 and not _speaks_of_days(name):
        return None
    kind = "timestamp" if "%M" in best else "date"
    return Behind(
        kind,
        kind,
        format=best,
        is_ambiguous=sum(count == read[best] for count in read.values()) > 1,
    )


def _speaks_of_days(name: str) -> bool:
    return bool(
        cursor_kind(name) or set(tokens(name)) & {"date", "day", "on", "datum", "dt", "born"}
    )


def _letters(run: re.Match[str]) -> str:
    return run[0] if len(run[0]) <= 2 else "Aaa"


def _is_time(text: str, form: str) -> bool:
    try:
        found = datetime.strptime(text, form)
    except ValueError:
        return False
    return 1800 < found.year < 2200 or found.year == 9999


def _numbers(texts: Sequence[str], name: str) -> Behind | None:
    if any(re.fullmatch(r"0\d+", text) for text in texts):
        # A number would lose the zeros in front, so these are identifiers.
        return None
    bare, _ = without_unit(texts)
    if _nearly_all(bare, re.compile(r"[+-]?\d{1,18}").fullmatch):
        return Behind("integer", "bigint")
    fitting = [(mark, group) for mark, group, form in _NUMBERS if _nearly_all(bare, form.fullmatch)]
    if not fitting or not _nearly_all(bare, lambda text: _digits(text) <= 38):
        return None
    mark, group = fitting[0]
    shown = any(mark in text for text in bare)
    grouped = [text for text in bare if re.search(r"[.,]", text)]
    three = bool(grouped) and all(re.fullmatch(r"[+-]?\d{1,3}[.,]\d{3}", t) for t in grouped)
    scale = max((len(t.rpartition(mark)[2]) for t in bare if mark in t), default=0)
    return Behind(
        "decimal",
        f"decimal(38, {min(scale, 18)})",
        decimal_mark=mark if shown else "",
        thousands_mark=group,
        is_ambiguous=three,
    )


def without_unit(texts: Sequence[str]) -> tuple[list[str], str]:
    """Numbers without what stands before or behind all of them, and that unit."""
    matches = [_AFFIX.fullmatch(text) for text in texts]
    found = [m for m in matches if m]
    if len(found) < NEARLY_ALL * len(texts):
        return list(texts), ""
    units = Counter((m["before"] or m["after"]).strip() for m in found)
    unit, often = units.most_common(1)[0]
    if not unit or often < NEARLY_ALL * len(texts):
        return list(texts), ""
    if any(c.isalpha() for c in unit) and any(m["before"] for m in found):
        # `E0001` is an identifier, not a quantity.
        return list(texts), ""
    bare = [m["number"].strip() if m else text for m, text in zip(matches, texts, strict=True)]
    return bare, unit


def with_type(behind: Behind, scale: int) -> Behind:
    """A decimal that holds so many digits behind its mark."""
    return replace(behind, data_type=f"decimal(38, {min(scale, 37)})")


def fits(behind: Behind, text: str, unit: str = "") -> str:
    """SQL that tells whether a text, an expression, can be read as proposed."""
    trimmed = f"trim({text})"
    if behind.kind == "integer":
        number = number_sql(behind, trimmed, unit)
        return f"try_cast({number} as bigint) is not null and not contains({number}, '.')"
    if behind.kind == "decimal":
        # Much faster than a cast to a wide decimal, and the same texts pass.
        return f"isfinite(try_cast({number_sql(behind, trimmed, unit)} as double))"
    if behind.kind == "timestamp" and behind.format == "iso":
        return f"try_cast({trimmed} as {behind.data_type}) is not null"
    if behind.kind in ("date", "timestamp"):
        return f"try_strptime({trimmed}, '{behind.format}') is not null"
    if behind.kind == "boolean":
        known = ", ".join(f"'{word}'" for word in sorted(_TRUES | _FALSES | {"0", "1"}))
        return f"lower({trimmed}) in ({known})"
    if behind.kind == "epoch":
        return f"try_cast({trimmed} as bigint) is not null"
    if behind.kind == "uuid":
        return f"try_cast({trimmed} as uuid) is not null"
    if behind.kind == "json":
        return f"json_valid({trimmed})"
    if behind.kind == "email":
        return f"{trimmed} like '_%@_%.__%' and not contains({trimmed}, ' ')"
    if behind.kind == "url":
        return f"{trimmed} like '%_://_%' and not contains({trimmed}, ' ')"
    forms = {
        "ip": r"[0-9.]{7,15}|[0-9a-fA-F:.]{2,45}",
        "iban": r"[A-Z]{2}[0-9]{2}[A-Z0-9 ]{11,40}",
        "card": r"[0-9 -]{13,25}",
        "phone": r"\+?\(?[0-9][0-9\s().\-/]{5,22}[0-9]( ?(x|ext\.?) ?[0-9]+)?",
        "country": r"[A-Z]{2}",
        "currency": r"[A-Z]{3}",
    }
    return f"regexp_full_match({trimmed}, '{forms[behind.kind]}')"


def number_sql(behind: Behind, text: str, unit: str) -> str:
    """SQL that writes a number as SQL does: without unit and groups, with a point."""
    if unit:
        text = f"trim(replace({text}, {_quoted(unit)}, ''))"
    if behind.thousands_mark:
        text = f"replace({text}, {_quoted(behind.thousands_mark)}, '')"
    return f"replace({text}, ',', '.')" if behind.decimal_mark == "," else text


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
