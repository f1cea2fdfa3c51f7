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

# Figures named PREFIX_N are the points of a curve.
PANELS = [
    ("migrations", [
        ("growth_publish", "a publish, store in memory", "#8e5ea2"),
        ("gate_tick_check", "one check in a tick of the gate", "#c0392b"),
        ("growth_remote_route", "a unary decision, at the server", "#2c6fbb"),
        ("growth_route_by_handle", "Route() in process, by handle", "#1a7f5a"),
    ]),
    ("enrolled instances", [
        ("growth_acknowledge", "an acknowledgement, a publish waiting", "#8e5ea2"),
        ("growth_heartbeat", "a heartbeat", "#2c6fbb"),
    ]),
    ("pinned keys", [("growth_decide_pinned", "Decide()", "#1a7f5a")]),
]
TOP, HEIGHT, LEFT, GAP, BOTTOM = 62, 380, 62, 22, 44
DECADE = 74  # so many pixels for each power of ten, so that the slopes of the panels compare
LABEL_GAP = 30


@dataclass
class Curve:
    label: str
    color: str
    points: list  # (n, nanoseconds)


def read_curves(lines):
    figures = [json.loads(line) for line in lines if line.strip()]
    panels = []
    for title, curves in PANELS:
        drawn = []
        for prefix, label, color in curves:
            points = sorted((int(match.group(1)), figure["value"])
                            for figure in figures
                            if (match := re.fullmatch(prefix + r"_(\d+)", figure["bench"])))
            if points:
                drawn.append(Curve(label, color, points))
        if drawn:
            panels.append((title, drawn))
    return panels


def in_words(nanoseconds):
    for unit, scale in (("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= scale:
            return f"{nanoseconds / scale:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"


def text(x, y, words, anchor="start", color="#444", cls=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}"{cls and f" class={cls!r}"}>{words}</text>'


class Scale:
    """The same vertical scale for all panels: whole powers of ten around all points."""

    def __init__(self, panels):
        values = [value for _, curves in panels for curve in curves for _, value in curve.points]
        self.low, self.high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def y(self, nanoseconds):
        return TOP + HEIGHT * (self.high - math.log10(nanoseconds)) / (self.high - self.low)


def spread(wanted):
    """Moves labels apart that would cover each other, as little as that takes; in their order from the top."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    for before, after in zip(order, order[1:]):
        placed[after] = max(placed[after], placed[before] + LABEL_GAP)
    return placed


def draw_panel(title, curves, left, scale, with_values):
    decades = max(len(str(curve.points[-1][0])) - 1 for curve in curves)
    right = left + DECADE * decades
    out = [text((left + right) / 2, TOP - 16, title, "middle", "#222", "title")]
    for power in range(scale.low, scale.high + 1):
        y = scale.y(10 ** power)
        out.append(f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#e4e4e4"/>')
        if with_values:
            out.append(text(left - 8, y + 4, in_words(10 ** power), "end"))
    for power in range(decades + 1):
        x = left + DECADE * power
        out.append(f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{TOP + HEIGHT}" stroke="#f0f0f0"/>')
        out.append(text(x, TOP + HEIGHT + 17, f"{10 ** power:,}", "middle"))
    labels = spread([scale.y(curve.points[-1][1]) for curve in curves])
    for curve, label_y in zip(curves, labels):
        at = [(left + DECADE * math.log10(n), scale.y(value)) for n, value in curve.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        out.append(f'<polyline points="{path}" fill="none" stroke="{curve.color}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{curve.color}"/>' for x, y in at]
        first, last = curve.points[0][1], curve.points[-1][1]
        out.append(text(right + 9, label_y - 2, curve.label, color=curve.color))
        out.append(text(right + 9, label_y + 11, f"{in_words(first)} to {in_words(last)}", cls="small"))
    return right, out


def draw(panels):
    scale = Scale(panels)
    out, left = [], LEFT
    for i, (title, curves) in enumerate(panels):
        right, lines = draw_panel(title, curves, left, scale, i == 0)
        out += lines
        left = right + GAP + 9 + max(6.4 * len(curve.label) for curve in curves)
    height = TOP + HEIGHT + BOTTOM
    width = math.ceil(left)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        "<title>What one call costs as migrations, instances and pinned keys grow</title>",
        "<style>.title{font-size:14px;font-weight:bold}.small{font-size:11px}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        text(LEFT, 22, "CPU time of one call; both axes are logarithmic", color="#222"),
        *out, "</svg>"])


def main():
    panels = read_curves(sys.stdin)
    if not panels:
        print("growth_picture.py: no figures of the parts growth and gate_tick on standard input", file=sys.stderr)
        return 1
    print(draw(panels))
    return 0


if __name__ == "__main__":
    sys.exit(main())
