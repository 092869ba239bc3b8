//! Automata as images: packed, pushed to a registry, pulled by podman, run there, and checked again before they start.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use crate::podman::Podman;
use crate::support::{Runtime, call, in_machine, name, shell, until};

/// A registry on loopback with nothing in it; ends when it is dropped.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start(folder: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let settings = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\nhttp: {{addr: \"{address}\"}}\n"
        );
        fs::write(format!("{folder}/registry.yml"), settings).unwrap();
        let process = Command::new("docker-registry")
            .args(["serve", &format!("{folder}/registry.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { process, address };
        until("the registry answers", || std::net::TcpStream::connect(&registry.address).is_ok());
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Packs busybox as an automaton into the layout `image` below `folder`, with the tag 1.
fn pack(folder: &str) {
    fs::create_dir_all(format!("{folder}/hello/bin")).unwrap();
    fs::copy("/bin/busybox", format!("{folder}/hello/bin/busybox")).unwrap();
    for applet in ["sh", "echo", "ls", "sleep"] {
        symlink("busybox", format!("{folder}/hello/bin/{applet}")).unwrap();
    }
    let document = r#"{"schemaVersion": 1, "name": "hello",
        "declaration": {"kind": "opaque", "inputs": [{"path": "./hello/bin/busybox"}]},
        "outputs": {"out": "@hello"},
        "init": {"entrypoint": ["@hello/bin/sh", "-c", "echo $0 from an automaton"], "args": ["{name}"]},
        "parameters": [{"name": "name", "type": "string", "default": "hello"}]}"#;
    fs::write(format!("{folder}/hello.json"), document).unwrap();
    shell(&format!(
        "cd {folder} && {} emergence pack --spec hello.json --tree hello=hello --pin --output oci:image:1",
        Runtime::Ours.path()
    ))
    .ok();
}

#[test]
fn from_a_registry_to_podman() {
    if !in_machine() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    pack(folder);
    let registry = Registry::start(folder);
    let image = format!("{}/hello:1", registry.address);
    let remote = format!("docker://{image}");
    call("skopeo", &["copy", "--dest-tls-verify=false", &format!("oci:{folder}/image:1"), &remote]).ok();
    // What comes back is what went there, byte for byte.
    let back = format!("oci:{folder}/back:1");
    call("skopeo", &["copy", "--src-tls-verify=false", "--preserve-digests", &remote, &back]).ok();
    let ours = Runtime::Ours.path();
    call(ours, &["emergence", "verify", &back]).ok();
    let same = call(ours, &["emergence", "same", &back, &format!("oci:{folder}/image:1")]);
    assert!(!same.ok().stdout.contains("differs"));

    for runtime in [Runtime::Crun, Runtime::Ours] {
        let podman = Podman::new(runtime);
        podman.call(&["pull", "--tls-verify=false", &image]).ok();
        podman.call(&["run", "--rm", "--network", "none", &image]).prints("hello from an automaton");
    }
    call("podman", &["rmi", &image]).ok();
}

/// podman copies the annotations of the manifest, and the closure that stands there is held against the root file system.
#[test]
fn checked_again_before_it_starts() {
    if !in_machine() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    pack(folder);
    let podman = Podman::new(Runtime::Ours);
    let image = podman.call(&["pull", "--quiet", &format!("oci:{folder}/image:1")]).ok().text().to_owned();
    let full = ["--network", "none", "--annotation", "com.matrixai.emergence.verify=full"];
    podman.call(&[&["run", "--rm"], &full[..], &[&image]].concat()).prints("hello from an automaton");

    let container = name();
    podman.call(&[&["create", "--name", &container], &full[..], &[&image]].concat()).ok();
    let root = podman.call(&["mount", &container]).ok().text().to_owned();
    shell(&format!("printf X | dd of=$(ls -d {root}/nix/store/*)/bin/busybox bs=1 seek=5000 conv=notrunc"))
        .ok();
    podman.call(&["umount", &container]).ok();
    let refused = podman.call(&["start", "--attach", &container]);
    assert_ne!(refused.code, 0);
    refused.says("nar.hash");
    podman.call(&["rm", &container]).ok();
    call("podman", &["rmi", &image]).ok();
}
