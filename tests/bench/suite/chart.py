"""A chart of speeds as SVG: a bar a contender, a line at the baseline; no library, no network.

It is drawn on white, so that it reads the same on a dark page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from suite.results import Result

_WIDTH, _LEFT, _RIGHT = 820, 300, 110
_BAR, _GAP, _HEAD = 16, 6, 40
_OURS, _BASE, _OTHER = "#1f6f8b", "#9aa5ab", "#d9a441"
_FONT = "font-family='system-ui, sans-serif'"


@dataclass(frozen=True)
class Bar:
    """A bar.

    Attributes:
        name: Whose.
        speed: How many times as fast as the baseline.
        low: In the worst round.
        high: In the best one.
        colour: Its colour.
    """

    name: str
    speed: float
    low: float
    high: float
    colour: str


def chart(results: Sequence[Result]) -> str:
    """The SVG of all results that compare speeds."""
    groups = [(result, bars) for result in results if (bars := _bars(result))]
    height = 60 + sum(_HEAD + len(bars) * (_BAR + _GAP) + 8 for _, bars in groups)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{height}' "
        f"viewBox='0 0 {_WIDTH} {height}' {_FONT} font-size='12'>",
        f"<rect width='{_WIDTH}' height='{height}' fill='#ffffff'/>",
        "<text x='16' y='26' font-size='15' font-weight='600'>Speed by that of the baseline "
        "(grey); longer is faster</text>",
        "<text x='16' y='43' fill='#667'>Thin lines: worst and best round. Each group has a scale "
        "of its own.</text>",
    ]
    top = 60
    for result, bars in groups:
        parts.extend(_group(result, bars, top))
        top += _HEAD + len(bars) * (_BAR + _GAP) + 8
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bars(result: Result) -> list[Bar]:
    bars = []
    for name, figures in result.figures.items():
        speed = figures.whole.speed
        if speed is None:
            continue
        ours = name.startswith("wellspring")
        colour = _BASE if name == result.baseline else _OURS if ours else _OTHER
        bars.append(Bar(name, speed.median, speed.low, speed.high, colour))
    return bars if len(bars) > 1 else []


def _group(result: Result, bars: list[Bar], top: int) -> list[str]:
    room = _WIDTH - _LEFT - _RIGHT
    scale = room / max(1.0, *(bar.high for bar in bars))
    parts = [
        f"<text x='16' y='{top + 24}' font-weight='600'>{escape(result.benchmark)}</text>",
        f"<text x='{_LEFT}' y='{top + 24}' fill='#667'>{escape(result.title)}</text>",
    ]
    line = top + _HEAD - 6
    for bar in bars:
        middle = line + _BAR / 2
        width = max(bar.speed * scale, 1)
        parts += [
            f"<text x='{_LEFT - 8}' y='{line + 12}' text-anchor='end'>{escape(bar.name)}</text>",
            f"<rect x='{_LEFT}' y='{line}' width='{width:.1f}' height='{_BAR}' "
            f"fill='{bar.colour}'/>",
            f"<line x1='{_LEFT + bar.low * scale:.1f}' x2='{_LEFT + bar.high * scale:.1f}' "
            f"y1='{middle}' y2='{middle}' stroke='#223' stroke-width='1'/>",
            f"<text x='{_LEFT + max(bar.high * scale, width) + 6:.1f}' y='{line + 12}'>"
            f"{bar.speed:.2f}</text>",
        ]
        line += _BAR + _GAP
    at = _LEFT + scale
    parts.append(
        f"<line x1='{at:.1f}' x2='{at:.1f}' y1='{top + _HEAD - 8}' y2='{line - 2}' "
        "stroke='#889' stroke-dasharray='3 3'/>"
    )
    return parts
