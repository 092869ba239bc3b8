//! Bundles that other programs made: umoci from an OCI image, `runc spec`, podman.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{Bundle, Env, until};

/// Runs a tool on the host that may take long, which must succeed; the value is what it printed.
#[track_caller]
fn tool(program: &str, args: &[&str], directory: &Path) -> String {
    let output = Command::new(program).args(args).current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A small Debian with python3, as umoci unpacks it from an image whose only layer it is.
fn debian(env: &Env) -> Bundle {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = tool("hack/test-tree", &[], here);
    let umoci = |args: &[&str]| tool("umoci", args, env.dir());
    umoci(&["init", "--layout", "image"]);
    umoci(&["new", "--image", "image:debian"]);
    umoci(&["raw", "add-layer", "--image", "image:debian", &tree]);
    umoci(&[
        "config",
        "--image",
        "image:debian",
        "--config.env",
        "COLOUR=blue",
        "--config.workingdir",
        "/tmp",
    ]);
    umoci(&["unpack", "--image", "image:debian", "bundle"]);
    env.adopt(env.dir().join("bundle"))
}

const FIFTY_THREADS: &str = "
import threading
together = threading.Barrier(50)
count = []
def work():
    together.wait()
    count.append(1)
threads = [threading.Thread(target=work) for _ in range(50)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(count), 'threads')
";

const LOOPBACK: &str = "
import socket, threading
server = socket.create_server(('127.0.0.1', 8080))
def serve():
    with server.accept()[0] as caller:
        caller.sendall(b'you said ' + caller.recv(100))
thread = threading.Thread(target=serve)
thread.start()
with socket.create_connection(('127.0.0.1', 8080)) as caller:
    caller.sendall(b'hello')
    print(caller.recv(100).decode())
thread.join()
";

#[test]
fn an_image_of_debian_unpacked_by_umoci() {
    let Some(env) = Env::new() else { return };
    let tree = tool("hack/test-tree", &["--path"], Path::new(env!("CARGO_MANIFEST_DIR")));
    if !env.has("umoci", "umoci") || !(Path::new(&tree).exists() || env.has("mmdebstrap", "mmdebstrap")) {
        return;
    }
    let mut bundle = debian(&env);
    let mut run = |args: &[&str]| {
        bundle.config["process"]["args"] = json!(args);
        env.run(&bundle).ok().text().to_owned()
    };
    assert_eq!(run(&["sh", "-c", "echo $COLOUR; pwd; id -u"]), "blue\n/tmp\n0");
    let version = run(&["apt-get", "--version"]);
    assert!(version.starts_with("apt "), "{version}");
    assert_eq!(run(&["python3", "-c", FIFTY_THREADS]), "50 threads");
    assert_eq!(run(&["python3", "-c", LOOPBACK]), "you said hello");
}

#[test]
fn the_configuration_of_runc_spec() {
    let Some(env) = Env::new() else { return };
    if !env.has("runc", "runc") || !env.has("script", "bsdutils") {
        return;
    }
    let bundle = env.script("");
    fs::remove_file(bundle.path().join("config.json")).unwrap();
    env.program("runc", &["spec"]).cwd(bundle.path()).run().ok();
    let bundle = env.adopt(bundle.path().to_owned());
    // As it is written it wants a terminal and runs sh.
    let bundle = bundle.set("process/terminal", json!(true));
    bundle.write();
    let input = env.dir().join("typed");
    fs::write(&input, "hostname; touch /new; exit 5\n").unwrap();
    let command = format!(
        "{} --root {} run -b {} web; echo status $?",
        env.binary().display(),
        env.root().display(),
        bundle.str()
    );
    let typed = fs::File::open(&input).unwrap();
    let said = env.program("script", &["-qc", &command, "/dev/null"]).stdin(typed.into()).run().stdout;
    assert!(said.contains("\nrunc\r") || said.contains("\rrunc\r"), "its host name: {said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.contains("status 5"), "{said}");
}

/// podman with all of its state in the test's directory.
struct Podman<'a> {
    env: &'a Env,
    options: Vec<String>,
    config: PathBuf,
}

impl<'a> Podman<'a> {
    fn new(env: &'a Env) -> Self {
        // podman lowers its own limits to these, and asks for higher ones where no default is
        // given; to raise a limit takes CAP_SYS_RESOURCE, which not every machine grants root.
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let processes = rustix::process::getrlimit(rustix::process::Resource::Nproc);
        let least = |limit: rustix::process::Rlimit, most: u64| limit.maximum.unwrap_or(most).min(most);
        let (files, processes) = (least(files, 1 << 20), least(processes, 32768));
        let config = env.dir().join("containers.conf");
        let text = format!(
            "[containers]\npids_limit = 0\ndefault_ulimits = [\"nofile={files}:{files}\", \"nproc={processes}:{processes}\"]\n\
             [engine]\nevents_logger = \"none\"\n"
        );
        fs::write(&config, text).unwrap();
        let place = |name: &str| env.dir().join("podman").join(name).to_str().unwrap().to_owned();
        let options = [
            ["--root".to_owned(), place("root")],
            ["--runroot".to_owned(), place("runroot")],
            ["--tmpdir".to_owned(), place("tmp")],
            ["--storage-driver".to_owned(), "vfs".to_owned()],
            ["--cgroup-manager".to_owned(), "cgroupfs".to_owned()],
            ["--runtime".to_owned(), env.binary().to_str().unwrap().to_owned()],
        ];
        Self { env, options: options.concat(), config }
    }

    fn run(&self, args: &[&str]) -> crate::support::Output {
        let mut all: Vec<&str> = self.options.iter().map(String::as_str).collect();
        all.extend(args);
        self.env.program("podman", &all).env("CONTAINERS_CONF", &self.config).run()
    }
}

#[test]
fn podman_create_init_start_kill_rm() {
    let Some(env) = Env::new() else { return };
    if !env.has("podman", "podman")
        || env.differs("crun", "1.8 asks for more locked memory with device rules")
    {
        return;
    }
    let bundle = env.script("");
    let podman = Podman::new(&env);
    let parent = env.cgroup_parent();
    let common = ["--cgroup-parent", &parent, "--network", "none", "--rootfs"];
    let rootfs = bundle.rootfs("");
    let rootfs = rootfs.to_str().unwrap();

    let script = "echo up >/up; trap 'echo down >/down; exit 4' TERM; while :; do usleep 10000; done";
    podman.run(&[&["create", "--name", "web"], &common[..], &[rootfs, "sh", "-c", script]].concat()).ok();
    podman.run(&["init", "web"]).ok();
    let status = || podman.run(&["inspect", "--format", "{{.State.Status}}", "web"]).ok().text().to_owned();
    assert_eq!(status(), "initialized");
    assert!(!bundle.rootfs("up").exists(), "the program waits for start");
    podman.run(&["start", "web"]).ok();
    until("the program runs", || bundle.rootfs("up").exists());
    assert_eq!(status(), "running");
    let runtime = podman.run(&["inspect", "--format", "{{.OCIRuntime}}", "web"]).ok();
    assert_eq!(runtime.text(), env.binary().to_str().unwrap());
    // The signal may arrive before the shell has set its trap, so it is repeated until the shell
    // answers.
    until("the program was told", || {
        podman.run(&["kill", "--signal", "TERM", "web"]);
        bundle.rootfs("down").exists()
    });
    podman.run(&["wait", "web"]).ok().prints("4");
    podman.run(&["rm", "web"]).ok();

    let run = [&["run", "--rm"], &common[..], &[rootfs, "sh", "-c", "echo hello; exit 3"]].concat();
    podman.run(&run).exits(3).prints("hello");
    // podman's own, which older ones leave to the next container.
    env.shell(&format!("cd /sys/fs/cgroup{parent} && if [ -d conmon ]; then rmdir conmon; fi")).ok();
}
