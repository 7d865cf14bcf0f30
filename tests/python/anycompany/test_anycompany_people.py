"""The same people and products in several systems: alike enough to be matched, never the same."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import NamedTuple

import pytest

from anycompany import geography
from anycompany.world import World

CALLING = {country.code: (country.calling_code, country.trunk) for country in geography.COUNTRIES}


class Told(NamedTuple):
    """What one record tells, in comparable form."""

    source: str
    name: str
    email: str | None
    phone: str | None
    raw_phone: str | None


def phone_digits(text: str | None, country: str | None) -> str | None:
    """Returns a telephone number with its country code, by the README's rules."""
    if not text:
        return None
    digits = re.sub(r"\D", "", text)
    if text.startswith("+"):
        return digits
    if digits.startswith("00"):
        return digits[2:]
    assert country is not None, "a national number needs the country of the record"
    code, trunk = CALLING[country]
    return code + (digits.removeprefix(trunk) if trunk else digits)


def plain_email(text: str | None) -> str | None:
    return re.sub(r"\+[^@]*", "", text.lower()) if text else None


def records(world: World) -> Iterator[tuple[str, Told]]:
    """Yields key and content of the records of shop, help desk and PixelCo."""
    for row in world.shop.rows["customers"].table.to_pylist():
        name = f"{row['first_name']} {row['last_name']}"
        phone = phone_digits(row["phone"], row["country_code"])
        told = Told("shop", name, plain_email(row["email"]), phone, row["phone"])
        yield f"shop {row['customer_id']}", told
    for text in world.helpdesk.exports["users"].text.to_pylist():
        row = json.loads(text)
        phone = phone_digits(row["phone"], None)
        told = Told("helpdesk", row["name"], plain_email(row["email"]), phone, row["phone"])
        yield f"helpdesk {row['id']}", told
    [(_, make)] = world.pixelco.outbox.files.values()
    for row in json.loads(make())["accounts"]:
        name, phone = f"{row['given']} {row['family']}", phone_digits(row["tel"], None)
        told = Told("pixelco", name, plain_email(row["mail"]), phone, row["tel"])
        yield f"pixelco {row['acct']}", told


@pytest.fixture(scope="module")
def pairs(made: Callable[..., World]) -> list[tuple[Told, Told]]:
    """Every pair of records of one person."""
    world = made(scale=0.05, defects=0.0)
    told = dict(records(world))
    people = defaultdict(list)
    for persons in (world.shop.persons, world.helpdesk.persons, world.pixelco.persons):
        for pid, key in zip(persons.pid.tolist(), persons.key.to_pylist(), strict=True):
            people[pid].append(told[f"{persons.source} {key}"])
    return [pair for group in people.values() for pair in combinations(group, 2)]


def test_records_of_one_person_share_mail_or_phone(pairs: list[tuple[Told, Told]]) -> None:
    assert len(pairs) > 400
    shared = [
        (left.email == right.email is not None, left.phone == right.phone is not None)
        for left, right in pairs
    ]
    assert all(by_mail or by_phone for by_mail, by_phone in shared)
    assert sum(by_mail and by_phone for by_mail, by_phone in shared) > 0.75 * len(pairs)


def test_records_of_one_person_differ_in_spelling(pairs: list[tuple[Told, Told]]) -> None:
    assert sum(left.name != right.name for left, right in pairs) > 0.15 * len(pairs)
    assert sum(left.raw_phone != right.raw_phone for left, right in pairs) > 0.4 * len(pairs)
    assert sum(left.email != right.email for left, right in pairs) > 0.02 * len(pairs)


def test_families_share_a_phone_but_not_a_name(made: Callable[..., World]) -> None:
    world = made(scale=0.05, defects=0.0)
    rows = {row["customer_id"]: row for row in world.shop.rows["customers"].table.to_pylist()}
    phones = defaultdict(set)
    for key, told in records(world):
        if key.startswith("shop ") and told.phone:
            phones[told.phone].add(rows[int(key.split()[1])]["first_name"])
    families = [names for names in phones.values() if len(names) > 1]
    assert len(families) > 10
    assert all(len({name[0] for name in names}) == len(names) for names in families)


def test_every_product_is_known_everywhere(made: Callable[..., World]) -> None:
    goods = made().catalogue
    for codes in (goods.sku, goods.ean, goods.material, goods.listing, goods.code, goods.name):
        assert len(set(codes)) == 400
    assert any(ean.startswith("00") for ean in goods.ean)
    for ean in goods.ean:
        weighted = sum(int(digit) * (1, 3)[place % 2] for place, digit in enumerate(ean))
        assert weighted % 10 == 0
