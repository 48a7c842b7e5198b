"""Plot of test AP against the temporal batch, as an SVG text that is the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

Curve = Mapping[int, float]
"""Test AP by temporal batch."""
WIDTH, HEIGHT, LEFT, TOP, GAP = 900, 280, 46, 66, 18
PLOT_HEIGHT = 160
COLORS = ("#8a8f98", "#d9822b", "#1f6feb")
SHAPES = ("6 4", "2 3", "")
"""Dashes of the lines; the last curve, of the default settings, is solid."""


def accuracy_plot(title: str, streams: Mapping[str, Mapping[str, Curve]]) -> str:
    """Return a panel for each stream with a line for each of at most three methods."""
    names = list(next(iter(streams.values())))
    width = (WIDTH - LEFT - GAP * len(streams)) / len(streams)
    sizes = sorted({size for curves in streams.values() for c in curves.values() for size in c})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="11" fill="#30363d">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#ffffff"/>',
        f'<text x="14" y="22" font-size="14" font-weight="bold">{title}</text>',
    ]
    for number, name in enumerate(names):
        x = 14 + 250 * number
        parts.append(_line([(x, 40), (x + 26, 40)], number) + _dot(x + 13, 40, number))
        parts.append(f'<text x="{x + 32}" y="44">{name}</text>')
    for number, (stream, curves) in enumerate(streams.items()):
        left = LEFT + number * (width + GAP)
        parts += _panel(stream, curves, left, width - 26, sizes)
    middle = f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
    return "\n".join([*parts, f"{middle}events of a temporal batch</text>", "</svg>"]) + "\n"


def _panel(
    stream: str, curves: Mapping[str, Curve], left: float, width: float, sizes: list[int]
) -> list[str]:
    """Return the title, axes and lines of one stream."""
    values = [value for curve in curves.values() for value in curve.values()]
    low, high = math.floor(min(values) * 50) / 50, math.ceil(max(values) * 50) / 50

    def place(size: int, value: float) -> tuple[float, float]:
        across = (math.log(size) - math.log(sizes[0])) / (math.log(sizes[-1]) - math.log(sizes[0]))
        return left + across * width, TOP + 14 + (high - value) / (high - low) * PLOT_HEIGHT

    bottom = TOP + 14 + PLOT_HEIGHT
    parts = [f'<text x="{left:.1f}" y="{TOP}" font-weight="bold">{stream}</text>']
    for value in (low, (low + high) / 2, high):
        y = place(sizes[0], value)[1]
        parts.append(
            f'<path d="M{left:.1f} {y:.1f}h{width:.1f}" stroke="#d0d7de"/>'
            f'<text x="{left - 4:.1f}" y="{y + 4:.1f}" text-anchor="end" font-size="10">'
            f"{value:.2f}</text>"
        )
    for size in sizes:
        x = place(size, low)[0]
        label = f"{size / 1000:g}k" if size >= 1000 else str(size)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{label}</text>')
    for number, curve in enumerate(curves.values()):
        points = [place(size, curve[size]) for size in sorted(curve)]
        parts.append(_line(points, number))
        parts += [_dot(x, y, number) for x, y in points]
    return parts


def _line(points: list[tuple[float, float]], number: int) -> str:
    path = "".join(f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" for (a, b), (c, d) in pairwise(points))
    dashes = f' stroke-dasharray="{SHAPES[number]}"' if SHAPES[number] else ""
    return f'<path d="{path}" stroke="{COLORS[number]}" stroke-width="2"{dashes}/>' if path else ""


def _dot(x: float, y: float, number: int) -> str:
    radius = 5 if number == len(COLORS) - 1 else 3
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{COLORS[number]}"/>'
