"""One state of the company: its settings, its day, and what all systems share.

seed, scale, defects, day ─> people, products, rates, arrivals ─> systems (each built once, on
demand)

A world is a pure function of these four; nothing here touches a disk or a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from anycompany import days, money, products
from anycompany.defects import DefectLog, Spoiler
from anycompany.draws import Draws, Ints
from anycompany.people import ERP, MARKETPLACE, SHOP, People

if TYPE_CHECKING:
    from anycompany.systems.card_payments import CardPayments
    from anycompany.systems.devices import Devices
    from anycompany.systems.distributor import Distributor
    from anycompany.systems.documents import Documents
    from anycompany.systems.erp import Erp
    from anycompany.systems.game import Game
    from anycompany.systems.helpdesk import Helpdesk
    from anycompany.systems.marketplace import Marketplace
    from anycompany.systems.pixelco import Pixelco
    from anycompany.systems.shop import Shop
    from anycompany.systems.web import Web


@dataclass(frozen=True)
class Settings:
    """What a company is made from.

    Attributes:
        seed: Of all draws.
        scale: 1 is about a million raw rows.
        defects: Share of rows that are spoilt, 0..1.
    """

    seed: int = 1
    scale: float = 1.0
    defects: float = 0.004


class World:
    """The company at the end of one day.

    Args:
        settings: Seed, scale and share of defects.
        day: Day number, `days.FIRST_STATE` at first.
    """

    def __init__(self, settings: Settings, day: int) -> None:
        self.settings = settings
        self.day = day
        self.cut = int(days.start_of(day + 1))
        self.draws = Draws(settings.seed)
        self.log = DefectLog()
        self.spoiler = Spoiler(self.draws, settings.defects)
        self.people = People(self.draws)
        self.catalogue = products.catalogue()
        self.prices = products.Prices(self.draws, self.catalogue.base_price)

    @cached_property
    def rates(self) -> Ints:
        """Exchange rates, see `money.rates`."""
        return money.rates(self.draws)

    def arrivals(
        self, name: str, total: float, *, before: float = 0.0, even: bool = False
    ) -> days.Arrivals:
        """Plans arrivals of one kind at this world's scale, see `days.arrivals`."""
        return days.arrivals(
            self.draws, name, total * self.settings.scale, before=before, even=even
        )

    def pick_product(self, name: str, ids: Ints) -> Ints:
        """Returns a product index for each id; a few products sell much better than most."""
        rank = (self.draws.unit(name, ids) ** 1.8 * products.COUNT).astype(np.int64)
        return rank * 149 % products.COUNT

    @cached_property
    def shop(self) -> Shop:
        """The shop's rows."""
        from anycompany.systems import shop

        return shop.build(self)

    @cached_property
    def erp(self) -> Erp:
        """The ERP's rows."""
        from anycompany.systems import erp

        return erp.build(self)

    @cached_property
    def marketplace(self) -> Marketplace:
        """The marketplace's rows."""
        from anycompany.systems import marketplace

        return marketplace.build(self)

    @cached_property
    def distributor(self) -> Distributor:
        """The distributor's rows."""
        from anycompany.systems import distributor

        return distributor.build(self)

    @cached_property
    def helpdesk(self) -> Helpdesk:
        """The help desk's rows."""
        from anycompany.systems import helpdesk

        return helpdesk.build(self)

    @cached_property
    def pixelco(self) -> Pixelco:
        """PixelCo's rows."""
        from anycompany.systems import pixelco

        return pixelco.build(self)

    @cached_property
    def devices(self) -> Devices:
        """The devices' registry and messages."""
        from anycompany.systems import devices

        return devices.build(self)

    @cached_property
    def card_payments(self) -> CardPayments:
        """The messages on card payments."""
        from anycompany.systems import card_payments

        return card_payments.build(self)

    @cached_property
    def web(self) -> Web:
        """The web site's events."""
        from anycompany.systems import web

        return web.build(self)

    @cached_property
    def game(self) -> Game:
        """The game's messages."""
        from anycompany.systems import game

        return game.build(self)

    @cached_property
    def documents(self) -> Documents:
        """Calls and mails."""
        from anycompany.systems import documents

        return documents.build(self)


def person_of_shop(customer: Ints) -> Ints:
    """Returns the person number of each customer of the shop (counted from 0)."""
    return customer * 4 + SHOP


def person_of_erp(draws: Draws, customer: Ints) -> Ints:
    """Returns the person number of each ERP customer (from 0); some are customers of the shop."""
    shared = draws.chance("erp.shared", customer, 0.1)
    return np.where(shared, person_of_shop(customer * 5 // 3), customer * 4 + ERP)


def person_of_marketplace(draws: Draws, buyer: Ints) -> Ints:
    """Returns the person number of each buyer (from 0); the shop or the ERP knows some."""
    way = draws.weighted("marketplace.shared", buyer, [0.86, 0.08, 0.06])
    own = buyer * 4 + MARKETPLACE
    return np.where(
        way == 1,
        person_of_shop(buyer * 2),
        np.where(way == 2, person_of_erp(draws, buyer * 6 // 5), own),
    )
