#!/usr/bin/env python3
"""Draws docs/performance-growth.svg: what one call costs as the number of things grows.

    tests/bench/run.sh growth gate_tick > figures.jsonl
    tests/bench/growth_picture.py < figures.jsonl > docs/performance-growth.svg

Standard input: figures as run.sh prints them; those of other parts are left out.
"""

import json
import math
import re
import sys
from dataclasses import dataclass

# Figures named PREFIX_N are the points of a curve, over so many of the things named.
MIGRATIONS, INSTANCES, KEYS = "migrations", "instances", "pinned keys"
CURVES = [
    ("growth_publish", "publish, store in memory", MIGRATIONS),
    ("gate_tick_check", "one check in a tick of the gate", MIGRATIONS),
    ("growth_remote_route", "unary decision at the server, without gRPC", MIGRATIONS),
    ("growth_route_by_handle", "Route() in process, by handle", MIGRATIONS),
    ("growth_acknowledge", "acknowledgement, a publish waiting", INSTANCES),
    ("growth_heartbeat", "heartbeat", INSTANCES),
    ("growth_decide_pinned", "Decide()", KEYS),
]
COLORS = {MIGRATIONS: "#2c6fbb", INSTANCES: "#c0392b", KEYS: "#1a7f5a"}
LEFT, TOP, DECADE_WIDTH, HEIGHT, BOTTOM, LABELS = 62, 52, 104, 400, 48, 310
LABEL_GAP = 31


@dataclass
class Curve:
    label: str
    over: str
    points: list  # (n, nanoseconds)

    @property
    def color(self):
        return COLORS[self.over]


def read_curves(lines):
    figures = [json.loads(line) for line in lines if line.strip()]
    curves = []
    for prefix, label, over in CURVES:
        points = sorted((int(match.group(1)), figure["value"])
                        for figure in figures if (match := re.fullmatch(prefix + r"_(\d+)", figure["bench"])))
        if points:
            curves.append(Curve(label, over, points))
    return curves


def in_words(nanoseconds):
    for unit, scale in (("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= scale:
            return f"{float(f'{nanoseconds / scale:.2g}'):g} {unit}"
    return f"{float(f'{nanoseconds:.2g}'):g} ns"


def text(x, y, words, anchor="start", color="#444", size=12):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}">{words}</text>'


def spread(wanted, lowest):
    """Moves labels apart that would cover each other, as little as that takes, none below `lowest`."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    for before, after in zip(order, order[1:]):
        placed[after] = max(placed[after], placed[before] + LABEL_GAP)
    limit = lowest
    for i in reversed(order):
        placed[i] = min(placed[i], limit)
        limit = placed[i] - LABEL_GAP
    return placed


class Chart:
    def __init__(self, curves):
        values = [value for curve in curves for _, value in curve.points]
        # Half decades around all points.
        self.low = math.floor(2 * math.log10(min(values)) - 0.4) / 2
        self.high = math.ceil(2 * math.log10(max(values)) + 0.4) / 2
        self.decades = max(round(math.log10(curve.points[-1][0])) for curve in curves)
        self.right = LEFT + DECADE_WIDTH * self.decades
        self.curves = curves

    def x(self, n):
        return LEFT + DECADE_WIDTH * math.log10(n)

    def y(self, nanoseconds):
        return TOP + HEIGHT * (self.high - math.log10(nanoseconds)) / (self.high - self.low)

    def grid(self):
        for power in range(math.ceil(self.low), math.floor(self.high) + 1):
            y = self.y(10 ** power)
            yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{self.right}" y2="{y:.1f}" stroke="#e4e4e4"/>'
            yield text(LEFT - 8, y + 4, in_words(10 ** power), "end")
        for power in range(self.decades + 1):
            x = self.x(10 ** power)
            yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{TOP + HEIGHT}" stroke="#eeeeee"/>'
            yield text(x, TOP + HEIGHT + 17, f"{10 ** power:,}", "middle")
        middle = (LEFT + self.right) / 2
        yield text(middle, TOP + HEIGHT + 38, "how many there are of what the color names", "middle")

    def lines(self):
        ends = [self.y(curve.points[-1][1]) for curve in self.curves]
        for curve, end, label in zip(self.curves, ends, spread(ends, TOP + HEIGHT - 12)):
            at = [(self.x(n), self.y(value)) for n, value in curve.points]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
            yield f'<polyline points="{path}" fill="none" stroke="{curve.color}" stroke-width="2"/>'
            for x, y in at:
                yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{curve.color}"/>'
            yield (f'<path d="M{at[-1][0] + 5:.1f},{end:.1f} L{self.right + 6},{end:.1f} L{self.right + 20},{label:.1f}"'
                   f' fill="none" stroke="{curve.color}" stroke-width="0.7" stroke-dasharray="2 2"/>')
            first, last = curve.points[0][1], curve.points[-1][1]
            yield text(self.right + 25, label, curve.label, color=curve.color, size=13)
            yield text(self.right + 25, label + 13, f"{in_words(first)} with 1, {in_words(last)} with "
                       f"{curve.points[-1][0]:,} {curve.over}", size=11)

    def draw(self):
        width, height = self.right + LABELS, TOP + HEIGHT + BOTTOM
        x = LEFT
        legend = []
        for over, color in COLORS.items():
            legend.append(text(x, 40, f"● {over}", color=color))
            x += 100
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
            "<title>What one call costs as migrations, instances and pinned keys grow</title>",
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            text(LEFT, 20, "CPU time of one call (both axes logarithmic)", color="#222", size=15),
            *legend, *self.grid(), *self.lines(), "</svg>"])


def main():
    curves = read_curves(sys.stdin)
    if not curves:
        print("growth_picture.py: no figures of the parts growth and gate_tick on standard input", file=sys.stderr)
        return 1
    print(Chart(curves).draw())
    return 0


if __name__ == "__main__":
    sys.exit(main())
