"""Alternates between runtimes with hyperfine and prints a table; started by hack/bench, which names the options."""

import argparse
import copy
import json
import os
import resource
import shlex
import shutil
import statistics
import subprocess
import tempfile

PHASES = ["run", "create", "start", "state", "exec", "delete", "seccomp"]
BARS = {"run": 0.8, "exec": 0.6}  # no more than this share of crun's time
PROFILE = os.path.join(os.path.dirname(__file__), "../../tests/seccomp/profiles/docker.json")
PROFILE_ADDS = 0.3  # milliseconds that this profile may add to run
PLAIN = " unfiltered"  # behind a program's name: the same without the profile


class Bench:
    def __init__(self, directory, tools, runs):
        self.directory, self.tools, self.runs = directory, tools, runs
        self.processor = {}  # of each phase and program: the mean processor time of each series, in seconds
        self.programs = {
            "emergence-runc": os.environ["EMERGENCE_RUNC_BIN"],
            "crun": shutil.which("crun"),
            "runc": shutil.which("runc"),
        }

    def make_bundle(self):
        """One bundle for all: busybox, and the config.json of the runtime under test with /bin/true for its program."""
        binaries = os.path.join(self.directory, "rootfs/bin")
        os.makedirs(binaries)
        shutil.copy(shutil.which("busybox"), os.path.join(binaries, "busybox"))
        os.symlink("busybox", os.path.join(binaries, "true"))
        os.symlink("busybox", os.path.join(binaries, "sh"))
        os.symlink("busybox", os.path.join(binaries, "sleep"))
        subprocess.run([self.programs["emergence-runc"], "spec"], cwd=self.directory, check=True)
        path = os.path.join(self.directory, "config.json")
        with open(path) as file:
            config = json.load(file)
        config["ociVersion"] = "1.0.2"  # crun 1.8 knows no later one
        config["process"]["terminal"] = False
        config["process"]["args"] = ["/bin/true"]
        if resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] != resource.RLIM_INFINITY:
            # crun 1.8 raises RLIMIT_MEMLOCK to load the device program and fails where it may not.
            config.get("linux", {}).pop("resources", None)
            print("Device rules are left out for all: crun could not raise its locked-memory limit here.")
        with open(path, "w") as file:
            json.dump(config, file)
        config["root"]["path"] = os.path.join(self.directory, "rootfs")
        # The same, but it goes on running; and under Docker's default filter.
        waiting, filtered = copy.deepcopy(config), copy.deepcopy(config)
        waiting["process"]["args"] = ["/bin/sleep", "1000"]
        with open(PROFILE) as file:
            filtered["linux"]["seccomp"] = json.load(file)
        for name, config in (("waiting", waiting), ("filtered", filtered)):
            os.makedirs(os.path.join(self.directory, name))
            with open(os.path.join(self.directory, name, "config.json"), "w") as file:
                json.dump(config, file)

    def command(self, name, *words):
        root = os.path.join(self.directory, "state-" + name)
        return shlex.join([self.programs[name], "--root", root, *words])

    def commands(self, phase, name):
        """What is measured, and what must happen before each time (None: nothing)."""
        if name == "floor":
            rootfs = os.path.join(self.directory, "rootfs")
            return shlex.join([os.path.join(self.tools, "floor"), rootfs, "/sys/fs/cgroup"]), None
        bundle = ["--bundle", self.directory]
        filtered = bundle if name.endswith(PLAIN) else ["--bundle", os.path.join(self.directory, "filtered")]
        name = name.removesuffix(PLAIN)
        clear = self.command(name, "delete", "--force", "bench")
        create = self.command(name, "create", *bundle, "bench")
        fresh = f"sh -c {shlex.quote(f'{clear} >/dev/null 2>&1; {create} </dev/null >/dev/null 2>&1')}"
        return {
            "run": (self.command(name, "run", *bundle, "bench"), None),
            "create": (create, f"sh -c {shlex.quote(f'{clear} >/dev/null 2>&1; true')}"),
            "start": (self.command(name, "start", "bench"), fresh),
            "state": (self.command(name, "state", "bench"), None),
            "exec": (self.command(name, "exec", "bench", "/bin/true"), None),
            "delete": (self.command(name, "delete", "--force", "bench"), fresh),
            "seccomp": (self.command(name, "run", *filtered, "bench"), None),
        }[phase]

    def begin(self, phase, name):
        """What must be there once, before a series."""
        if phase == "state":
            subprocess.run(shlex.split(self.commands("start", name)[1]), check=True)
        if phase == "exec":
            waiting = os.path.join(self.directory, "waiting")
            run = shlex.split(self.command(name, "run", "--detach", "--bundle", waiting, "bench"))
            subprocess.run(run, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def clear(self, name):
        if name != "floor":
            name = name.removesuffix(PLAIN)
            command = shlex.split(self.command(name, "delete", "--force", "bench"))
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def seconds(self, phase, name):
        """The times of one series."""
        command, prepare = self.commands(phase, name)
        out = os.path.join(self.directory, "hyperfine.json")
        call = ["hyperfine", "-N", "--style", "none", "--warmup", "2", "--runs", str(self.runs), "--export-json", out]
        if prepare:
            call += ["--prepare", prepare]
        self.begin(phase, name)
        done = subprocess.run([*call, command], capture_output=True, text=True)
        self.clear(name)
        if done.returncode != 0:
            raise SystemExit(f"{name} {phase}: {done.stderr.strip()}\n{command}")
        with open(out) as file:
            result = json.load(file)["results"][0]
        self.processor.setdefault((phase, name), []).append(result["user"] + result["system"])
        return result["times"]

    def memory(self, phase, name):
        """Largest resident set of one call, in KiB, or None when it failed."""
        command, prepare = self.commands(phase, name)
        self.begin(phase, name)
        if prepare:
            subprocess.run(shlex.split(prepare), check=True)
        words = [os.path.join(self.tools, "rss"), *shlex.split(command)]
        done = subprocess.run(words, capture_output=True, text=True)
        self.clear(name)
        return int(done.stdout) if done.returncode == 0 else None


def table(phase, times, memory):
    """Prints one phase; returns our share of crun's time, by medians and by minimums."""
    medians = {name: statistics.median(all_times) for name, all_times in times.items()}
    print(f"\n{phase:8}{'':20}{'median ms':>11}{'min ms':>9}{'of crun':>9}{'of floor':>10}{'RSS KiB':>9}")
    for name, median in medians.items():
        to_floor = f"{median / medians['floor']:.2f}" if "floor" in medians else "-"
        low = min(times[name]) * 1000
        print(
            f"  {name:26}{median * 1000:11.2f}{low:9.2f}{median / medians['crun']:9.2f}{to_floor:>10}"
            f"{memory[name] or '-':>9}"
        )
    lowest = {name: min(all_times) for name, all_times in times.items()}
    return [found["emergence-runc"] / found["crun"] for found in (medians, lowest)]


def summary(times, memory):
    """One phase for the JSON file."""
    return {
        name: {
            "median_ms": round(statistics.median(all_times) * 1000, 3),
            "min_ms": round(min(all_times) * 1000, 3),
            "peak_memory_kib": memory[name],
        }
        for name, all_times in times.items()
    }


def version(program):
    """The first line that a program prints about itself."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    return done.stdout.partition("\n")[0]


def added(processor):
    """What the profile adds to each program's run, in words: by processor time, since others' work would hide a tenth of a millisecond."""
    median = {name: statistics.median(series) * 1000 for (phase, name), series in processor.items() if phase == "seccomp"}
    adds = {name: median[name] - median[name + PLAIN] for name in median if not name.endswith(PLAIN)}
    verdict = "met" if adds["emergence-runc"] <= PROFILE_ADDS else "MISSED"
    words = ", ".join(f"{name} {more:.2f} ms" for name, more in adds.items())
    return f"Docker's profile adds to run, in processor time: {words}; bar {PROFILE_ADDS} ms: {verdict}"


def main():
    parser = argparse.ArgumentParser(prog="hack/bench")
    parser.add_argument("tools", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=10, help="how often each program gets its turn")
    parser.add_argument("--runs", type=int, default=20, help="measurements in a turn")
    parser.add_argument("--only", choices=PHASES, help="one phase alone")
    parser.add_argument("--json", help="file that takes medians, minima and peak memory")
    options = parser.parse_args()

    phases = [options.only] if options.only else PHASES
    measured, verdicts = {}, []
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        bench = Bench(directory, options.tools, options.runs)
        bench.make_bundle()
        for phase in phases:
            names = list(bench.programs)
            names += {"run": ["floor"], "seccomp": [name + PLAIN for name in names]}.get(phase, [])
            times = {name: [] for name in names}
            for turn in range(options.rounds):
                # The order changes from round to round, so that no program always follows the same one.
                for name in names[turn % len(names):] + names[: turn % len(names)]:
                    times[name] += bench.seconds(phase, name)
            memory = {name: bench.memory(phase, name) for name in names}
            share, share_of_lowest = table(phase, times, memory)
            bar = BARS.get(phase)
            bar = f" (bar {bar}: {'met' if share <= bar else 'MISSED'})" if bar else ""
            verdicts.append(f"{phase}: {share:.2f} of crun{bar}; by the fastest of each {share_of_lowest:.2f}")
            if phase == "seccomp":
                verdicts.append(added(bench.processor))
            measured[phase] = summary(times, memory)
    print(f"\n{options.rounds} rounds of {options.runs}; medians over all of them")
    print("\n".join(verdicts))
    if options.json:
        versions = {name: version(program) for name, program in bench.programs.items()}
        document = {"programs": versions, "rounds": options.rounds, "runs": options.runs, "phases": measured}
        with open(options.json, "w") as file:
            json.dump(document, file, indent=2)
            file.write("\n")


main()
