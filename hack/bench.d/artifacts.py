"""Compares the verbs of `emergence` with the tools that do the same: nix, umoci, openssl, coreutils. hack/bench emergence runs it.

A tree like a closure of Nix is generated (--scale 1: 55 000 entries, 703 MB), with everything in memory where there is room. Each row is
one job by two programs in turn, so that a busy machine is busy for both; the figure is the shortest of the rounds, the ratio ours
to theirs, beside the bar that docs set. The last columns are the largest resident sets in MiB.
"""
import argparse, gzip, json, os, random, shutil, statistics, subprocess, sys, tempfile, time

OURS = os.environ["EMERGENCE_RUNC_BIN"]
NIX = ["nix", "--extra-experimental-features", "nix-command"]


def make_tree(root, scale):
    """Directories, links and files of words, the same for the same scale."""
    dice = random.Random(1)
    words = [bytes(dice.randrange(97, 123) for _ in range(dice.randrange(2, 10))) for _ in range(4000)]
    pool = b" ".join(dice.choice(words) for _ in range(800_000))
    count, total = int(55_000 * scale), 703e6 * scale
    os.makedirs(root)
    directories = [root]
    for number in range(count):
        directory, kind = dice.choice(directories[-200:]), dice.random()
        if kind < 0.08 and directory.count("/") < 16:
            directories.append(f"{directory}/d{number}")
            os.mkdir(directories[-1])
        elif kind < 0.13:
            os.symlink(f"../x{number}", f"{directory}/l{number}")
        else:
            size = min(int(dice.expovariate(count * 0.87 / total)), len(pool) // 2)
            start = dice.randrange(len(pool) // 2)
            with open(f"{directory}/f{number}", "wb") as file:
                file.write(pool[start:start + size])
            os.chmod(f"{directory}/f{number}", 0o755 if number % 7 == 0 else 0o644)


def run(words, **more):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode().strip()


def make_layout(place, tree):
    """An image whose only layer is the tree, by gzip(1)'s default level."""
    import hashlib, io, tarfile
    blobs = f"{place}/blobs/sha256"
    os.makedirs(blobs)

    def blob(kind, data):
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{blobs}/{digest}", "wb") as file:
            file.write(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(tree, "A")
    tar = out.getvalue()
    layer = blob("layer.v1.tar+gzip", gzip.compress(tar, 6, mtime=0))
    ids = [f"sha256:{hashlib.sha256(tar).hexdigest()}"]
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": ids}}
    manifest = {"schemaVersion": 2, "config": blob("config.v1+json", json.dumps(config).encode()), "layers": [layer]}
    entry = blob("manifest.v1+json", json.dumps(manifest).encode())
    entry["annotations"] = {"org.opencontainers.image.ref.name": "t"}
    for name, document in ("index.json", {"schemaVersion": 2, "manifests": [entry]}), ("oci-layout", {"imageLayoutVersion": "1.0.0"}):
        with open(f"{place}/{name}", "w") as file:
            json.dump(document, file)


def make_derivations(place, count):
    """An expression of so many derivations, each built from two others, and the store with them."""
    lines = [f'd{n} = mk "d{n}" [ {f"d{n - 1} d{n // 2}" if n else ""} ];' for n in range(count)]
    mk = 'mk = name: ins: derivation { inherit name ins; system = "x86_64-linux"; builder = "/bin/sh"; };'
    with open(f"{place}/many.nix", "w") as file:
        file.write("let\n" + mk + "\n" + "\n".join(lines) + f"\nin d{count - 1}\n")
    return run(["nix-instantiate", f"{place}/many.nix", "--store", f"{place}/drvs"]).split("\n")[-1].split("!")[0]


class Bench:
    def __init__(self, asked, place):
        self.asked, self.place, self.rows = asked, place, []
        self.out = f"{place}/out"

    def clean(self):
        if os.path.isdir(self.out) and not os.path.islink(self.out):
            subprocess.run(["chmod", "-R", "u+w", self.out], check=True)
            shutil.rmtree(self.out)
        elif os.path.lexists(self.out):
            os.remove(self.out)

    def once(self, words):
        self.clean()
        start = time.monotonic()
        run(words)
        return time.monotonic() - start

    def memory(self, words):
        self.clean()
        return int(run([f"{self.asked.tools}/job", "1", "@measure", *words]).split()[2]) / 1024

    def row(self, name, ours, theirs, bar):
        """`theirs`: a command, or a line for sh."""
        if self.asked.only and self.asked.only not in name:
            return
        theirs = ["sh", "-c", theirs] if isinstance(theirs, str) else theirs
        ours = [OURS, "emergence", *ours] if ours[0] != "taskset" else ours
        if not shutil.which(theirs[0]):
            print(f"{name:34} {theirs[0]} is not here")
            return
        times = [(self.once(ours), self.once(theirs)) for _ in range(self.asked.rounds)]
        one, other = min(time[0] for time in times), min(time[1] for time in times)
        row = {"job": name, "ours": one, "theirs": other, "ratio": one / other, "bar": bar,
               "ours_mib": self.memory(ours), "theirs_mib": self.memory(theirs)}
        self.rows.append(row)
        verdict = "" if row["ratio"] <= bar else "  over the bar"
        print(f"{name:34} {one:8.3f} {other:8.3f} {row['ratio']:7.2f} {bar:5.2f} {row['ours_mib']:8.1f} {row['theirs_mib']:8.1f}{verdict}", flush=True)


def has(verb):
    return subprocess.run([OURS, "emergence", verb, "--help"], capture_output=True).returncode == 0


def main():
    parser = argparse.ArgumentParser(prog="hack/bench emergence")
    parser.add_argument("tools")
    parser.add_argument("--scale", type=float, default=0.25, help="of the tree; 1 is 55 000 entries and 703 MB [0.25]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="jobs with this word in their name")
    parser.add_argument("--json", help="file for the figures")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as place:
        bench = Bench(asked, place)
        measure(bench, place, asked)
        bench.clean()
        subprocess.run(["chmod", "-R", "u+w", place], check=True)
    if asked.json:
        with open(asked.json, "w") as file:
            json.dump(bench.rows, file, indent=1)


def measure(bench, place, asked):
    tree, out, wanted = f"{place}/A", bench.out, lambda word: not asked.only or asked.only in word
    make_tree(tree, asked.scale)
    run(["sh", "-c", f"nix-store --dump {tree} > {place}/A.nar"])
    cpus = len(os.sched_getaffinity(0))
    print(f"{'job':34} {'ours s':>8} {'theirs s':>8} {'ratio':>7} {'bar':>5} {'MiB':>8} {'theirs':>8}")
    bench.row("hash: nix hash path", ["hash", tree], [*NIX, "hash", "path", tree], 0.6 if cpus > 1 else 0.9)
    bench.row("hash, one processor: nix hash path", ["taskset", "-c", "0", OURS, "emergence", "hash", tree],
              ["taskset", "-c", "0", *NIX, "hash", "path", tree], 0.9)
    bench.row("hash: dump | sha256sum", ["hash", tree], f"nix-store --dump {tree} | sha256sum", 0.2)
    bench.row("hash --flat: openssl", ["hash", "--flat", f"{place}/A.nar"], ["openssl", "sha256", f"{place}/A.nar"], 1.1)
    bench.row("verify nar: openssl", ["verify", f"nar:{place}/A.nar"], ["openssl", "sha256", f"{place}/A.nar"], 1.1)
    bench.row("nar restore: nix-store", ["nar", "restore", f"{place}/A.nar", out],
              f"nix-store --restore {out} < {place}/A.nar", 0.8)
    if wanted("unpack oci: umoci"):
        make_layout(f"{place}/layout", tree)
        bench.row("unpack oci: umoci", ["unpack", f"oci:{place}/layout:t", "--to", out],
                  ["umoci", "raw", "unpack", "--image", f"{place}/layout:t", out], 0.4)
    if has("import") and any(wanted(f"import cache, {how}: nix copy") for how in ("none", "zstd")):
        path = run(["nix-store", "--store", f"{place}/source", "--add", tree])
        for how in "none", "zstd":
            cache = f"{place}/cache-{how}"
            run([*NIX, "copy", "--from", f"{place}/source", "--to", f"file://{cache}?compression={how}", path])
            bench.row(f"import cache, {how}: nix copy", ["import", "--store", out, "--sync", "none", f"cache:{cache}#{path}"],
                      [*NIX, "copy", "--no-check-sigs", "--from", f"file://{cache}", "--to", out, path], 0.5)
    if wanted("drv check: nix-instantiate"):
        drv = make_derivations(place, 1000)
        bench.row("drv check: nix-instantiate", ["drv", "check", f"{place}/drvs{drv}"],
                  ["nix-instantiate", f"{place}/many.nix", "--store", out], 0.2)
    if has("run") and wanted("run, imported: run of the bundle") and os.geteuid() == 0:
        start_imported(place)


def start_imported(place):
    """What `emergence run` of something that the store has adds to `run` of its bundle, by the medians; the bar is 3 ms."""
    at, store = f"{place}/start", f"{place}/start-store"
    os.makedirs(f"{at}/tree/bin")
    shutil.copy(shutil.which("busybox"), f"{at}/tree/bin/true")
    with open(f"{at}/spec.json", "w") as file:
        json.dump({"schemaVersion": 1, "name": "t", "outputs": {"out": "@t"}, "init": {"entrypoint": ["@t/bin/true"]},
                   "declaration": {"kind": "opaque", "inputs": []}}, file)
    ours = [OURS, "--root", f"{at}/state", "emergence", "--store", store]
    run([*ours, "pack", "--spec", f"{at}/spec.json", "--tree", f"t={at}/tree", "--output", f"oci:{at}/image:1"])
    path = run([*ours, "import", f"oci:{at}/image:1"]).strip()
    run([*ours, "bundle", f"store:{path}", f"{at}/bundle", "--", f"{path}/bin/true"])
    plain = [OURS, "--root", f"{at}/state", "run", "-b", f"{at}/bundle", "bench"]
    imported = [*ours, "run", f"store:{path}", "bench", "--", f"{path}/bin/true"]
    times = []
    for _ in range(60):
        row = []
        for words in imported, plain:
            start = time.monotonic()
            run(words)
            row.append(time.monotonic() - start)
        times.append(row)
    one, other = (statistics.median(column) * 1000 for column in zip(*times))
    verdict = "" if one - other <= 3 else "  over the bar"
    print(f"run, imported: run of the bundle   {one:.1f} ms to {other:.1f} ms: {one - other:+.1f} ms, bar +3.0{verdict}")


main()
