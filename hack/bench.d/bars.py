"""The bars of hack/bench in one table, and how they are judged."""

# figure, job or object, bar, current value. Lower is better for all. hack/bench --check compares with the bar or with the current value
# of the program where that is still higher: lower it with each change that lowers the value, and never raise it without a reason.
BARS = [
    ("of floor", "run", 1.30, 1.7),  # median time, as a share of the floor program's
    ("of crun", "run", 0.48, 0.54),  # the same, of crun as a distribution builds it
    ("of static crun", "run", 0.70, None),  # the same, of a crun linked statically (--static-crun)
    ("of crun", "cycle", 0.28, 0.34),
    ("of crun", "parallel", 0.40, None),
    ("of crun", "exec", 0.35, 0.42),
    ("of static crun", "list100", 0.5, None),
    ("of static crun", "list1000", 0.5, None),
    ("added ms", "seccomp", 0.3, None),  # processor time, since others' work would hide a tenth of a millisecond
    ("ms", "start", 0.4, None),
    ("ms", "delete", 0.4, None),
    ("ms", "state", 0.4, None),
    ("peak KiB", "run", 1400, 2616),  # pages of the file that the kernel maps around a fault count: it differs between machines
    ("peak KiB", "create", 1400, 2616),
    ("peak KiB", "exec", 1400, 3252),
    ("private KiB", "waiting", 48, 68),  # of the first process of a created container
    ("system calls", "run", 260, None),  # not in --check: tests/main/calls.rs counts them
    ("bytes", "program", 7_000_000, 9_730_160),
    ("bytes", "without emergence", 3_000_000, None),
]
OURS = "emergence-runc"
PLAIN = " unfiltered"  # after a program's name: the same without the seccomp profile
JOBS = {
    "run": "run /bin/true",
    "cycle": "create + start + delete",
    "create": "create",
    "start": "start",
    "exec": "exec /bin/true",
    "state": "state",
    "delete": "delete --force",
    "seccomp": "run with Docker's seccomp profile",
    "list100": "list of 100 containers",
    "list1000": "list of 1000 containers",
    "parallel": "200 × create + start + delete, four at a time",
}
OBJECTS = {"waiting": "first process of a created container", "program": "program file", "without emergence": "program without `emergence`"}
TOLERATED = {"of floor": 1.5, "of crun": 1.5, "of static crun": 1.5, "peak KiB": 1.1, "private KiB": 1.1, "bytes": 1.1}  # by --check


def share(document, job, other, clock):
    """Our time as a share of another program's, or None if either was not measured."""
    times = document["phases"].get(job, {})
    return times[OURS][clock] / times[other][clock] if OURS in times and other in times else None


def added(document, name):
    """Processor time in ms that the seccomp profile adds to a run of a program, or None."""
    times = document["phases"].get("seccomp", {})
    return times[name]["cpu_ms"] - times[name + PLAIN]["cpu_ms"] if name in times and name + PLAIN in times else None


def value(document, figure, job, clock="median_ms"):
    """The measured value for a bar, or None if it was not measured."""
    if figure.startswith("of "):
        return share(document, job, {"of floor": "floor", "of crun": "crun", "of static crun": "static crun"}[figure], clock)
    if figure == "added ms":
        return added(document, OURS)
    if figure == "private KiB":
        return document["waiting"].get(OURS, {}).get("private_kib")
    if figure == "system calls":
        return document["system_calls"].get(OURS)
    if figure == "bytes":
        return document["bytes"].get(job)
    return document["phases"].get(job, {}).get(OURS, {}).get({"ms": clock, "peak KiB": "peak_memory_kib"}[figure])


def rounded(number, figure):
    return f"{number:,.0f}".replace(",", " ") if figure in ("peak KiB", "private KiB", "system calls", "bytes") else f"{number:.2f}"


def rows(document):
    """For each bar: its object, its figure, the measured value, the bar, the verdict; all in words."""
    for figure, job, bar, _ in BARS:
        found, named = value(document, figure, job), figure
        verdict = "not measured" if found is None else "met" if found <= bar else "MISSED"
        if figure == "of static crun" and found is None:
            # Where there is only a dynamic one, its figure is shown without a verdict.
            found = value(document, "of crun", job)
            verdict = "no static crun here; the share is of the packaged one" if found is not None else verdict
        measured = "-" if found is None else rounded(found, figure)
        yield JOBS.get(job) or OBJECTS[job], named, measured, rounded(bar, figure), verdict


def check(document):
    """Judges gross regressions; returns one line for each bar that was measured, and whether all are within their limits."""
    lines, good = [], True
    for figure, job, bar, current in BARS:
        found = value(document, figure, job, "cpu_ms")
        if figure not in TOLERATED or found is None:
            continue
        limit = max(bar, current or 0) * TOLERATED[figure]
        good = good and found <= limit
        verdict = "within" if found <= limit else "ABOVE"
        object = JOBS.get(job) or OBJECTS[job]
        lines.append(f"{object}, {figure}: {rounded(found, figure)}, {verdict} {rounded(limit, figure)}")
    return lines, good
