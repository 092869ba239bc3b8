"""Measures how the time of a command grows with its input, beside crun; started by hack/bench curves."""

import argparse
import copy
import ctypes
import json
import os
import shutil
import statistics

import chart
from bars import OURS
from bench import CGROUPS, Bench, run
from compare import machine, print_header, versions

CURVES = {
    "mounts": ("run: bind mounts in config.json", [0, 50, 100, 200, 350, 500]),
    "environment": ("run: environment variables", [0, 1000, 2500, 5000, 7500, 10000]),
    "seccomp": ("run: seccomp rules", [0, 100, 250, 500, 1000, 2000]),
    "containers": ("list: containers", [1, 100, 250, 500, 1000]),
    "host": ("run: further mounts on the host", [0, 500, 1000, 2500, 5000]),
    "depth": ("run: depth of the cgroup", [1, 10, 20, 30, 40, 50]),
}
# Calls that neither the runtimes nor /bin/true make with such arguments.
SYSTEM_CALLS = """
    alarm bind chroot clock_settime connect copy_file_range creat dup2 dup3 epoll_create fadvise64 fallocate fanotify_mark flock
    fremovexattr fsetxattr ftruncate futimesat getitimer getpeername getpgid getpriority getsockname getxattr inotify_add_watch io_cancel
    io_destroy io_getevents io_setup io_submit ioprio_get ioprio_set kill lgetxattr link listen listxattr lremovexattr lsetxattr mincore
    mlock2 mlockall mq_notify mq_open mq_unlink msgctl msgget msgrcv msgsnd msync munlockall nanosleep pause personality pidfd_send_signal
    preadv process_vm_readv pselect6 pwrite64 pwritev readahead recvfrom recvmmsg removexattr rename rmdir sched_getattr
    sched_getparam sched_rr_get_interval sched_setattr select semctl semget semop sendfile sendmmsg setfsgid setfsuid setitimer setpriority
    setregid setreuid setsockopt shmat shmctl shmdt shmget shutdown splice symlink sync sync_file_range syncfs sysinfo tee
    timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime times truncate utime utimes
""".split()
NAMES = [OURS, "crun"]
MS_BIND, MNT_DETACH = 4096, 2
libc = ctypes.CDLL(None, use_errno=True)


def check(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


class Curve:
    """One curve's bundles. Each method returns the commands to measure for a size and a program."""

    def __init__(self, bench):
        self.bench = bench

    def run(self, name, change):
        """A run of the default bundle with a change."""
        config = copy.deepcopy(self.bench.config)
        change(config)
        bundle = self.bench.make_bundle("changed", config)
        return [self.bench.command(name, "run", "--bundle", bundle, "bench")]

    def mounts(self, size, name):
        source = self.bench.path("source")
        os.makedirs(source, exist_ok=True)
        added = [
            {"destination": f"/mnt/{number}", "type": "bind", "source": source, "options": ["rbind", "ro"]}
            for number in range(size)
        ]
        return self.run(name, lambda config: config["mounts"].extend(added))

    def environment(self, size, name):
        added = [f"VARIABLE_{number}=value {number}" for number in range(size)]
        return self.run(name, lambda config: config["process"]["env"].extend(added))

    def seccomp(self, size, name):
        """Rules on an argument, over many calls, since a filter has at most 4096 instructions."""
        if size == 0:
            return self.run(name, lambda config: None)
        rules = [
            {
                "names": [SYSTEM_CALLS[number % len(SYSTEM_CALLS)]],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 1000 + number // len(SYSTEM_CALLS), "op": "SCMP_CMP_EQ"}],
            }
            for number in range(size)
        ]
        filter = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules}
        return self.run(name, lambda config: config["linux"].update(seccomp=filter))

    def containers(self, size, name):
        self.bench.fill(name, size)
        return [self.bench.command(name, "list")]

    def host(self, size, name):
        """Mounts are made in the bench's own mount namespace."""
        top = self.bench.path("many")
        if not os.path.ismount(top):
            os.makedirs(top)
            run(["mount", "-t", "tmpfs", "many", top])
        for number in range(len(os.listdir(top)), size):
            target = os.path.join(top, str(number))
            os.mkdir(target)
            check(libc.mount(target.encode(), target.encode(), None, MS_BIND, None), f"bind mount on {target}")
        return self.run(name, lambda config: None)

    def depth(self, size, name):
        """Only the last component is made by the runtime, as with an engine's cgroup."""
        parents = "/bench-depth" + "/a" * (size - 1)
        os.makedirs(CGROUPS + parents, exist_ok=True)
        return self.run(name, lambda config: config["linux"].update(cgroupsPath=f"{parents}/bench"))

    def end(self):
        """Removes mounts and cgroups."""
        self.bench.clear_all()
        top = self.bench.path("many")
        if os.path.ismount(top):
            check(libc.umount2(top.encode(), MNT_DETACH), f"umount {top}")
        shutil.rmtree(self.bench.path("rootfs/mnt"), ignore_errors=True)
        for directory, _, _ in os.walk(CGROUPS + "/bench-depth", topdown=False):
            os.rmdir(directory)


def point(measures, bench, runs):
    """The median times in ms of each program, which take turns; None for one that cannot do it."""
    samples, failed = {name: [] for name in NAMES}, {}
    for turn in range(runs + 1):
        for name in NAMES if turn % 2 else NAMES[::-1]:
            if name in failed:
                continue
            # Bundles are written before each run: all have the same path.
            commands = measures(name)
            try:
                wall, processor, _ = bench.timed([], commands, 1)[0]
            except OSError as error:
                failed[name] = str(error)
                print(f"  {error}")
                continue
            if turn:  # the first run fills caches and makes mount points
                samples[name].append((wall, processor))
    return {
        name: None if name in failed else {
            "median_ms": round(statistics.median(wall for wall, _ in found), 3),
            "cpu_ms": round(statistics.median(processor for _, processor in found), 3),
        }
        for name, found in samples.items()
    }


def measure(bench, key, runs):
    title, sizes = CURVES[key]
    print(f"\n{title:36}" + "".join(f"{name:>18}" for name in NAMES))
    curve, points = Curve(bench), []
    try:
        for size in sizes:
            found = point(lambda name: getattr(curve, key)(size, name), bench, runs)
            points.append({"size": size, **found})
            cells = (f"{found[name]['median_ms']:15.2f} ms" if found[name] else f"{'-':>18}" for name in NAMES)
            print(f"  {size:<34}" + "".join(cells), flush=True)
    finally:
        curve.end()
    return {"title": title, "points": points}


def main():
    parser = argparse.ArgumentParser(prog="hack/bench curves")
    parser.add_argument("tools", help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=CURVES, help="one curve alone")
    parser.add_argument("--runs", type=int, default=9, help="measurements of each point (9)")
    parser.add_argument("--json", help="file that takes all points")
    parser.add_argument("--svg", help="file that takes a picture of them")
    parser.add_argument("--crun", default=shutil.which("crun"), help="path of crun, instead of the one in PATH")
    options = parser.parse_args()
    bench = Bench(options.tools, {OURS: os.environ["EMERGENCE_RUNC_BIN"], "crun": options.crun})
    document = {"programs": versions(bench), "machine": machine(bench), "runs": options.runs, "curves": {}}
    print_header(document)
    for key in [options.only] if options.only else CURVES:
        document["curves"][key] = measure(bench, key, options.runs)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(document, file, indent=1)
            file.write("\n")
    if options.svg:
        with open(options.svg, "w") as file:
            file.write(chart.curves(document["curves"]))


main()
