"""Draws the medians that hack/bench wrote as JSON: chart.py JSON SVG. Started by hack/bench --chart."""

import json
import sys

from bars import JOBS

PROGRAMS = {"emergence-runc": "#2563eb", "crun": "#9ca3af", "runc": "#d1d5db"}
DRAWN = ["run", "cycle", "create", "start", "exec", "state", "delete", "seccomp", "list100"]
WIDTH, LABELS, NUMBERS = 760, 230, 60
BAR, GAP, TOP = 13, 12, 58


def bar(y, milliseconds, most, color):
    width = milliseconds / most * (WIDTH - LABELS - NUMBERS)
    return [
        f'<rect x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR - 2}" rx="2" fill="{color}"/>',
        f'<text x="{LABELS + width + 5:.1f}" y="{y + 10}" class="number">{milliseconds:.1f}</text>',
    ]


def legend():
    parts, x = [], LABELS
    for name, color in PROGRAMS.items():
        parts.append(f'<rect x="{x}" y="34" width="11" height="11" rx="2" fill="{color}"/>')
        parts.append(f'<text x="{x + 16}" y="44">{name}</text>')
        x += 40 + 8 * len(name)
    return parts


def draw(phases):
    jobs = [job for job in DRAWN if job in phases]
    most = max(phases[job][name]["median_ms"] for job in jobs for name in PROGRAMS)
    parts, y = legend(), TOP
    for job in jobs:
        middle = y + len(PROGRAMS) * BAR / 2 + 4
        parts.append(f'<text x="{LABELS - 10}" y="{middle:.0f}" text-anchor="end">{JOBS[job]}</text>')
        for name, color in PROGRAMS.items():
            parts += bar(y, phases[job][name]["median_ms"], most, color)
            y += BAR
        y += GAP
    return picture(WIDTH, y, "Median time in milliseconds; shorter is better", parts)


def picture(width, height, title, parts):
    body = "\n".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">
<style>
text {{ font: 12px sans-serif; fill: #1f2937 }}
.title {{ font-weight: bold; font-size: 14px }}
.number {{ font-size: 10px; fill: #4b5563 }}
.axis {{ stroke: #9ca3af; stroke-width: 1; fill: none }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #e5e7eb }} .number {{ fill: #9ca3af }} }}
</style>
<text x="{LABELS}" y="20" class="title">{title}</text>
{body}
</svg>
"""


PANEL, HIGH, LEFT, ABOVE, COLUMNS = 250, 190, 24, 36, 3  # of one curve, in pixels


def line(points, color):
    """A polyline with its points marked."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return [
        f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>' for x, y in points),
    ]


def panel(curve, left, top):
    """One curve: both axes begin at zero."""
    points = curve["points"]
    names = [name for name in PROGRAMS if name in points[0]]
    most = max(point[name]["median_ms"] for point in points for name in names if point[name])  # None: it failed
    last = points[-1]["size"]
    width, height = PANEL - LEFT - 16, HIGH - ABOVE - 34
    x0, y0 = left + LEFT, top + ABOVE + height
    parts = [
        f'<text x="{x0}" y="{top + 20}">{curve["title"]}</text>',
        f'<path d="M{x0},{y0 - height} V{y0} H{x0 + width}" class="axis"/>',
        f'<text x="{x0 - 5}" y="{y0}" text-anchor="end" class="number">0</text>',
        f'<text x="{x0 + 4}" y="{y0 - height + 2}" class="number">{most:.3g} ms</text>',
        f'<text x="{x0}" y="{y0 + 14}" class="number">0</text>',
        f'<text x="{x0 + width}" y="{y0 + 14}" text-anchor="end" class="number">{last}</text>',
    ]
    for name in reversed(names):
        drawn = [
            (x0 + point["size"] / last * width, y0 - point[name]["median_ms"] / most * height) for point in points if point[name]
        ]
        parts += line(drawn, PROGRAMS[name])
    return parts


def curves(found):
    """Small pictures of all curves."""
    rows = -(-len(found) // COLUMNS)
    parts = legend()[:4]  # runc has no curves
    for number, curve in enumerate(found.values()):
        parts += panel(curve, number % COLUMNS * PANEL, 50 + number // COLUMNS * HIGH)
    return picture(PANEL * COLUMNS, 50 + rows * HIGH, "Median time against input size", parts)


def main():
    source, target = sys.argv[1:]
    with open(source) as file:
        document = json.load(file)
    with open(target, "w") as file:
        file.write(curves(document["curves"]) if "curves" in document else draw(document["phases"]))


if __name__ == "__main__":
    main()
