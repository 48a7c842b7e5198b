"""Bytes and seconds as a reader wants them."""

from __future__ import annotations

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
_TIMES = ((86_400.0, "days"), (3600.0, "h"), (60.0, "min"))
"""Units of time, each from three of its own size on."""


def quantity(value: float, unit: str) -> str:
    """A number with a decimal prefix, e.g. 2.45 TB."""
    number = 0
    while abs(value) >= 999.5 and number < len(_PREFIXES) - 1:
        value, number = value / 1000, number + 1
    digits = f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"
    return f"{digits} {_PREFIXES[number]}{unit}"


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them, e.g. 12.3 ms, 4.56 s, 7.1 h, 3.2 days."""
    for size, unit in _TIMES:
        if seconds >= 3 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def price(value: float) -> str:
    """An amount of money of a currency that nobody has named, e.g. 1,234.50 or 0.0123."""
    return f"{value:,.2f}" if value >= 1 else f"{value:.3g}"
