"""Lets a container live its life under gdb, and writes the functions that were called as a linker script: order.py PROGRAM WORK OUT"""
import json
import os
import re
import shutil
import subprocess
import sys

PROGRAM, WORK, OUT = sys.argv[1:]
HERE = os.path.dirname(os.path.abspath(__file__))

# gdb does not follow into the container; what runs there is named by its module in mangled form.
CRATE = "emergence_runc"
INSIDE = ["4init", "6rootfs", "9container8handover", "3sys2fd", "3sys3raw", "3sys5mount", "3sys7process"]

# Of the C library, where every process begins. musl's objects; other libraries have no such names.
C_LIBRARY = """\
    *crt1.o(.text .text.*)
    *libc.a:__libc_start_main.*(.text .text.*)
    *libc.a:__init_tls.*(.text .text.*)
    *libc.a:__set_thread_area.*(.text .text.*)
    *libc.a:mem*.*(.text .text.*)
    *libc.a:strlen.*(.text .text.*)
    *libc.a:*syscall*.*(.text .text.*)
"""

HEAD = """\
/* Functions that the life of a container goes through, in the order of their first call: side by side they take fewer pages of
   memory, and fewer faults at each start. Written by hack/order. A name that no longer exists is no harm. */
"""


def bundle():
    """A bundle as engines make them: limits, a filter, a hook."""
    place = os.path.join(WORK, "bundle")
    os.makedirs(os.path.join(place, "rootfs/bin"))
    busybox = shutil.which("busybox")
    shutil.copy(busybox, os.path.join(place, "rootfs/bin/busybox"))
    subprocess.run([PROGRAM, "spec", "--bundle", place], check=True)
    path = os.path.join(place, "config.json")
    with open(path) as file:
        config = json.load(file)
    config["process"]["terminal"] = False
    config["process"]["args"] = ["/bin/busybox", "sleep", "1"]
    config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": sorted(CALLS), "action": "SCMP_ACT_ALLOW"},
            {
                "names": ["personality"],
                "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}],
            },
        ],
    }
    config["hooks"] = {"createRuntime": [{"path": busybox, "args": ["busybox", "true"]}]}
    with open(path, "w") as file:
        json.dump(config, file)
    return place


# Enough for busybox, and for a filter of some size.
CALLS = """access arch_prctl brk capget capset chdir clock_nanosleep clone close dup dup2 execve exit exit_group faccessat fchdir fcntl
fstat futex getcwd getdents64 geteuid getgid getpid getppid getrandom getuid ioctl lseek mmap mprotect mremap munmap nanosleep
newfstatat open openat pipe poll prctl prlimit64 pread64 read readlink rseq rt_sigaction rt_sigprocmask rt_sigreturn
sched_getaffinity set_robust_list set_tid_address setgid setgroups setuid sigaltstack stat statx sysinfo time uname wait4
write""".split()


def called(*words):
    """The functions that one command calls, in order."""
    listed = os.path.join(WORK, "called")
    environment = dict(os.environ, TRACE_OUT=listed)
    gdb = ["gdb", "-nx", "-batch", "-x", os.path.join(HERE, "trace.py"), "--args", PROGRAM, "--root", os.path.join(WORK, "state")]
    # Not by a pipe: a created container keeps its standard output.
    told = os.path.join(WORK, "told")
    with open(told, "w") as output:
        subprocess.run([*gdb, *words], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        with open(listed) as file:
            found = file.read().split()
        os.unlink(listed)
    except FileNotFoundError:
        found = []
    if not found:
        with open(told, errors="replace") as file:
            sys.exit(f"gdb saw nothing of {' '.join(words)}:\n{file.read()}")
    print(f"{words[0]}: {len(found)} functions", flush=True)
    return found


def pattern(symbol):
    """The symbol without what another compilation changes: the hashes of the crates, and what LLVM appends."""
    return re.sub(r"Cs[0-9A-Za-z]+_", "Cs*_", re.sub(r"[.]llvm[.].*", "*", symbol))


def main():
    place = bundle()
    lives = [
        ("run", "-b", place, "order-1"),
        ("create", "-b", place, "order-2"),
        ("start", "order-2"),
        ("state", "order-2"),
        ("exec", "order-2", "/bin/busybox", "true"),
        ("kill", "order-2", "KILL"),
        ("delete", "--force", "order-2"),
    ]
    patterns = {}
    for words in lives:
        patterns.update(dict.fromkeys(pattern(symbol) for symbol in called(*words)))
    for module in INSIDE:
        patterns[f"_R*{len(CRATE)}{CRATE}{module}*"] = None
    with open(OUT, "w") as file:
        file.write(HEAD + "SECTIONS {\n  .text.start : {\n" + C_LIBRARY)
        # Also those that LLVM holds for unlikely: .text.unlikely.NAME
        file.writelines(f"    *(.text*.{name})\n" for name in patterns)
        file.write("  }\n} INSERT BEFORE .text;\n")
    print(f"{OUT}: {len(patterns)} names")


main()
