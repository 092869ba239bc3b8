"""Figures that are the same in each run: memory of a waiting process, system calls, file sizes."""

import os
import subprocess

from bench import run


def waiting(bench, name):
    """Memory of the first process of a created container, in KiB; `memfd` is a part of the other two."""
    # Another one waits beside it, as the kernel counts pages of a program's file as private when a single process maps them.
    beside = "beside"
    for container in (beside, "bench"):
        run(bench.command(name, "create", "--bundle", bench.path("waiting"), container))
    try:
        pid = bench.pid(name)
        found = {"private_kib": 0, "shared_kib": 0, "memfd_kib": 0}
        with open(f"/proc/{pid}/smaps_rollup") as file:
            for line in file:
                key = line.partition("_")[0].lower() + "_kib"
                if line.startswith(("Private_Clean:", "Private_Dirty:", "Shared_Clean:", "Shared_Dirty:")):
                    found[key] += int(line.split()[1])
        with open(f"/proc/{pid}/smaps") as file:
            mapped = ""
            for line in file:
                words = line.split()
                if "-" in words[0] and not words[0].endswith(":"):
                    mapped = words[5] if len(words) > 5 else ""
                elif words[0] == "Rss:" and mapped.startswith("/memfd:"):
                    found["memfd_kib"] += int(words[1])
        return found
    finally:
        bench.clear(name)
        bench.clear(name, beside)


def system_calls(bench, name):
    """The calls of a run, of all its processes."""
    summary = bench.path("calls")
    _, [words] = bench.words("run", name)
    run(["strace", "-f", "-qq", "-c", "-o", summary, *words], stderr=subprocess.DEVNULL)
    with open(summary) as file:
        return next(int(line.split()[3]) for line in file if line.rstrip().endswith(" total"))


def sizes(program, lean):
    """Bytes of the program's file, and of the one built without `emergence`, if there is one."""
    found = {"program": os.stat(program).st_size}
    if lean:
        found["without emergence"] = os.stat(lean).st_size
    return found
