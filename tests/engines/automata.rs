//! Automata as ordinary images: from a registry into podman, into containerd and Docker, and
//! checked again before they start.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::docker::{Docker, docker};
use crate::podman::Podman;
use crate::support::{Output, Runtime, call, name, on_both, shell, until};

/// busybox as an automaton, in a layout with the tag 1, and imported into the store STORE.
struct Automaton {
    directory: tempfile::TempDir,
    /// The digest A.
    digest: &'static str,
    /// `--annotation NAME=VALUE` for each that its manifest has.
    annotations: Vec<&'static str>,
}

/// What it prints.
const PRINTS: &str = "hello from an automaton";

/// The store that has it, below its directory; any other has nothing.
const STORE: &str = "store";

impl Automaton {
    /// The one of all tests: packing takes a while here.
    fn get() -> &'static Self {
        static PACKED: OnceLock<Automaton> = OnceLock::new();
        PACKED.get_or_init(Self::pack)
    }

    fn pack() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("hello/bin");
        fs::create_dir_all(&tree).unwrap();
        fs::copy("/bin/busybox", tree.join("busybox")).unwrap();
        symlink("busybox", tree.join("sh")).unwrap();
        let document = r#"{"schemaVersion": 1, "name": "hello",
            "declaration": {"kind": "opaque", "inputs": [{"path": "./hello/bin/busybox"}]},
            "outputs": {"out": "@hello"},
            "init": {"entrypoint": ["@hello/bin/sh", "-c", "echo $0 from an automaton"], "args": ["{name}"]},
            "parameters": [{"name": "name", "type": "string", "default": "hello"}]}"#;
        fs::write(directory.path().join("hello.json"), document).unwrap();
        let mut made = Self { directory, digest: "", annotations: Vec::new() };
        let (at, ours) = (made.path(""), Runtime::Ours.path());
        // Not compressed: skopeo and the engines would spend minutes on it here.
        let pack = "pack --spec hello.json --tree hello=hello --pin --compress none --output oci:image:1";
        shell(&format!("cd {at} && {ours} emergence {pack} && tar -C image -cf image.tar .")).ok();
        let manifest = call("skopeo", &["inspect", "--raw", &made.image()]).ok();
        let manifest: serde_json::Value = serde_json::from_str(&manifest.stdout).unwrap();
        for (name, value) in manifest["annotations"].as_object().unwrap() {
            let value = value.as_str().unwrap();
            if name == "com.matrixai.emergence.automaton" {
                made.digest = value.to_owned().leak();
            }
            made.annotations.extend(["--annotation", format!("{name}={value}").leak()]);
        }
        made.emergence(&["import", &made.image()]).ok();
        made
    }

    fn path(&self, below: &str) -> String {
        self.directory.path().join(below).to_str().unwrap().to_owned()
    }

    fn image(&self) -> String {
        format!("oci:{}:1", self.path("image"))
    }

    /// One of our verbs.
    fn emergence(&self, args: &[&str]) -> Output {
        call(Runtime::Ours.path(), &[&["emergence", "--store", &self.path(STORE)], args].concat())
    }

    /// The engine's options that make the runtime check; `what`: such as `verify=full`.
    fn asks(&self, what: &str, store: &str) -> Vec<&'static str> {
        let asked = |what: String| ["--annotation", format!("com.matrixai.emergence.{what}").leak()];
        [what.to_owned(), format!("store={}", self.path(store))].map(asked).concat()
    }

    /// What the owner of a machine says who wants everything checked, as far as that store knows.
    fn demand(&self, store: &str) -> String {
        format!(r#"{{"verify": "full", "store": "{}"}}"#, self.path(store))
    }
}

/// The words of a program on a machine whose owner has the directory `machine` at /etc/emergence.
fn on_owners_machine(machine: &Path, program: &[&str]) -> Vec<String> {
    fs::create_dir_all("/etc/emergence").unwrap();
    let bind = format!("mount --bind {} /etc/emergence && exec \"$@\"", machine.display());
    let first = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", &bind, "sh"];
    [&first, program].concat().into_iter().map(str::to_owned).collect()
}

/// A server on its own, with nothing in it; ended when it is dropped.
struct Server(Child);

impl Server {
    fn start(program: &mut Command) -> Self {
        Self(program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A registry on loopback that keeps what it gets below `directory`, and its address.
fn registry(directory: &Path) -> (Server, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let place = directory.join("registry");
    let settings = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
        place.display()
    );
    let file = directory.join("registry.yml");
    fs::write(&file, settings).unwrap();
    let server = Server::start(Command::new("docker-registry").arg("serve").arg(&file));
    until("the registry answers", || TcpStream::connect(&address).is_ok());
    (server, address)
}

/// Asserts that the runtime refused to create a container.
#[track_caller]
fn refused(output: Output, code: &str) {
    assert_ne!(output.code, 0, "{output:?}");
    output.says(code);
}

/// `run` of an engine, with the options that a test gives.
const RUN: [&str; 4] = ["run", "--rm", "--network", "none"];

on_both! { Podman::new; podman_from_a_registry }

fn podman_from_a_registry(podman: &Podman) {
    let automaton = Automaton::get();
    let directory = tempfile::tempdir().unwrap();
    let (_server, address) = registry(directory.path());
    let image = format!("{address}/hello:1");
    let remote = format!("docker://{image}");
    let copy = ["copy", "--preserve-digests", "--dest-tls-verify=false", "--src-tls-verify=false"];
    call("skopeo", &[&copy[..], &[&automaton.image(), &remote]].concat()).ok();
    // What comes back is what went there, byte for byte.
    let back = format!("oci:{}:1", directory.path().join("back").display());
    call("skopeo", &[&copy[..], &[&remote, &back]].concat()).ok();
    let same = automaton.emergence(&["same", &back, &automaton.image()]).ok();
    assert!(!same.stdout.contains("differs"), "{same:?}");
    podman.call(&["pull", "--tls-verify=false", &image]).ok();
    podman.call(&[&RUN[..], &[&image]].concat()).ok().prints(PRINTS);
}

/// Makes a test of each function, named as [`on_both`] names them: what they are about only this
/// runtime has.
macro_rules! on_ours {
    ($($name:ident)*) => { $(
        mod $name {
            #[test]
            fn ours() {
                if crate::support::in_machine() {
                    super::$name();
                }
            }
        }
    )* };
}

on_ours! { podman_checks_again podman_on_an_owners_machine containerd_on_an_owners_machine docker_checks_again }

/// The automaton in podman's own store; its id.
fn pulled(podman: &Podman) -> String {
    podman.call(&["pull", "--quiet", &Automaton::get().image()]).ok().text().to_owned()
}

/// podman keeps an image's annotations to itself since 4.5.1: who starts the container gives them,
/// or the store knows the objects.
fn podman_checks_again() {
    let automaton = Automaton::get();
    let podman = Podman::new(Runtime::Ours);
    let image = pulled(&podman);
    let run = |annotations: &[&str]| podman.call(&[&RUN, annotations, &[&image]].concat());
    let full = automaton.asks("verify=full", "none");
    refused(run(&full), "trust.unproved");
    run(&[full, automaton.annotations.clone()].concat()).ok().prints(PRINTS);
    run(&automaton.asks(&format!("expect={}", automaton.digest), STORE)).ok().prints(PRINTS);

    // The engine's copy of a file, changed.
    let (container, full) = (name(), automaton.asks("verify=full", STORE));
    podman.call(&[&["create", "--name", &container], &full[..], &[&image]].concat()).ok();
    let root = podman.call(&["mount", &container]).ok().text().to_owned();
    let file = format!("$(echo {root}/nix/store/*-hello/bin/busybox)");
    shell(&format!("printf X | dd of={file} bs=1 seek=5000 conv=notrunc")).ok();
    podman.call(&["umount", &container]).ok();
    refused(podman.call(&["start", "--attach", &container]), "nar.hash");
    podman.call(&["rm", &container]).ok();
}

fn podman_on_an_owners_machine() {
    let automaton = Automaton::get();
    let image = pulled(&Podman::new(Runtime::Ours));
    let machine = tempfile::tempdir().unwrap();
    let run = |demand: &str, image: &[&str]| {
        fs::write(machine.path().join("runtime.json"), demand).unwrap();
        let podman = [&["podman", "--runtime", Runtime::Ours.path()], &RUN[..], image].concat();
        let words = on_owners_machine(machine.path(), &podman);
        call(&words[0], &words[1..].iter().map(String::as_str).collect::<Vec<_>>())
    };
    refused(run(&automaton.demand("none"), &[&image]), "trust.unproved");
    run(&automaton.demand(STORE), &[&image]).ok().prints(PRINTS);
    // An ordinary image has no store paths, and nothing to prove; a signature can be demanded of
    // it, which it lacks.
    let ordinary = ["localhost/busybox", "echo", "ordinary"];
    run(&automaton.demand(STORE), &ordinary).ok().prints("ordinary");
    refused(run(r#"{"signature": []}"#, &ordinary), "trust.policy");
}

/// A containerd of its own, as what it starts reads the owner's file.
fn containerd_on_an_owners_machine() {
    let automaton = Automaton::get();
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display();
    let settings = format!(
        "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{at}/socket\"\n"
    );
    let file = format!("{at}/containerd.toml");
    fs::write(&file, settings).unwrap();
    let demand =
        |store: &str| fs::write(directory.path().join("runtime.json"), automaton.demand(store)).unwrap();
    demand("none");
    let words = on_owners_machine(directory.path(), &["containerd", "--config", &file]);
    let _server = Server::start(Command::new(&words[0]).args(&words[1..]));
    let socket = format!("{at}/socket");
    let ctr = |args: &[&str]| call("ctr", &[&["--address", &socket], args].concat());
    until("containerd answers", || ctr(&["version"]).code == 0);

    ctr(&["image", "import", "--base-name", "docker.io/library/hello", &automaton.path("image.tar")]).ok();
    ctr(&["image", "import", "/srv/busybox.oci.tar"]).ok();
    let run = |options: &[&str], image: &str, program: &[&str]| {
        let first = ["run", "--rm", "--runc-binary", Runtime::Ours.path()];
        ctr(&[&first, options, &[image, &name()], program].concat())
    };
    let hello = "docker.io/library/hello:1";
    run(&[], "docker.io/library/busybox:latest", &["echo", "ordinary"]).ok().prints("ordinary");
    refused(run(&[], hello, &[]), "trust.unproved");
    run(&automaton.annotations, hello, &[]).ok().prints(PRINTS);
    demand(STORE);
    run(&[], hello, &[]).ok().prints(PRINTS);
}

fn docker_checks_again() {
    let automaton = Automaton::get();
    let _steady = Docker::new(Runtime::Ours);
    let image = format!("{}:1", name());
    let archive = automaton.path("docker.tar");
    call("skopeo", &["copy", &automaton.image(), &format!("docker-archive:{archive}:{image}")]).ok();
    docker(&["load", "--input", &archive]).ok();
    let run = |annotations: &[&str]| {
        docker(&[&RUN[..], &["--runtime", Runtime::Ours.name()], annotations, &[&image]].concat())
    };
    let full = automaton.asks("verify=full", "none");
    refused(run(&full), "trust.unproved");
    run(&[full, automaton.annotations.clone()].concat()).ok().prints(PRINTS);
    docker(&["rmi", &image]).ok();
}
