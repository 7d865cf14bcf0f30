"""The catalogue: 400 products, the same for any seed, and their prices over time.

series and kinds ─> name, category, list price ─> SKU, EAN and the code in each system; price of a
day = a step function
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anycompany.draws import Draws, Ints

COUNT = 400
CATEGORIES = ["Consoles", "Games", "Accessories", "Merchandise", "Services"]
_SHORT = ["CON", "GAM", "ACC", "MER", "SRV"]
_SIZES = [32, 168, 112, 64, 24]
ERP_GROUPS = ["KONS", "SPIEL", "ZUB", "MERCH", "SERV"]
FAMILIES = ["consolas", "juegos", "accesorios", "mercancia", "servicios"]
LISTING_CATEGORIES = ["consoles", "games", "accessories", "merchandise", "services"]

_SERIES = ["Orbit", "Nimbus", "Vanta", "Helix", "Pocket", "Aurora", "Titan", "Echo"]
_CONSOLES = ["Standard", "Digital Edition", "Pro 1TB", "Anniversary Bundle"]
_WORLDS = [
    "Ember",
    "Frost",
    "Iron",
    "Neon",
    "Lunar",
    "Crystal",
    "Shadow",
    "Solar",
    "Velvet",
    "Storm",
    "Hollow",
    "Golden",
    "Silent",
    "Crimson",
    "Azure",
    "Wild",
    "Lost",
    "Pixel",
    "Phantom",
    "Copper",
    "Winter",
]
_DEEDS = ["Racers", "Legends", "Harbour", "Odyssey", "Tactics", "Gardens", "Arena", "Chronicles"]
_PARTS = [
    "Wireless Controller",
    "Charging Dock",
    "Headset",
    "Carrying Case",
    "Memory Card 512GB",
    "Racing Wheel",
    "Arcade Stick",
    "Camera",
    "Stand",
    "Power Adapter",
    "Thumb Grips",
    "Screen Protector",
    "Remote",
    "Link Cable",
]
_GOODS = ["T-Shirt", "Mug", "Poster", "Figurine", "Hoodie", "Cap", "Backpack", "Key Ring"]
_PLANS = ["Online 1 Month", "Online 12 Months", "Extended Warranty"]
_SPANISH = {
    "Standard": "Estándar",
    "Digital Edition": "Edición Digital",
    "Anniversary Bundle": "Paquete Aniversario",
    "Wireless Controller": "Mando Inalámbrico",
    "Charging Dock": "Base de Carga",
    "Headset": "Auriculares",
    "Carrying Case": "Estuche",
    "Memory Card": "Tarjeta de Memoria",
    "Racing Wheel": "Volante",
    "Camera": "Cámara",
    "Power Adapter": "Adaptador",
    "T-Shirt": "Camiseta",
    "Mug": "Taza",
    "Poster": "Póster",
    "Figurine": "Figura",
    "Hoodie": "Sudadera",
    "Cap": "Gorra",
    "Backpack": "Mochila",
    "Key Ring": "Llavero",
    "Months": "Meses",
    "Month": "Mes",
    "Extended Warranty": "Garantía Extendida",
    "Console": "Consola",
    "Game": "Juego",
}
_RANGES = [(24_900, 69_900), (1_499, 7_999), (799, 17_999), (599, 8_999), (499, 14_900)]
# The distributor took these into its range before they had an article number.
WITHOUT_EAN = (11, 58, 97, 203, 240, 311, 366)
_PRICE_PERIOD = 170
_FIXED_SEED = 20250101


@dataclass(frozen=True)
class Catalogue:
    """All products, by index 0..399.

    Attributes:
        name: English name.
        category: Index into `CATEGORIES`.
        sku: The product number, also the shop's SKU.
        ean: 13 digits with a valid check digit.
        base_price: List price in US cents before any change.
        material: The ERP's number.
        listing: The marketplace's listing id.
        code: The distributor's code.
        spanish: The distributor's title.
    """

    name: list[str]
    category: Ints
    sku: list[str]
    ean: list[str]
    base_price: Ints
    material: list[str]
    listing: list[str]
    code: list[str]
    spanish: list[str]


def _names() -> list[str]:
    consoles = [f"{series} {kind}" for series in _SERIES for kind in _CONSOLES]
    games = [f"{world} {deed}" for world in _WORLDS for deed in _DEEDS]
    parts = [f"{series} {part}" for series in _SERIES for part in _PARTS]
    goods = [f"{series} {item}" for series in _SERIES for item in _GOODS]
    plans = [f"{series} {plan}" for series in _SERIES for plan in _PLANS]
    return consoles + games + parts + goods + plans


def _ean(position: int) -> str:
    # A third of them start with 00, so that a system that stores numbers loses digits.
    body = ("0071" if position % 3 == 0 else "4006") + f"{position * 7919 + 10_000:08d}"
    weighted = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(body))
    return body + str(-weighted % 10)


def _listing(position: int) -> str:
    letters = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"
    rest, text = position * 104_729 + 5_000_011, ""
    for _ in range(8):
        rest, digit = divmod(rest, len(letters))
        text = letters[digit] + text
    return "B0" + text


def _in_spanish(name: str) -> str:
    for english, spanish in _SPANISH.items():
        name = name.replace(english, spanish)
    return name


def catalogue() -> Catalogue:
    """Returns the 400 products."""
    name = _names()
    category = np.repeat(np.arange(5), _SIZES)
    within = np.concatenate([np.arange(size) for size in _SIZES])
    low = np.array([span[0] for span in _RANGES])[category]
    high = np.array([span[1] for span in _RANGES])[category]
    share = Draws(_FIXED_SEED).unit("price", np.arange(COUNT)) ** 1.5
    price = (low + share * (high - low)).astype(np.int64) // 100 * 100 + 99
    return Catalogue(
        name=name,
        category=category,
        sku=[
            f"AC-{_SHORT[kind]}-{place + 1:04d}"
            for kind, place in zip(category, within, strict=True)
        ],
        ean=[_ean(position) for position in range(COUNT)],
        base_price=price,
        material=[f"{100_000 + position * 7:018d}" for position in range(COUNT)],
        listing=[_listing(position) for position in range(COUNT)],
        code=[f"LAT-{position + 1:04d}" for position in range(COUNT)],
        spanish=[_in_spanish(text) for text in name],
    )


class Prices:
    """List prices over time: each product's price changes every 170 days, on its own day."""

    def __init__(self, draws: Draws, base: Ints) -> None:
        self._draws = draws
        self._base = base

    def epoch(self, product: Ints, day: Ints) -> Ints:
        """Returns the number of price changes of each product up to each day."""
        return (day + product * 37 % _PRICE_PERIOD) // _PRICE_PERIOD

    def changed_on(self, product: Ints, day: Ints) -> Ints:
        """Returns the day of the last change up to each day (negative: before the history)."""
        return self.epoch(product, day) * _PRICE_PERIOD - product * 37 % _PRICE_PERIOD

    def us_cents(self, product: Ints, day: Ints) -> Ints:
        """Returns the list price of each product on each day, in US cents."""
        factor = 92 + self._draws.below(
            "price.change", product * 1000 + self.epoch(product, day), 17
        )
        return self._base[product] * factor // 100
