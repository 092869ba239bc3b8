"""Alternates between runtimes and prints a table; started by hack/bench, which names the options."""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import time

import bars
import exact
import page
from bars import JOBS, OURS, PLAIN
from bench import Bench

CHECKED = ["run", "cycle", "create", "exec"]  # by --check
PARALLEL, CONTAINERS = 4, 200


def programs(options):
    """The runtimes by the names that tables use."""
    found = {OURS: os.environ["EMERGENCE_RUNC_BIN"], "crun": options.crun or shutil.which("crun")}
    if options.static_crun:
        found["static crun"] = options.static_crun
    if not options.check:
        found["runc"] = options.runc or shutil.which("runc")
    return found


def names_for(job, bench):
    """The programs that do a job."""
    names = list(bench.programs)
    if job in ("run", "exec"):
        names.append("floor")
    if job == "seccomp":
        names += [name + PLAIN for name in names]
    if job == "list1000":
        names = [name for name in names if name != "runc"]  # creating them would take minutes
    return names


def parallel(bench, name):
    """Wall and processor time in ms of CONTAINERS lives of a container, some at a time; the memory is not measured."""
    each = CONTAINERS // PARALLEL
    _, measure = bench.words("cycle", name)
    calls = [bench.call([], [[*words[:-1], f"bench-{worker}"] for words in measure], each) for worker in range(PARALLEL)]
    begin = time.monotonic()
    workers = [subprocess.Popen(call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) for call in calls]
    outputs = [worker.communicate()[0] for worker in workers]
    wall = time.monotonic() - begin
    if any(worker.returncode for worker in workers):
        raise OSError(f"{name}: a life of one of {PARALLEL} containers at a time failed")
    return wall * 1000, sum(float(line.split()[1]) for output in outputs for line in output.splitlines()) / 1000, None


def measure(bench, job, rounds, runs):
    """The samples of each program; the order changes with each round, so that no program always follows the same one."""
    names = names_for(job, bench)
    if job.startswith("list"):
        for name in names:
            bench.fill(name, int(job.removeprefix("list")))
    samples = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names):] + names[: turn % len(names)]:
            samples[name] += [parallel(bench, name)] if job == "parallel" else bench.series(job, name, runs)
    return {name: summary(found) for name, found in samples.items()}


def summary(samples):
    walls, processor, peaks = zip(*samples)
    found = {
        "median_ms": round(statistics.median(walls), 3),
        "min_ms": round(min(walls), 3),
        "cpu_ms": round(statistics.median(processor), 3),
    }
    return found if None in peaks else {**found, "peak_memory_kib": int(statistics.median(peaks))}


def print_job(job, times):
    print(f"\n{JOBS[job]:50}{'median ms':>11}{'min ms':>9}{'CPU ms':>9}{'of crun':>9}{'of floor':>10}{'peak KiB':>10}")
    for name, found in times.items():
        of_floor = f"{found['median_ms'] / times['floor']['median_ms']:.2f}" if "floor" in times else "-"
        print(
            f"  {name:48}{found['median_ms']:11.2f}{found['min_ms']:9.2f}{found['cpu_ms']:9.2f}"
            f"{found['median_ms'] / times['crun']['median_ms']:9.2f}{of_floor:>10}{found.get('peak_memory_kib', '-'):>10}",
            flush=True,
        )


def first_line(words):
    """The first line that a command prints."""
    return subprocess.run(words, capture_output=True, text=True).stdout.partition("\n")[0]


def machine(bench):
    """What the figures were measured on."""
    with open("/proc/cpuinfo") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown")
    return {
        "processor": model,
        "processors": len(os.sched_getaffinity(0)),
        "kernel": os.uname().release,
        "state": first_line(["stat", "-fc", "%T", bench.states]),
        "bundle": first_line(["stat", "-fc", "%T", bench.path("plain")]),
        "load": round(os.getloadavg()[0], 2),
        "device_rules": bench.device_rules,
    }


def versions(bench):
    return {name: first_line([program, "--version"]) for name, program in bench.programs.items()}


def print_header(document):
    found = document["machine"]
    print(f"{found['processors']} × {found['processor']}, Linux {found['kernel']}, load {found['load']}")
    print(f"State directories are on {found['state']}, in a mount namespace of the bench; bundles are on {found['bundle']}.")
    if found["load"] > 0.5:
        print("This machine is not idle: the times are too high.")
    if not found["device_rules"]:
        print("Device rules are left out for all: crun could not raise its locked-memory limit here.")
    print("; ".join(document["programs"].values()), flush=True)


def begin(bench, options):
    """The document that takes the figures."""
    return {
        "programs": versions(bench),
        "machine": machine(bench),
        "rounds": options.rounds,
        "runs": options.runs,
        "phases": {},
        "waiting": {},
        "system_calls": {},
        "bytes": {},
    }


def fill(document, bench, jobs, options):
    for job in jobs:
        # One run of CONTAINERS is as good as many of one.
        rounds = min(options.rounds, 3) if job == "parallel" else options.rounds
        document["phases"][job] = measure(bench, job, rounds, options.runs)
        if not options.check:
            print_job(job, document["phases"][job])
        if job == "list1000" or jobs[-1] == job:
            bench.clear_all()
    if options.only:
        return
    document["waiting"] = {name: exact.waiting(bench, name) for name in bench.programs}
    document["bytes"] = exact.sizes(bench.programs[OURS], options.lean)
    if not options.check:
        document["system_calls"] = {name: exact.system_calls(bench, name) for name in [*bench.programs, "floor"]}


def parse():
    parser = argparse.ArgumentParser(prog="hack/bench")
    parser.add_argument("tools", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, help="how often each program gets its turn (6)")
    parser.add_argument("--runs", type=int, help="measurements in a turn (10)")
    parser.add_argument("--only", choices=JOBS, help="one job alone")
    parser.add_argument("--check", action="store_true", help="a minute; fail only on gross regressions")
    parser.add_argument("--json", help="file that takes all figures")
    parser.add_argument("--crun", help="path of crun, instead of the one in PATH")
    parser.add_argument("--static-crun", help="path of a statically linked crun; not measured by default")
    parser.add_argument("--runc", help="path of runc, instead of the one in PATH")
    parser.add_argument("--lean", metavar="FILE", help="our program built with --no-default-features, for its size")
    options = parser.parse_args()
    options.rounds = options.rounds or (8 if options.check else 6)
    options.runs = options.runs or (5 if options.check else 10)
    return options


def report(document, options):
    """Prints what was found; returns whether --check is content."""
    print()
    if options.check:
        print("Processor time as a share of other programs', and exact figures:")
        lines, good = bars.check(document)
        print("\n".join(lines))
        return good
    if options.only:
        judged = [cells for cells in bars.rows(document) if cells[2] != "-"]
        print("\n".join(f"{what}, {figure}: {measured} (bar {bar}: {verdict})" for what, figure, measured, bar, verdict in judged))
    else:
        print(page.markdown(document))
    return True


def is_musl(program):
    """Whether the bars apply: they are those of a program linked with musl."""
    with open(program, "rb") as file:
        return b"GNU C Library" not in file.read()


def main():
    options = parse()
    if options.check and not is_musl(os.environ["EMERGENCE_RUNC_BIN"]):
        print("NOT CHECKED: the bars are those of a program linked with musl, and this one is linked with glibc")
        return
    bench = Bench(options.tools, programs(options))
    jobs = [options.only] if options.only else CHECKED if options.check else list(JOBS)
    try:
        document = begin(bench, options)
        print_header(document)
        fill(document, bench, jobs, options)
    finally:
        bench.clear_all()
    good = report(document, options)
    document["bars"] = [dict(zip(("job", "figure", "measured", "bar", "verdict"), cells)) for cells in bars.rows(document)]
    if options.json:
        with open(options.json, "w") as file:
            json.dump(document, file, indent=2)
            file.write("\n")
    if not good:
        raise SystemExit("the program got much slower or larger: see the lines with ABOVE; the bars are in hack/bench.d/bars.py")


if __name__ == "__main__":
    main()
