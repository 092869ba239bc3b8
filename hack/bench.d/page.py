"""The figures of hack/bench --json as Markdown tables: page.py JSON [PAGE]. Started by hack/bench --table."""

import json
import sys

import bars
from bars import JOBS, OURS

BEGIN, END = "<!-- figures: written by hack/bench --table -->", "<!-- end of figures -->"
PROGRAMS = [OURS, "static crun", "crun", "runc", "floor"]


def row(cells):
    return "| " + " | ".join(cells) + " |"


def cell(found, other):
    """A median and our share of it."""
    if found is None:
        return "-"
    return f"{found['median_ms']:.2f}" + (f" ({other / found['median_ms']:.2f})" if other else "")


def medians(document, programs):
    """Rows of median times."""
    yield row(["median, ms (share that emergence-runc takes)", *programs])
    yield "|---" * (len(programs) + 1) + "|"
    for job, label in JOBS.items():
        times = document["phases"].get(job)
        if times:
            ours = times[OURS]["median_ms"]
            yield row([label, *(cell(times.get(name), None if name == OURS else ours) for name in programs)])
    extra = {name: bars.added(document, name) for name in programs}
    if extra[OURS] is not None:
        yield row(["added by that profile, processor time", *(f"{more:.2f}" if more is not None else "-" for more in extra.values())])


def sizes(document, programs):
    """Rows of memory and system calls."""
    yield row(["memory and calls", *programs])
    yield "|---" * (len(programs) + 1) + "|"
    for job in ("run", "create", "exec"):
        peaks = [document["phases"].get(job, {}).get(name, {}).get("peak_memory_kib", "-") for name in programs]
        yield row([f"peak memory of {job}, KiB", *map(str, peaks)])
    for key, label in (("private_kib", "private"), ("shared_kib", "shared"), ("memfd_kib", "of both, from a memfd")):
        found = [document["waiting"].get(name, {}).get(key, "-") for name in programs]
        yield row([f"first process of a created container: {label}, KiB", *map(str, found)])
    yield row(["system calls of run", *(str(document["system_calls"].get(name, "-")) for name in programs)])


def verdicts(document):
    yield row(["bar", "figure", "measured", "at most", "verdict"])
    yield "|---|---|---|---|---|"
    for cells in bars.rows(document):
        yield row(cells)


def markdown(document):
    """All tables and the machine that they were measured on."""
    found = document["machine"]
    programs = [name for name in PROGRAMS if any(name in times for times in document["phases"].values())]
    lines = [
        f"- Machine: {found['processors']} processors ({found['processor']}), Linux {found['kernel']}, load {found['load']} at the start.",
        f"- State directories on {found['state']}, bundles on {found['bundle']}, "
        f"{'with' if found['device_rules'] else 'without'} device rules.",
        f"- {document['rounds']} rounds of {document['runs']} runs.",
        *(f"- {name}: {version}." for name, version in document["programs"].items()),
        "",
        *medians(document, programs),
        "",
        *sizes(document, programs),
        "",
        *verdicts(document),
    ]
    return "\n".join(lines)


def replace(page, text):
    """Puts the text between the marks of a page."""
    with open(page) as file:
        before, mark, rest = file.read().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"{page}: the lines {BEGIN} and {END} are missing")
    with open(page, "w") as file:
        file.write(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main():
    with open(sys.argv[1]) as file:
        text = markdown(json.load(file))
    if len(sys.argv) > 2:
        replace(sys.argv[2], text)
    else:
        print(text)


if __name__ == "__main__":
    main()
