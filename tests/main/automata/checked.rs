//! What `create` checks when an annotation or the machine's owner asks for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use emergence_runc::emergence::SecretKey;
use emergence_runc::emergence::automaton::sign;
use serde_json::{Value, json};

use super::{World, terms};
use crate::support::{Output, on_test_machine};

impl World {
    /// A bundle with more annotations; gives its directory.
    fn annotated(&self, reference: &str, name: &str, annotations: &[(&str, &str)]) -> String {
        let directory = self.text(name);
        self.emergence(&["bundle", reference, &directory]).ok();
        self.edit(name, |config| {
            for (name, value) in annotations {
                config["annotations"][format!("com.matrixai.emergence.{name}")] = json!(value);
            }
        });
        directory
    }

    fn edit(&self, bundle: &str, change: impl FnOnce(&mut Value)) {
        let file = self.path(bundle).join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        change(&mut config);
        fs::write(&file, config.to_string()).unwrap();
    }

    fn run_bundle(&self, directory: &str) -> Output {
        self.env.runtime(&["run", "--bundle", directory, &self.id("checked")])
    }

    fn annotation(&self, bundle: &str, name: &str) -> String {
        let config: Value =
            serde_json::from_slice(&fs::read(self.path(bundle).join("config.json")).unwrap()).unwrap();
        config["annotations"][format!("com.matrixai.emergence.{name}")]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The object in the store, from which its protection is taken.
    fn object(&self) -> std::path::PathBuf {
        let name = self.busybox();
        self.store().join(name.trim_start_matches('/'))
    }
}

#[test]
fn a_changed_object_is_not_created() {
    let Some(world) = World::new() else { return };
    let reference = world.script("app", "echo runs");
    for mode in ["full", "fast", "verity"] {
        let directory = world.annotated(&reference, mode, &[("verify", mode)]);
        world.run_bundle(&directory).ok().prints("runs");
        world.run_bundle(&directory).ok().prints("runs");
    }
    let file = world.object().join("bin/busybox");
    let good = fs::read(&file).unwrap();
    let mut bad = good.clone();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    // Not in place: other trees have the same inode.
    fs::remove_file(&file).unwrap();
    fs::write(&file, &bad).unwrap();
    let modes = fs::Permissions::from_mode(0o555);
    fs::set_permissions(&file, modes).unwrap();
    for mode in ["full", "fast", "verity"] {
        let output = world.run_bundle(&world.text(mode)).exits(1);
        assert!(output.stderr.contains("[nar.hash]"), "{mode}: {output:?}");
        assert_eq!(world.env.runtime(&["list", "-q"]).text(), "", "{mode}");
    }
    // Without a request nothing is checked.
    world.edit("full", |config| {
        config["annotations"].as_object_mut().unwrap().remove("com.matrixai.emergence.verify");
    });
    world.run_bundle(&world.text("full")).ok();
    fs::write(&file, &good).unwrap();
    world.run_bundle(&world.text("fast")).ok();
    // Seals go with their objects.
    let seals = || fs::read_dir(world.store().join("seals")).unwrap().count();
    assert_ne!(seals(), 0);
    world.emergence(&["gc"]).ok();
    assert_eq!(seals(), 0);
}

/// A small ext4 of the test's own at the store's place, whose files can be protected. False: this
/// kernel cannot.
fn protecting(world: &World) -> bool {
    let features = fs::read_to_string("/sys/fs/ext4/features/verity").unwrap_or_default();
    if !features.contains("supported") && !on_test_machine() {
        println!("skipped: this kernel has no fs-verity (runs in the test machine)");
        return false;
    }
    fs::create_dir(world.store()).unwrap();
    let image = world.text("ext4");
    world.env.shell(&format!("truncate -s 48M {image} && mkfs.ext4 -q -b 4096 -O verity {image}")).ok();
    world.env.mount(Path::new(&image), &world.store(), &["-o", "loop"]);
    world.env.shell(&format!("rmdir {}/lost+found", world.text("store"))).ok();
    true
}

/// What the kernel protects is hashed once, and then measured: what takes a file's place is not
/// what was measured.
#[test]
fn protected_by_the_file_system() {
    let Some(world) = World::new() else { return };
    if !protecting(&world) {
        return;
    }
    let reference = world.script("app", "echo runs");
    let directory = world.annotated(&reference, "b", &[("verify", "verity")]);
    world.run_bundle(&directory).ok().prints("runs");
    // The mount is in the namespace of the test's calls only.
    let file = world.object().join("bin/busybox");
    let (file, old) = (file.display(), world.text("old"));
    let seals = || {
        world.env.shell(&format!("cd {}/seals && grep -H '' *", world.text("store"))).ok().text().to_owned()
    };
    let first = seals();
    assert!(first.lines().count() == 1 && first.contains(".verity:"), "{first}");
    // Root itself cannot write to it, and it runs as before.
    let write = format!("echo x >>{file}");
    world.env.shell(&write).exits(2).says("not permitted");
    world.run_bundle(&directory).ok().prints("runs");
    assert_eq!(seals(), first);
    // In its place another file of the same size and time.
    let change = format!("printf X | dd of={file} bs=1 seek=5000 conv=notrunc && touch -r {old} {file}");
    world.env.shell(&format!("mv {file} {old} && cp -p {old} {file} && {change}")).ok();
    for _ in 0..2 {
        world.run_bundle(&directory).exits(1).says("[nar.hash]");
        assert_eq!(seals(), first, "what is not as declared is not sealed");
    }
    // Another file with the right content is the same to the kernel.
    world.env.shell(&format!("rm {file} && cp -p {old} {file}")).ok();
    world.run_bundle(&directory).ok().prints("runs");
    assert_eq!(seals(), first);
    world.env.shell(&write).exits(2).says("not permitted");
}

/// The check takes memory for each file. None of it stays for the process.
#[test]
fn the_memory_of_a_check_is_not_handed_over() {
    let Some(world) = World::new() else { return };
    if !world.env.ours("others check nothing") {
        return;
    }
    let many = world.path("tree/many");
    fs::create_dir(&many).unwrap();
    for number in 0..3000 {
        fs::write(many.join(format!("file-{number}")), "x").unwrap();
    }
    let reference = world.script("app", "echo runs");
    let handed = |name: &str, annotations: &[(&str, &str)]| {
        let directory = world.annotated(&reference, name, annotations);
        let id = world.id(name);
        world.env.runtime(&["create", "--bundle", &directory, &id]).ok();
        let maps = fs::read_to_string(format!("/proc/{}/maps", world.env.pid(&id))).unwrap();
        world.env.delete(&id);
        let line = maps.lines().find(|line| line.contains("/memfd:emergence-runc")).expect(&maps);
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        end - start
    };
    let (without, with) = (handed("unchecked", &[]), handed("checked", &[("verify", "full")]));
    assert!(with < without + (64 << 10), "{with} bytes, {without} without the check");
}

#[test]
fn all_forms_of_root_file_systems_are_checked() {
    let Some(world) = World::new() else { return };
    let reference = world.script("app", "echo runs");
    let copy = world.text("copy");
    world.emergence(&["bundle", "--rootfs", "copy", &reference, &copy]).ok();
    world.edit("copy", |config| config["annotations"]["com.matrixai.emergence.verify"] = json!("full"));
    world.run_bundle(&copy).ok().prints("runs");
    let store = world.path("copy/rootfs/nix/store");
    fs::write(store.join("stranger"), "x").unwrap();
    let output = world.run_bundle(&copy).exits(1);
    assert!(output.stderr.contains("[trust.unproved]") && output.stderr.contains("stranger"), "{output:?}");
    fs::remove_file(store.join("stranger")).unwrap();
    world.run_bundle(&copy).ok();
    // An overlay is what it is made of, until something is written to it.
    let overlay = world.text("overlay");
    world.emergence(&["bundle", "--rootfs", "overlay", &reference, &overlay]).ok();
    world.edit("overlay", |config| config["annotations"]["com.matrixai.emergence.verify"] = json!("full"));
    world.run_bundle(&overlay).ok().prints("runs");
    world.run_bundle(&overlay).ok().prints("runs");
    // No layer of an image, which may be any text, has the name of what is below it.
    let views: Vec<_> = fs::read_dir(world.store().join("layers")).unwrap().flatten().collect();
    assert!(!views.is_empty() && views.iter().all(|view| view.path().extension().unwrap() == "view"));
    let smuggled = world.path("overlay/upper/stranger");
    fs::write(&smuggled, "x").unwrap();
    let output = world.run_bundle(&overlay).exits(1);
    assert!(output.stderr.contains("[trust.unproved]") && output.stderr.contains("stranger"), "{output:?}");
    fs::remove_file(&smuggled).unwrap();
    // What is bound over it counts, too.
    let bind = world.annotated(&reference, "bind", &[("verify", "full")]);
    let busybox = world.busybox();
    world.edit("bind", |config| {
        let evil = json!({"destination": format!("{busybox}/bin"), "type": "bind", "source": "/usr/bin", "options": ["bind"]});
        config["mounts"].as_array_mut().unwrap().push(evil);
    });
    let output = world.run_bundle(&bind).exits(1);
    assert!(output.stderr.contains("[trust.unproved]"), "{output:?}");
}

#[test]
fn an_automaton_is_pinned() {
    let Some(world) = World::new() else { return };
    let reference = world.script("app", "echo runs");
    let directory = world.annotated(&reference, "b", &[]);
    let automaton = world.annotation("b", "automaton");
    let expect = |digest: &str| {
        world.edit("b", |config| config["annotations"]["com.matrixai.emergence.expect"] = json!(digest));
        world.run_bundle(&directory)
    };
    expect(&automaton).ok().prints("runs");
    let other = format!("sha256:{}", "0".repeat(64));
    let output = expect(&other).exits(1);
    assert!(output.stderr.contains("[trust.expect]"), "{output:?}");
}

#[test]
fn the_machines_owner_has_the_last_word() {
    let Some(world) = World::new() else { return };
    let reference = world.script("app", "echo runs");
    let plain = world.annotated(&reference, "plain", &[("verify", "fast")]);
    // An /etc of this test's.
    let etc = world.text("etc");
    world.env.program("cp", &["-a", "/etc", &etc]).run().ok();
    fs::create_dir_all(world.path("etc/emergence")).unwrap();
    let owner = world.path("etc/emergence/runtime.json");
    fs::write(&owner, "{}").unwrap();
    world.env.mount(Path::new(&etc), Path::new("/etc"), &["--bind"]);
    world.run_bundle(&plain).ok().prints("runs");
    let key = world.emergence(&["key", "generate", "owner-1"]).ok();
    fs::write(world.path("key"), &key.stdout).unwrap();
    let public = world.emergence(&["key", "public", &world.text("key")]).ok();
    let demand = json!({"verify": "full", "signature": [public.text()]}).to_string();
    fs::write(&owner, &demand).unwrap();
    let output = world.run_bundle(&plain).exits(1);
    assert!(output.stderr.contains("[trust.policy]"), "{output:?}");
    let secret = SecretKey::parse(key.text()).unwrap();
    sign(&world.path("layout"), Some("app"), &secret, &terms()).unwrap();
    let signed = world.annotated(&reference, "signed", &[("verify", "fast")]);
    world.run_bundle(&signed).ok().prints("runs");
    // A container that is no automaton has nothing that could be signed.
    let bundle = world.env.script("true");
    let output = world.env.run(&bundle).exits(1);
    assert!(output.stderr.contains("[trust.policy]"), "{output:?}");
    fs::write(&owner, r#"{"color":"red"}"#).unwrap();
    let output = world.run_bundle(&plain).exits(1);
    assert!(output.stderr.contains("[doc.unknown-field]"), "{output:?}");
    fs::write(&owner, r#"{"verify":"full"}"#).unwrap();
    world.env.run(&bundle).ok();
}
