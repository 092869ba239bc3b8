"""For gdb: runs the program, and writes each function's symbol into $TRACE_OUT when it is called first."""
import os
import subprocess

import gdb

for setting in ["pagination off", "confirm off", "detach-on-fork on", "follow-fork-mode parent", "follow-exec-mode same"]:
    gdb.execute(f"set {setting}")

called = []


class Function(gdb.Breakpoint):
    """A function that was not called yet."""

    def __init__(self, address, symbol):
        super().__init__(f"*{address:#x}", gdb.BP_BREAKPOINT, internal=True)
        self.symbol = symbol
        self.silent = True

    def stop(self):
        called.append(self.symbol)
        self.enabled = False
        return False


functions = {}
for line in subprocess.check_output(["nm", gdb.current_progspace().filename], text=True).splitlines():
    address, _, rest = line.partition(" ")
    kind, _, symbol = rest.partition(" ")
    if kind in ("t", "T") and symbol.startswith("_R"):
        functions.setdefault(int(address, 16), symbol)
for address, symbol in functions.items():
    Function(address, symbol)
gdb.execute("run")
with open(os.environ["TRACE_OUT"], "w") as file:
    file.write("\n".join(called))
