"""Format bytes, seconds and prices for people."""

from __future__ import annotations

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
_TIMES = ((86_400.0, "days"), (3600.0, "h"), (60.0, "min"))
"""Units of time; each is used for values of at least three units."""


def quantity(value: float, unit: str) -> str:
    """Format a number with a decimal prefix, e.g. 2.45 TB."""
    number = 0
    while abs(value) >= 999.5 and number < len(_PREFIXES) - 1:
        value, number = value / 1000, number + 1
    digits = f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"
    return f"{digits} {_PREFIXES[number]}{unit}"


def duration(seconds: float) -> str:
    """Format seconds in a suitable unit, e.g. 12.3 ms, 4.56 s, 7.1 h, 3.2 days."""
    for size, unit in _TIMES:
        if seconds >= 3 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def price(value: float) -> str:
    """Format an amount of money without a currency, e.g. 1,234.50 or 0.0123."""
    return f"{value:,.2f}" if value >= 1 else f"{value:.3g}"
