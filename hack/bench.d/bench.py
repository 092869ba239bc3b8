"""Bundles, containers and timed jobs for hack/bench and hack/bench curves."""

import copy
import json
import os
import resource
import shutil
import subprocess

from bars import OURS, PLAIN

PROFILE = os.path.join(os.path.dirname(__file__), "../../tests/seccomp/profiles/docker.json")
CGROUPS = "/sys/fs/cgroup"


def run(words, **more):
    """Runs a command with no input and output, which must succeed."""
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **more)


class Bench:
    """The directory `directory` has the programs made from hack/bench.d/*.c; the mount namespace must be the bench's own."""

    def __init__(self, directory, programs):
        self.directory, self.programs = directory, programs
        self.job = os.path.join(directory, "job")
        # All programs keep their state on one tmpfs, as /run is one in production.
        self.states = self.path("states")
        os.makedirs(self.states)
        run(["mount", "-t", "tmpfs", "-o", "mode=755", "states", self.states])
        self.config = self.make_root()
        self.device_rules = "resources" in self.config["linux"]
        self.make_bundle("plain", self.config)
        # The same, but it goes on running; under Docker's default filter; and with less to make, for lists.
        waiting, filtered, light = (copy.deepcopy(self.config) for _ in range(3))
        waiting["process"]["args"] = ["/bin/sleep", "1000"]
        self.make_bundle("waiting", waiting)
        with open(PROFILE) as file:
            filtered["linux"]["seccomp"] = json.load(file)
        self.make_bundle("filtered", filtered)
        kept = [one for one in light["linux"]["namespaces"] if one["type"] in ("pid", "mount")]
        light["linux"]["namespaces"] = kept
        light["mounts"] = [mount for mount in light["mounts"] if mount["destination"] == "/proc"]
        light["process"]["args"] = ["/bin/true"]
        light.pop("hostname", None)
        light.get("linux", {}).pop("resources", None)
        self.make_bundle("light", light)

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def make_root(self):
        """One root for all, of busybox; returns the config.json of the runtime under test with /bin/true for its program."""
        binaries = self.path("rootfs/bin")
        os.makedirs(binaries)
        shutil.copy(shutil.which("busybox"), os.path.join(binaries, "busybox"))
        for name in ("true", "sh", "sleep"):
            os.symlink("busybox", os.path.join(binaries, name))
        run([self.programs[OURS], "spec", "--bundle", self.directory])
        with open(self.path("config.json")) as file:
            config = json.load(file)
        config["ociVersion"] = "1.0.2"  # crun 1.8 knows no later one
        config["root"]["path"] = self.path("rootfs")
        config["process"]["terminal"] = False
        config["process"]["args"] = ["/bin/true"]
        if resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] != resource.RLIM_INFINITY:
            # crun 1.8 raises RLIMIT_MEMLOCK to load the device program and fails where it may not.
            config["linux"].pop("resources", None)
        return config

    def make_bundle(self, name, config):
        os.makedirs(self.path(name), exist_ok=True)
        with open(self.path(name, "config.json"), "w") as file:
            json.dump(config, file)
        return self.path(name)

    def command(self, name, *words):
        return [self.programs[name], "--root", os.path.join(self.states, name.replace(" ", "-")), *words]

    def words(self, job, name):
        """The commands that come before each run of a job and are not measured, and those that are."""
        if name == "floor":
            return [], [self.floor(job)]
        plain = name.removesuffix(PLAIN)
        bundle = self.path("filtered" if job == "seccomp" and plain == name else "plain")
        whole = self.command(plain, "run", "--bundle", bundle, "bench")
        create = self.command(plain, "create", "--bundle", bundle, "bench")
        start = self.command(plain, "start", "bench")
        delete = self.command(plain, "delete", "--force", "bench")
        return {
            "run": ([], [whole]),
            "seccomp": ([], [whole]),
            "cycle": ([], [create, start, delete]),
            "create": ([delete], [create]),
            "start": ([delete, create], [start]),
            "delete": ([delete, create], [delete]),
            "state": ([], [self.command(plain, "state", "bench")]),
            "exec": ([], [self.command(plain, "exec", "bench", "/bin/true")]),
            "list": ([], [self.command(plain, "list")]),
        }["list" if job.startswith("list") else job]

    def floor(self, job):
        """The floor program for a job."""
        if job != "exec":
            return [self.path("floor"), self.path("rootfs"), CGROUPS]
        pid = self.pid(OURS)
        with open(f"/proc/{pid}/cgroup") as file:
            cgroup = next(line for line in file if line.startswith("0::")).strip()[3:]
        return [self.path("floor-exec"), str(pid), CGROUPS + cgroup, "/bin/true"]

    def pid(self, name, container="bench"):
        done = subprocess.run(self.command(name, "state", container), check=True, capture_output=True, text=True)
        return json.loads(done.stdout)["pid"]

    def begin(self, job, name):
        """Makes the container that a series needs."""
        runner = OURS if name == "floor" else name
        if job == "state":
            run(self.command(runner, "create", "--bundle", self.path("waiting"), "bench"))
        if job == "exec":
            run(self.command(runner, "run", "--detach", "--bundle", self.path("waiting"), "bench"))

    def clear(self, name, container="bench"):
        words = self.command(OURS if name == "floor" else name.removesuffix(PLAIN), "delete", "--force", container)
        subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def clear_all(self):
        """Deletes the containers of all programs."""
        for name in self.programs:
            root = os.path.join(self.states, name.replace(" ", "-"))
            for container in os.listdir(root) if os.path.isdir(root) else []:
                self.clear(name, container)

    def call(self, prepare, measure, runs):
        """The words that run a job with job.c."""
        words = [self.job, str(runs)]
        for section, commands in (("@prepare", prepare), ("@measure", measure)):
            for number, command in enumerate(commands):
                words += ["@" if number else section, *command]
        return words

    def timed(self, prepare, measure, runs):
        """For each run: wall time in ms, processor time in ms, peak memory in KiB."""
        with open(self.path("errors"), "w+") as errors:
            # A file, since a container keeps the descriptor.
            done = subprocess.run(self.call(prepare, measure, runs), stdout=subprocess.PIPE, stderr=errors, text=True)
            errors.seek(0)
            if done.returncode != 0:
                raise OSError(f"{' '.join(measure[-1])}: {errors.read().strip()}")
        samples = [[float(word) for word in line.split()] for line in done.stdout.splitlines()]
        return [(wall / 1000, processor / 1000, int(peak)) for wall, processor, peak in samples]

    def series(self, job, name, runs):
        """One program's turn at a job."""
        self.begin(job, name)
        try:
            return self.timed(*self.words(job, name), runs)
        finally:
            if not job.startswith("list"):
                self.clear(name)

    def fill(self, name, containers):
        """Creates small containers until there are so many."""
        root = os.path.join(self.states, name.replace(" ", "-"))
        present = len(os.listdir(root)) if os.path.isdir(root) else 0
        for number in range(present, containers):
            run(self.command(name, "create", "--bundle", self.path("light"), f"{name.replace(' ', '-')}-{number}"))
