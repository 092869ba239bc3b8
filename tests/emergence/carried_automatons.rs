//! Automata copied by other tools and through a registry.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::automatons::{Work, report};
use crate::support::{emergence, text};

#[test]
fn other_tools_carry_it() {
    let work = Work::new();
    let skopeo = |words: &[&str]| {
        let done = Command::new("skopeo").arg("--insecure-policy").args(words).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    for form in ["image", "artifact"] {
        let from = format!("{}:{form}", work.output("out"));
        let digest = work.pack(&from, &["--form", form]).ok().to_owned();
        let archive = format!("oci-archive:{}:{form}", work.text(&format!("{form}.tar")));
        skopeo(&["copy", "--preserve-digests", &from, &archive]);
        assert_eq!(emergence(&["verify", &archive]).ok(), format!("ok {digest}"));
        let dir = format!("dir:{}", work.text(&format!("{form}-dir")));
        skopeo(&["copy", "--preserve-digests", &archive, &dir]);
        let back = format!("{}:back-{form}", work.output("back"));
        skopeo(&["copy", "--preserve-digests", &dir, &back]);
        assert_eq!(emergence(&["verify", &back]).ok(), format!("ok {digest}"));
    }
    // umoci makes the same tree of the image.
    let raw = work.text("raw");
    let image = format!("{}:image", work.text("out"));
    let done = Command::new("umoci").args(["raw", "unpack", "--image", &image, &raw]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let to = work.text("to");
    emergence(&["unpack", &format!("oci:{image}"), "--to", &to]).ok();
    for object in report(&format!("oci:{image}"), &[])["objects"].as_array().unwrap() {
        let path = text(&object["path"]);
        for root in [&raw, &to] {
            assert_eq!(emergence(&["hash", &format!("{root}{path}")]).ok(), text(&object["narHash"]));
        }
    }
}

/// A registry of its own, on a port that the kernel gives.
struct Registry(std::process::Child, u16);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Registry {
    fn start(work: &Work) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            work.text("registry")
        );
        fs::write(work.path("registry.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", &work.text("registry.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self(child, port);
        for _ in 0..600 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return registry;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("no registry answers");
    }
}

#[test]
fn a_registry_carries_it() {
    let work = Work::new();
    let registry = Registry::start(&work);
    for form in ["image", "artifact"] {
        let from = format!("{}:{form}", work.output("out"));
        let digest = work.pack(&from, &["--form", form]).ok().to_owned();
        let there = format!("docker://127.0.0.1:{}/greeter:{form}", registry.1);
        let back = format!("{}:{form}", work.output("back"));
        for (from, to) in [(&from, &there), (&there, &back)] {
            let done = Command::new("skopeo")
                .args([
                    "--insecure-policy",
                    "copy",
                    "--preserve-digests",
                    "--src-tls-verify=false",
                    "--dest-tls-verify=false",
                    from,
                    to,
                ])
                .output()
                .unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        assert_eq!(emergence(&["verify", &back]).ok(), format!("ok {digest}"));
        let index: Value = serde_json::from_slice(&fs::read(work.path("back/index.json")).unwrap()).unwrap();
        let entry = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| text(&entry["digest"]) == digest)
            .unwrap();
        let manifest =
            fs::read(work.path("back/blobs").join(text(&entry["digest"]).replace(':', "/"))).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["artifactType"], "application/vnd.matrixai.automaton.v1");
    }
}
