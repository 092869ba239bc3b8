"""Draws the medians that hack/bench wrote as JSON: chart.py JSON SVG. Started by hack/bench --chart."""

import json
import sys

PROGRAMS = {"emergence-runc": "#2563eb", "crun": "#9ca3af", "runc": "#d1d5db"}
JOBS = {
    "run": "run /bin/true",
    "create": "create",
    "start": "start",
    "exec": "exec /bin/true",
    "state": "state",
    "delete": "delete --force",
    "seccomp": "run with Docker's seccomp profile",
}
WIDTH, LABELS, NUMBERS = 760, 220, 60
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
    jobs = [job for job in JOBS if job in phases]
    most = max(phases[job][name]["median_ms"] for job in jobs for name in PROGRAMS)
    parts, y = legend(), TOP
    for job in jobs:
        middle = y + len(PROGRAMS) * BAR / 2 + 4
        parts.append(f'<text x="{LABELS - 10}" y="{middle:.0f}" text-anchor="end">{JOBS[job]}</text>')
        for name, color in PROGRAMS.items():
            parts += bar(y, phases[job][name]["median_ms"], most, color)
            y += BAR
        y += GAP
    body = "\n".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}">
<style>
text {{ font: 12px sans-serif; fill: #1f2937 }}
.title {{ font-weight: bold; font-size: 14px }}
.number {{ font-size: 10px; fill: #4b5563 }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #e5e7eb }} .number {{ fill: #9ca3af }} }}
</style>
<text x="{LABELS}" y="20" class="title">Median time in milliseconds; shorter is better</text>
{body}
</svg>
"""


def main():
    source, target = sys.argv[1:]
    with open(source) as file:
        phases = json.load(file)["phases"]
    with open(target, "w") as file:
        file.write(draw(phases))


main()
