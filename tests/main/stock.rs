//! Programs as Debian ships them, in a container as Docker makes it: its default profile,
//! capabilities and masked paths.
//!
//! Needs the tree that `hack/test-tree stock` makes (mmdebstrap, a mirror of Debian). Not in the
//! test machine, which has no mirror.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Bundle, Env, on_test_machine};

/// Docker's default ones.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The file that `hack/test-tree stock` makes, once; `None`, with the reason, where it cannot be
/// had.
fn tree(env: &Env) -> Option<String> {
    if on_test_machine() {
        println!("skipped: no mirror of Debian here");
        return None;
    }
    let ask = |more: &[&str]| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/test-tree");
        let output = Command::new(script).arg("stock").args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let there = Path::new(&ask(&["--path"])).exists() || env.has("mmdebstrap", "mmdebstrap");
    there.then(|| ask(&[]))
}

/// A container of that tree as Docker would make it.
fn docker_like(env: &Env, tree: &str) -> Bundle {
    let bundle = env.bundle(&["true"]);
    let root = bundle.rootfs("");
    fs::remove_dir_all(&root).unwrap();
    fs::create_dir(&root).unwrap();
    env.program("tar", &["-xf", tree, "-C", root.to_str().unwrap()]).run().ok();
    let profile: Value = serde_json::from_str(include_str!("../seccomp/profiles/docker.json")).unwrap();
    let mut bundle = bundle
        .set("linux/seccomp", profile)
        .set("linux/maskedPaths", json!(MASKED))
        .set("linux/readonlyPaths", json!(READ_ONLY))
        .set("process/noNewPrivileges", json!(false))
        .set("process/env", json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]));
    bundle.config["process"]["capabilities"] =
        json!({"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES});
    bundle
}

const APT: &str = r#"
set -e
mkdir -p /made/DEBIAN /made/usr/share/greeting /repository
echo hello > /made/usr/share/greeting/text
printf 'Package: greeting\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: a text\n' \
    > /made/DEBIAN/control
printf '#!/bin/sh\nchown www-data /usr/share/greeting/text\n' > /made/DEBIAN/postinst
chmod 755 /made/DEBIAN/postinst
cd /repository
dpkg-deb --build /made greeting.deb >/dev/null
{ cat /made/DEBIAN/control; echo "Filename: ./greeting.deb"; echo "Size: $(stat -c %s greeting.deb)"
  echo "SHA256: $(sha256sum greeting.deb | cut -d' ' -f1)"; } > Packages
rm -rf /etc/apt/sources.list.d
echo 'deb [trusted=yes] file:/repository ./' > /etc/apt/sources.list
export DEBIAN_FRONTEND=noninteractive
apt-get -q update >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
! grep -q '^[WE]:' /tmp/log || { cat /tmp/log; exit 1; }
apt-get -q -y install greeting >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
stat -c '%U' /usr/share/greeting/text
apt-get -q check >/dev/null
apt-get -q -y remove greeting >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
test ! -e /usr/share/greeting/text
echo installed and removed
"#;

const PYTHON: &str = r#"
import asyncio, ctypes, multiprocessing, os, random, socket, subprocess, sys, tempfile, threading, time

def threads():
    together, count = threading.Barrier(20), []
    def work():
        together.wait()
        count.append(1)
    several = [threading.Thread(target=work) for _ in range(20)]
    for thread in several: thread.start()
    for thread in several: thread.join()
    return len(count)

def children():
    said = subprocess.run(["sh", "-c", "cat; echo $$ >&2; exit 3"], input=b"in", capture_output=True)
    return said.stdout.decode(), said.returncode

def sockets():
    kinds = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0)), (socket.AF_UNIX, "/tmp/socket")]
    heard = []
    for family, address in kinds:
        with socket.socket(family) as server:
            try:
                server.bind(address)
            except OSError as error:
                if family != socket.AF_INET6: raise
                continue  # no IPv6 on this machine
            server.listen()
            with socket.socket(family) as caller:
                caller.connect(server.getsockname())
                caller.sendall(b"hello")
                heard.append(server.accept()[0].recv(10))
    return set(heard)

async def served():
    async def answer(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async def ask(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{number}\n".encode())
        return int(await reader.readline())
    answers = await asyncio.gather(*(ask(number) for number in range(30)))
    child = await asyncio.create_subprocess_exec("true")
    return sum(answers), await child.wait()

def refused():
    # add_key(2), which a kernel without the filter answers with EFAULT.
    number = {"x86_64": 248, "aarch64": 217}[os.uname().machine]
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.syscall(number, 0, 0, 0, 0, 0), os.strerror(ctypes.get_errno())

if __name__ == "__main__":
    print(*refused())
    print(threads(), children(), sockets(), asyncio.run(served()))
    with multiprocessing.Pool(3) as pool:
        print(pool.map(abs, [-1, -2, -3]))
    with tempfile.NamedTemporaryFile() as file:
        os.sendfile(file.fileno(), os.open("/etc/passwd", os.O_RDONLY), 0, 10)
        print(os.stat(file.name).st_size, len(os.urandom(8)), os.cpu_count() > 0, time.monotonic() > 0)
"#;

const NGINX: &str = r#"
set -e
echo 'a page' > /var/www/html/index.html
nginx
grep -h Seccomp: /proc/$(cat /run/nginx.pid)/status
# A worker begins as root.
for i in $(seq 100); do
    ps_user=$(stat -c %U /proc/$(cat /proc/$(cat /run/nginx.pid)/task/*/children | cut -d' ' -f1))
    [ "$ps_user" = root ] || break
    sleep 0.1
done
echo "a worker of $ps_user"
python3 -c 'import urllib.request as r; print(r.urlopen("http://127.0.0.1/", timeout=10).read().decode().strip())'
nginx -s reload
python3 -c 'import urllib.request as r; print(r.urlopen("http://127.0.0.1/", timeout=10).status)'
nginx -s quit
for i in $(seq 100); do [ -e /run/nginx.pid ] || break; sleep 0.1; done
test ! -e /run/nginx.pid
echo stopped
test ! -s /var/log/nginx/error.log || ! grep -v '\[notice\]' /var/log/nginx/error.log
"#;

const POSTGRES: &str = r#"
set -e
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
id -un
cd /tmp
initdb --no-sync --auth trust -D /tmp/data >/tmp/postgres.log 2>&1 || { cat /tmp/postgres.log; exit 1; }
pg_ctl -D /tmp/data -l /tmp/postgres.log -o '-k /tmp' -w start >/dev/null || { cat /tmp/postgres.log; exit 1; }
psql -h /tmp -qAt -d postgres -c 'create table numbers as select generate_series(1, 1000) as n' -c 'select sum(n) from numbers'
psql -h 127.0.0.1 -qAt -d postgres -c 'set max_parallel_workers_per_gather = 2' -c 'set min_parallel_table_scan_size = 0' \
    -c 'set parallel_setup_cost = 0' -c 'set parallel_tuple_cost = 0' -c 'select count(*) from numbers where n % 2 = 0'
pg_ctl -D /tmp/data -w stop -m fast >/dev/null
echo stopped
"#;

#[test]
fn stock_programs_under_dockers_profile() {
    let Some(env) = Env::new() else { return };
    let Some(tree) = tree(&env) else { return };
    let mut bundle = docker_like(&env, &tree);
    let run = |bundle: &mut Bundle, args: &[&str]| {
        bundle.config["process"]["args"] = json!(args);
        env.run(bundle).ok().text().to_owned()
    };
    assert_eq!(run(&mut bundle, &["sh", "-c", APT]), "www-data\ninstalled and removed");

    fs::write(bundle.rootfs("program.py"), PYTHON).unwrap();
    assert_eq!(
        run(&mut bundle, &["python3", "/program.py"]),
        "-1 Operation not permitted\n20 ('in', 3) {b'hello'} (435, 0)\n[1, 2, 3]\n10 8 True True"
    );

    assert_eq!(
        run(&mut bundle, &["sh", "-c", NGINX]),
        "Seccomp:\t2\na worker of www-data\na page\n200\nstopped"
    );

    let passwd = fs::read_to_string(bundle.rootfs("etc/passwd")).unwrap();
    let line = passwd.lines().find(|line| line.starts_with("postgres:")).unwrap();
    let id = |at: usize| line.split(':').nth(at).unwrap().parse::<u32>().unwrap();
    bundle.config["process"]["user"] = json!({"uid": id(2), "gid": id(3)});
    assert_eq!(run(&mut bundle, &["sh", "-c", POSTGRES]), "postgres\n500500\n500\nstopped");
}
