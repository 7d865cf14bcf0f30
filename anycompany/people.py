"""One population of persons, and how a record of a person differs from another one's.

person number ─> traits (name, birth, home, phone, mail) ─> record in a system: spelt, formatted,
with something missing

A person number is `4 * k + home`, where home says which system the person belongs to first (0
shop, 1 erp, 2 marketplace, 3 none of them) and k counts there. Two records of one person always
share mail or phone, and nearly always both.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow.compute as pc

from anycompany import geography, names
from anycompany.draws import Bools, Draws, Ints
from anycompany.text import Column, join, number, pick, when

SHOP, ERP, MARKETPLACE, ELSEWHERE = range(4)

_HOMES = {
    SHOP: {"US": 0.72, "CA": 0.16, "MX": 0.12},
    ERP: {
        "DE": 0.3,
        "FR": 0.15,
        "GB": 0.2,
        "CH": 0.05,
        "PL": 0.08,
        "SE": 0.05,
        "ES": 0.06,
        "IT": 0.05,
        "NL": 0.04,
        "AE": 0.01,
        "ZA": 0.01,
    },
    MARKETPLACE: {"JP": 0.3, "AU": 0.25, "IN": 0.2, "KR": 0.15, "SG": 0.1},
    ELSEWHERE: {"US": 0.4, "DE": 0.15, "GB": 0.15, "FR": 0.1, "JP": 0.1, "AU": 0.1},
}
_DOMAINS = [
    "example.com",
    "example.org",
    "example.net",
    "mail.example",
    "post.example",
    "inbox.example",
]
_OLDEST = (date(1948, 1, 1) - date(1970, 1, 1)).days
_BIRTH_DAYS = 58 * 365

_ASCII = [names.ascii_name(name) for name in names.GIVEN.names]
_ASCII_FAMILY = [names.ascii_name(name) for name in names.FAMILY.names]
_GERMAN = [names.german_name(name) for name in names.GIVEN.names]
_GERMAN_FAMILY = [names.german_name(name) for name in names.FAMILY.names]
_NICK = [names.NICKNAMES.get(name, name) for name in names.GIVEN.names]
_MANGLED = [name.encode().decode("cp1252", "replace") for name in names.FAMILY.names]
_HAS_NICK = np.array([name in names.NICKNAMES for name in names.GIVEN.names])
_HAS_DIACRITICS = np.array(
    [name != plain for name, plain in zip(names.FAMILY.names, _ASCII_FAMILY, strict=True)]
)


@dataclass(frozen=True)
class Traits:
    """What is so of each person, wherever they appear.

    Attributes:
        pid: Person number.
        given, family: Indexes into the pools of names.
        country, place: Indexes into the countries and places of `geography`.
        birth: Epoch day of birth.
        email: The person's usual address.
        second_email: The address they changed to.
        subscriber: Telephone number without country and area code, as a number.
    """

    pid: Ints
    given: Ints
    family: Ints
    country: Ints
    place: Ints
    birth: Ints
    email: Column
    second_email: Column
    subscriber: Ints


@dataclass(frozen=True)
class Record:
    """What a system knows of each person; the columns are parallel to the person numbers asked for.

    Attributes:
        given, family: Names as spelt there.
        email, phone: As told there, or null.
        birth: Epoch day of birth.
        has_birth: Whether it is told.
        mangled_family: The family name as broken encoding would show it.
        can_mangle: Where that differs from the name.
    """

    given: Column
    family: Column
    email: Column
    phone: Column
    birth: Ints
    has_birth: Bools
    mangled_family: Column
    can_mangle: Bools


class People:
    """The population for one seed."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws

    def traits(self, pid: Ints) -> Traits:
        """Returns the traits of the persons with these numbers."""
        home = _household(pid)
        country = self._country(home)
        culture = self._culture(home, country)
        given, family = self._names(pid, home, culture)
        place = self.place_in(country, home, "home")
        low = 10 ** (geography.DIGITS[country] - 1)
        mailbox = np.where((pid >> 2) % 500 == 1, home, pid)
        return Traits(
            pid=pid,
            given=given,
            family=family,
            country=country,
            place=place,
            birth=_OLDEST + self._draws.below("person.birth", pid, _BIRTH_DAYS),
            email=self._email(mailbox, given, family, pid == mailbox),
            second_email=join(
                pick(_slugs(_ASCII_FAMILY), family),
                "_",
                pick(_slugs(_ASCII), given),
                number(pid),
                "@new.example",
            ),
            subscriber=2 * low + home * 7919 % (8 * low),
        )

    def _country(self, home: Ints) -> Ints:
        country = np.zeros(len(home), dtype=np.int64)
        for system, shares in _HOMES.items():
            codes = np.array([geography.INDEX[code] for code in shares])
            mask = (home & 3) == system
            country[mask] = codes[
                self._draws.weighted("person.country", home[mask], list(shares.values()))
            ]
        return country

    def _culture(self, home: Ints, country: Ints) -> Ints:
        culture = np.zeros(len(home), dtype=np.int64)
        for position in np.unique(country):
            shares = geography.COUNTRIES[position].cultures
            codes = np.array([names.CULTURES.index(name) for name in shares])
            mask = country == position
            culture[mask] = codes[
                self._draws.weighted("person.culture", home[mask], list(shares.values()))
            ]
        return culture

    def _names(self, pid: Ints, home: Ints, culture: Ints) -> tuple[Ints, Ints]:
        family = self._name("person.family", home, culture, names.FAMILY)
        given = self._name("person.given", pid, culture, names.GIVEN)
        head = self._name("person.given", home, culture, names.GIVEN)
        letters = np.array([ord(name[0]) for name in _ASCII])
        alike = (pid != home) & (letters[given] == letters[head])
        return np.where(alike, names.GIVEN.other_letter[head], given), family

    def _name(self, draw: str, ids: Ints, culture: Ints, pool: names.Pool) -> Ints:
        first = np.array([pool.first[name] for name in names.CULTURES])[culture]
        size = np.array([pool.size[name] for name in names.CULTURES])[culture]
        return np.asarray(first + (self._draws.unit(draw, ids) ** 1.4 * size).astype(np.int64))

    def _email(self, mailbox: Ints, given: Ints, family: Ints, own: Bools) -> Column:
        first, last, digits = (
            pick(_slugs(_ASCII), given),
            pick(_slugs(_ASCII_FAMILY), family),
            number(mailbox),
        )
        style = self._draws.below("person.mail", mailbox, 3)
        local = when(
            style == 0,
            join(first, ".", last, digits),
            join(pc.utf8_slice_codeunits(first, 0, 1), last, digits),
        )
        local = when(style == 2, join(last, digits), local)
        # A shared mailbox bears the family's name, whoever of them uses it.
        shared = np.isin(mailbox >> 2, mailbox[~own] >> 2) | ((mailbox >> 2) % 500 == 0)
        local = when(shared, join("family.", last, digits), local)
        return join(
            local, "@", pick(_DOMAINS, self._draws.below("person.domain", mailbox, len(_DOMAINS)))
        )

    def place_in(self, country: Ints, ids: Ints, purpose: str) -> Ints:
        """Returns a place (index into `geography.PLACES`) in each country, by id and purpose."""
        size = geography.PLACES.size[country]
        return geography.PLACES.first[country] + self._draws.below(f"place.{purpose}", ids, size)

    def record(self, traits: Traits, system: str, country: Ints, *, home: bool = False) -> Record:
        """Returns what a system knows of each person.

        Args:
            traits: The persons.
            system: Name of the system, names the draws.
            country: Country that the record states, -1 where it states none; numbers abroad are
                told in full.
            home: Whether this system is where mail addresses are never out of date.
        """
        pid, draw = traits.pid, self._draws
        # Whoever leaves out a phone anywhere never leaves out or changes a mail address, so two
        # records always share one of them.
        drops_phone = draw.chance("person.drops", pid, 0.5)
        no_phone = drops_phone & draw.chance(f"{system}.no_phone", pid, 0.12)
        no_email = ~drops_phone & draw.chance(f"{system}.no_email", pid, 0.05)
        changed = (
            ~drops_phone
            & ~no_email
            & draw.chance(f"{system}.changed_email", pid, 0.0 if home else 0.06)
        )
        plain = no_phone | no_email | changed
        given, family, last = self._spelling(traits, system, plain)
        email = self._told_email(traits, system, changed)
        none = when(no_email, None, email)
        return Record(
            given=given,
            family=family,
            email=none,
            phone=when(no_phone, None, self._told_phone(traits, system, country)),
            birth=traits.birth,
            has_birth=~draw.chance(f"{system}.no_birth", pid, 0.25),
            mangled_family=pick(_MANGLED, traits.family),
            can_mangle=_HAS_DIACRITICS[traits.family] & last,
        )

    def _spelling(self, traits: Traits, system: str, plain: Bools) -> tuple[Column, Column, Bools]:
        pid, draw = traits.pid, self._draws
        way = draw.weighted(f"{system}.spelling", pid, [0.84, 0.1, 0.06])
        nick = ~plain & _HAS_NICK[traits.given] & draw.chance(f"{system}.nick", pid, 0.15)
        given = when(way == 1, pick(_ASCII, traits.given), pick(names.GIVEN.names, traits.given))
        given = when(way == 2, pick(_GERMAN, traits.given), given)
        given = when(nick, pick(_NICK, traits.given), given)
        family = when(
            way == 1, pick(_ASCII_FAMILY, traits.family), pick(names.FAMILY.names, traits.family)
        )
        family = when(way == 2, pick(_GERMAN_FAMILY, traits.family), family)
        long_enough = np.asarray(pc.greater(pc.utf8_length(family), 4))
        typo = ~plain & ~nick & long_enough & draw.chance(f"{system}.typo", pid, 0.015)
        swapped = join(
            pc.utf8_slice_codeunits(family, 0, 2),
            pc.utf8_slice_codeunits(family, 3, 4),
            pc.utf8_slice_codeunits(family, 2, 3),
            pc.utf8_slice_codeunits(family, 4),
        )
        return given, when(typo, swapped, family), (way == 0) & ~typo

    def _told_email(self, traits: Traits, system: str, changed: Bools) -> Column:
        pid, draw = traits.pid, self._draws
        email = when(changed, traits.second_email, traits.email)
        way = draw.weighted(f"{system}.mail_way", pid, [0.9, 0.03, 0.03, 0.04])
        email = when(way == 1, pc.utf8_upper(email), email)
        email = when(way == 2, pc.utf8_capitalize(email), email)
        return when(way == 3, pc.replace_substring(email, "@", "+anycompany@"), email)

    def _told_phone(self, traits: Traits, system: str, country: Ints) -> Column:
        code = pick(geography.CALLING_CODE, traits.country)
        trunk = pick(geography.TRUNK, traits.country)
        area = pick(geography.PLACES.area, traits.place)
        digits = number(traits.subscriber)
        head, tail = pc.utf8_slice_codeunits(digits, 0, 3), pc.utf8_slice_codeunits(digits, 3)
        american = np.isin(traits.country, [geography.INDEX["US"], geography.INDEX["CA"]])
        way = self._draws.weighted(f"{system}.phone_way", traits.pid, [0.35, 0.25, 0.15, 0.25])
        way = np.where((way == 3) & (country != traits.country), 0, way)
        spaced = when(
            american,
            join("+", code, " (", area, ") ", head, "-", tail),
            join("+", code, " ", area, " ", digits),
        )
        national = when(american, join(area, "-", head, "-", tail), join(trunk, area, " ", digits))
        text = when(way == 1, join("+", code, area, digits), spaced)
        text = when(way == 2, join("00", code, " ", area, " ", digits), text)
        return when(way == 3, national, text)


def _household(pid: Ints) -> Ints:
    """Every fiftieth person of a system lives with the one before: same name, home and phone."""
    return np.where((pid >> 2) % 50 == 1, pid - 4, pid)


def _slugs(pool: list[str]) -> list[str]:
    return ["".join(letter for letter in name.lower() if letter.isalnum()) for name in pool]
