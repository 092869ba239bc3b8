#!/usr/bin/python3
"""Writes the filter that libseccomp makes of an OCI profile, as raw BPF.

Reads one JSON document a line from standard input and answers each with one line:
  {"native": "x86_64", "profile": {...}}: the program in hexadecimal, or "error WORDS" where libseccomp refuses a rule
  {"numbers": "x86_64", "names": ["read", ...]}: their numbers as JSON; -1 for unknown ones, other negative ones where the architecture has
  no such call
Needs Debian's python3-seccomp.
"""
import json
import os
import signal
import sys
import tempfile

import seccomp

COMPARE = {
    "SCMP_CMP_NE": seccomp.NE, "SCMP_CMP_LT": seccomp.LT, "SCMP_CMP_LE": seccomp.LE, "SCMP_CMP_EQ": seccomp.EQ,
    "SCMP_CMP_GE": seccomp.GE, "SCMP_CMP_GT": seccomp.GT, "SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ,
}


def action(word, errno):
    data = 1 if errno is None else errno
    return {
        "SCMP_ACT_KILL": seccomp.KILL, "SCMP_ACT_KILL_THREAD": seccomp.KILL,
        "SCMP_ACT_KILL_PROCESS": seccomp.KILL_PROCESS, "SCMP_ACT_TRAP": seccomp.TRAP, "SCMP_ACT_LOG": seccomp.LOG,
        "SCMP_ACT_ALLOW": seccomp.ALLOW, "SCMP_ACT_NOTIFY": seccomp.NOTIFY,
    }.get(word, seccomp.ERRNO(data) if word == "SCMP_ACT_ERRNO" else seccomp.TRACE(data))


def conditions(rule):
    """Runc's reading: with two conditions on one argument, each is a rule of its own."""
    args = [(a["index"], a["op"], a["value"], a.get("valueTwo", 0)) for a in rule.get("args") or []]
    if len({a[0] for a in args}) < len(args):
        return [[a] for a in args]
    return [args]


def compile(native, profile):
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    filter = seccomp.SyscallFilter(default)
    if native != "x86_64":  # the machine's own, which is in every new filter; its byte order may not be the other's
        filter.remove_arch(seccomp.Arch())
    for arch in {native} | {a.removeprefix("SCMP_ARCH_").lower() for a in profile.get("architectures") or []}:
        arch = getattr(seccomp.Arch, arch.upper())
        if not filter.exist_arch(arch):
            filter.add_arch(arch)
    for rule in profile["syscalls"]:
        act = action(rule["action"], rule.get("errnoRet"))
        if act == default:
            continue
        for name in rule["names"]:
            for alternative in conditions(rule):
                args = [seccomp.Arg(index, COMPARE[op], *((value, two) if op.endswith("MASKED_EQ") else (value,)))
                        for index, op, value, two in alternative]
                try:
                    filter.add_rule(act, name, *args)
                except ValueError:
                    if seccomp.resolve_syscall(seccomp.Arch(), name) != -1:
                        raise
    with tempfile.TemporaryFile() as file:
        filter.export_bpf(file)
        file.seek(0)
        return file.read()


def answer(request):
    if "numbers" in request:
        arch = getattr(seccomp.Arch, request["numbers"].upper())
        return json.dumps([seccomp.resolve_syscall(arch, name) for name in request["names"]])
    try:
        return compile(request["native"], request["profile"]).hex()
    except Exception as error:  # every refusal is an answer here
        return f"error {error!r}"


for line in sys.stdin:
    # Some sets of rules keep libseccomp busy for ever: each profile has a process of its own, with a time limit.
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(2)
        with os.fdopen(theirs, "w") as out:
            out.write(answer(json.loads(line)))
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as result:
        print(result.read() or "error no answer in time", flush=True)
    os.waitpid(child, 0)
