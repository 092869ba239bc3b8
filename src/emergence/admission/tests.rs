//! Valid and invalid root file systems.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::json;

use super::requested::combined;
use super::*;
use crate::emergence::nix::keys::SecretKey;

const APP: &str = "7fnzwr4fvvmdl8b3vkrfyjczwiwv6n42-app";
const LIB: &str = "90dxglj74s001104ich7q39a0vkxcd98-lib";

/// A store with two objects.
struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { directory: tempfile::tempdir().unwrap() };
        for name in [APP, LIB] {
            fs::create_dir_all(world.object(name).join("bin")).unwrap();
            fs::write(world.object(name).join("bin/x"), name).unwrap();
            symlink("bin/x", world.object(name).join("link")).unwrap();
        }
        fs::create_dir_all(world.rootfs()).unwrap();
        world
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn object(&self, name: &str) -> PathBuf {
        self.store().join("nix/store").join(name)
    }

    fn rootfs(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }

    /// A bind mount for each object.
    fn binds(&self) -> Vec<Mounted> {
        let bind = |name: &&str| Mounted {
            destination: format!("/nix/store/{name}"),
            shown: Shown::Bound(self.object(name)),
        };
        [APP, LIB].iter().map(bind).collect()
    }

    fn declared(&self, name: &str) -> (String, u64) {
        let (hash, size) = nar::hash_tree(&self.object(name), nar::DEEPEST, Algorithm::Sha256).unwrap();
        (hash.to_string(), size)
    }

    fn annotations(&self, verify: &str) -> BTreeMap<String, String> {
        let entry = |name: &str| {
            let (hash, size) = nar::hash_tree(&self.object(name), nar::DEEPEST, Algorithm::Sha256).unwrap();
            format!("{name} {} {size}", hash.nix32())
        };
        let closure = [APP, LIB].map(entry).join(";");
        let store = self.store();
        let pairs = [("verify", verify), ("store", store.to_str().unwrap()), ("closure", &closure)];
        pairs.map(|(name, value)| (format!("{PREFIX}{name}"), value.to_owned())).into()
    }

    fn check(&self, annotations: &BTreeMap<String, String>, mounts: &[Mounted]) -> Option<Code> {
        self.check_on(annotations, mounts, None)
    }

    fn check_on(
        &self,
        annotations: &BTreeMap<String, String>,
        mounts: &[Mounted],
        machine: Option<&str>,
    ) -> Option<Code> {
        let wanted = combined(annotations, machine.map(str::as_bytes)).unwrap().unwrap();
        wanted
            .check(&self.rootfs(), mounts, annotations)
            .err()
            .map(|fault| fault.code().unwrap_or_else(|| panic!("{fault}")))
    }
}

#[test]
fn the_root_has_exactly_the_closure() {
    let world = World::new();
    for mode in ["full", "fast", "verity"] {
        let annotations = world.annotations(mode);
        assert_eq!(world.check(&annotations, &world.binds()), None, "{mode}");
        let all = [Mounted {
            destination: "/nix/store".into(),
            shown: Shown::Bound(world.store().join("nix/store")),
        }];
        assert_eq!(world.check(&annotations, &all), None, "{mode}");
        assert_eq!(world.check(&annotations, &world.binds()[..1]), Some(Code::ClosureIncomplete), "{mode}");
        assert_eq!(world.check(&annotations, &[]), Some(Code::ClosureIncomplete), "{mode}");
        let mut more = world.binds();
        more.push(Mounted { destination: "/nix/store/x".into(), shown: Shown::Bound(world.object(LIB)) });
        assert_eq!(world.check(&annotations, &more), Some(Code::TrustUnproved), "{mode}");
    }
    let none = BTreeMap::from([(format!("{PREFIX}verify"), "full".to_owned())]);
    assert_eq!(world.check(&none, &world.binds()), Some(Code::TrustUnproved));
    assert_eq!(world.check(&none, &[]), None, "an image without store paths");
}

#[test]
fn without_a_named_closure_the_store_proves_objects() {
    let world = World::new();
    let named = |name: &str, value: &str| (format!("{PREFIX}{name}"), value.to_owned());
    let annotations =
        BTreeMap::from([named("verify", "full"), named("store", world.store().to_str().unwrap())]);
    let prove = |name: &str, proof: &str, references: &[&str]| {
        let (hash, size) = world.declared(name);
        let references: Vec<_> = references.iter().map(|name| format!("/nix/store/{name}")).collect();
        let meta = json!({"path": format!("/nix/store/{name}"), "narHash": hash, "narSize": size, "references": references,
            "deriver": null, "signatures": [], "ca": null, "content": hash, "proof": proof, "signedBy": null});
        let file = format!("{}.json", StorePath::parse(name).unwrap().digits());
        fs::create_dir_all(world.store().join("meta")).unwrap();
        fs::write(world.store().join("meta").join(file), meta.to_string()).unwrap();
    };
    prove(LIB, "content", &[]);
    assert_eq!(
        world.check(&annotations, &world.binds()),
        Some(Code::TrustUnproved),
        "one is not in the store"
    );
    prove(APP, "none", &[LIB]);
    assert_eq!(world.check(&annotations, &world.binds()), Some(Code::TrustUnproved), "nothing has proved it");
    prove(APP, "pinned", &[LIB]);
    assert_eq!(world.check(&annotations, &world.binds()), None);
    assert_eq!(world.check(&annotations, &world.binds()[..1]), Some(Code::ClosureIncomplete));
    let owner = |store: &str| Some(format!(r#"{{"verify":"full"{store}}}"#));
    let by_owner = |store: &str| world.check_on(&annotations, &world.binds(), owner(store).as_deref());
    assert_eq!(by_owner(""), Some(Code::TrustUnproved), "the owner has not named that store");
    assert_eq!(by_owner(&format!(r#","store":{:?}"#, world.store())), None);
    fs::write(world.object(LIB).join("bin/x"), LIB.replace('a', "b")).unwrap();
    assert_eq!(world.check(&annotations, &world.binds()), Some(Code::NarHash));
}

#[test]
fn seals_of_a_store_that_the_owner_has_not_named_do_not_count() {
    let world = World::new();
    let annotations = world.annotations("fast");
    assert_eq!(world.check_on(&annotations, &world.binds(), Some(r#"{"verify":"fast"}"#)), None);
    assert!(!world.store().join("seals").exists());
    assert_eq!(world.check(&annotations, &world.binds()), None);
    assert!(world.store().join("seals").exists());
}

#[test]
fn a_changed_object_is_refused() {
    for mode in ["full", "fast", "verity"] {
        let world = World::new();
        let annotations = world.annotations(mode);
        assert_eq!(world.check(&annotations, &world.binds()), None);
        let file = world.object(APP).join("bin/x");
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        let same_length = APP.replace('a', "b");
        // A protected file cannot be written to, but it can be replaced.
        fs::remove_file(&file).unwrap();
        fs::write(&file, same_length).unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(before).unwrap();
        assert_eq!(world.check(&annotations, &world.binds()), Some(Code::NarHash), "{mode}");
        fs::write(&file, "longer than it was before it was").unwrap();
        assert!(
            matches!(world.check(&annotations, &world.binds()), Some(Code::NarSize | Code::NarHash)),
            "{mode}"
        );
    }
}

#[test]
fn a_seal_saves_the_hashing_until_something_changes() {
    let world = World::new();
    let path = StorePath::parse(APP).unwrap();
    let (hash, _) = nar::hash_tree(&world.object(APP), nar::DEEPEST, Algorithm::Sha256).unwrap();
    let count = Cell::new(0);
    let check = || {
        let object = world.object(APP);
        let sealed = Sealed::of(Some(&world.store()), &path, &hash, &object);
        let hashed = || {
            count.set(count.get() + 1);
            Ok(())
        };
        sealed.unless_unchanged(hashed).unwrap();
        count.get()
    };
    assert_eq!([check(), check(), check()], [1, 1, 1]);
    fs::hard_link(world.object(APP).join("bin/x"), world.directory.path().join("other")).unwrap();
    assert_eq!([check(), check()], [2, 2], "another link changes the time");
    fs::write(world.object(APP).join("bin/x"), APP).unwrap();
    assert_eq!([check(), check()], [3, 3]);
    fs::remove_file(world.object(APP).join("link")).unwrap();
    assert_eq!([check(), check()], [4, 4]);
}

#[test]
fn a_failed_check_leaves_no_seal() {
    let world = World::new();
    let annotations = world.annotations("fast");
    fs::write(world.object(APP).join("bin/x"), "other").unwrap();
    for _ in 0..2 {
        assert!(world.check(&annotations, &world.binds()).is_some());
    }
    let seals = fs::read_dir(world.store().join("seals")).map_or(0, Iterator::count);
    assert!(seals <= 1, "{seals} seals"); // the seal of the other object
}

#[test]
fn links_and_covers_do_not_deceive() {
    let world = World::new();
    let annotations = world.annotations("full");
    let bind = |to: &str, from: PathBuf| Mounted { destination: to.into(), shown: Shown::Bound(from) };
    let with = |more: Mounted| world.binds().into_iter().chain([more]).collect::<Vec<_>>();
    // Another directory over all objects, or over a part.
    let evil = world.directory.path().join("evil");
    fs::create_dir_all(evil.join("store")).unwrap();
    assert_eq!(world.check(&annotations, &with(bind("/nix", evil.clone()))), Some(Code::ClosureIncomplete));
    let part = format!("/nix/store/{APP}/bin");
    assert_eq!(world.check(&annotations, &with(bind(&part, evil.clone()))), Some(Code::TrustUnproved));
    let new = |to: &str| Mounted { destination: to.into(), shown: Shown::Unknown };
    assert_eq!(world.check(&annotations, &with(new("/nix/store"))), Some(Code::TrustUnproved));
    assert_eq!(world.check(&annotations, &with(new("/nix/../nix/store/."))), Some(Code::TrustUnproved));
    assert_eq!(world.check(&annotations, &with(new("/proc"))), None);
    // A symbolic link in the root file system leads a mount to the store.
    fs::create_dir_all(world.rootfs().join("nix/store")).unwrap();
    symlink("/nix/store", world.rootfs().join("s")).unwrap();
    assert_eq!(world.check(&annotations, &with(bind("/s/x", evil.clone()))), Some(Code::TrustUnproved));
    let linked: Vec<_> =
        [APP, LIB].iter().map(|name| bind(&format!("/s/{name}"), world.object(name))).collect();
    assert_eq!(world.check(&annotations, &linked), None);
    // The store's directory itself is a symbolic link.
    fs::remove_dir_all(world.rootfs().join("nix")).unwrap();
    symlink(world.store().join("nix"), world.rootfs().join("nix")).unwrap();
    assert_eq!(world.check(&annotations, &world.binds()), Some(Code::TrustUnproved));
}

#[test]
fn an_overlay_shows_its_lower_directory_while_the_upper_has_nothing_there() {
    let world = World::new();
    let annotations = world.annotations("full");
    let upper = world.directory.path().join("upper");
    let check = |(to, lower): (&str, &str)| {
        let shown = Shown::Overlay { lower: world.store().join(lower), upper: Some(upper.clone()) };
        world.check(&annotations, &[Mounted { destination: to.into(), shown }])
    };
    // Mount points of overlays, and the place of the store in their upper directory.
    let table = [(("/nix/store", "nix/store"), ""), (("/nix", "nix"), "store"), (("/", ""), "nix/store")];
    for (place, store) in table {
        let directory = upper.join(store);
        let clear = || {
            let _ = fs::remove_dir_all(&upper);
            fs::create_dir_all(&directory).unwrap();
        };
        clear();
        assert_eq!(check(place), None, "{place:?}");
        for smuggled in [APP, "stranger", ".hidden"] {
            fs::write(directory.join(smuggled), "").unwrap();
            assert_eq!(check(place), Some(Code::TrustUnproved), "{place:?} {smuggled}");
            clear();
        }
        if rustix::fs::setxattr(&directory, "user.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
            .is_ok()
        {
            assert_eq!(check(place), Some(Code::TrustUnproved), "{place:?}: opaque");
            clear();
        }
        if store.is_empty() {
            continue;
        }
        // Outside the store, anything is allowed.
        fs::write(upper.join("x"), "").unwrap();
        assert_eq!(check(place), None, "{place:?}");
        fs::remove_dir_all(&directory).unwrap();
        symlink("/tmp", &directory).unwrap();
        assert_eq!(check(place), Some(Code::TrustUnproved), "{place:?}: a link");
    }
    // An overlay over a single object.
    fs::remove_dir_all(&upper).unwrap();
    fs::create_dir(&upper).unwrap();
    let mut mounts = world.binds();
    mounts[0].shown = Shown::Overlay { lower: world.object(APP), upper: Some(upper.clone()) };
    assert_eq!(world.check(&annotations, &mounts), None);
    fs::create_dir(upper.join("bin")).unwrap();
    assert_eq!(world.check(&annotations, &mounts), Some(Code::TrustUnproved));
    // A mount with unknown content may have anything below a bind mount over it.
    let covered = |shown: Shown| {
        let below = Mounted { destination: "/nix".into(), shown };
        world.check(&annotations, &[vec![below], world.binds()].concat())
    };
    assert_eq!(covered(Shown::Unknown), Some(Code::TrustUnproved));
    assert_eq!(covered(Shown::Nothing), None);
}

#[test]
fn an_automaton_can_be_expected_and_its_signature_demanded() {
    let world = World::new();
    let path = |name: &str| format!("/nix/store/{name}");
    let object = |name: &str| {
        let (hash, size) = world.declared(name);
        json!({"path": path(name), "narHash": hash, "narSize": size, "references": []})
    };
    let document = json!({"schemaVersion": 1, "name": "x", "outputs": {"out": path(APP)},
        "closure": [object(APP), object(LIB)], "init": {"entrypoint": [path(APP) + "/bin/x"]}});
    let parsed = Document::from_value(document.clone(), &StoreDir::default()).unwrap();
    let content = Hash::parse(&world.declared(APP).0, None).unwrap();
    let digests = Digests::of(&parsed, &[("out".to_owned(), content)].into()).unwrap();
    let automaton = digests.automaton;
    let kept = world.store().join("automatons").join(format!("{}.json", automaton.hex()));
    let mut annotations = world.annotations("full");
    let mut set = |name: &str, value: String| annotations.insert(format!("{PREFIX}{name}"), value);
    set("automaton", automaton.to_string());
    let plain = annotations.clone();
    let with = |pairs: &[(&str, String)]| {
        let mut all = plain.clone();
        all.extend(pairs.iter().map(|(name, value)| (format!("{PREFIX}{name}"), value.clone())));
        all
    };
    let expecting = with(&[("expect", automaton.to_string())]);
    assert_eq!(world.check(&expecting, &world.binds()), Some(Code::TrustUnproved), "no document");
    fs::create_dir_all(kept.parent().unwrap()).unwrap();
    fs::write(&kept, json!({"document": document, "objects": []}).to_string()).unwrap();
    assert_eq!(world.check(&expecting, &world.binds()), None);
    let mut alone = expecting.clone();
    alone.retain(|name, _| name.ends_with("expect") || name.ends_with("store"));
    assert_eq!(world.check(&alone, &world.binds()), None, "what is expected is named with it");
    assert_eq!(world.check(&alone, &world.binds()[..1]), Some(Code::ClosureIncomplete));
    let other = Hash::sha256(b"other");
    let wrong = with(&[("expect", other.to_string())]);
    assert_eq!(world.check(&wrong, &world.binds()), Some(Code::TrustExpect));
    // A document stored under the wrong digest.
    fs::copy(&kept, kept.with_file_name(format!("{}.json", other.hex()))).unwrap();
    let false_name = with(&[("expect", other.to_string()), ("automaton", other.to_string())]);
    assert_eq!(world.check(&false_name, &world.binds()), Some(Code::AutomatonMismatch));
    // Without the annotation, the document declares the closure; with it, both must agree.
    let mut without = plain.clone();
    without.remove(&format!("{PREFIX}closure"));
    assert_eq!(world.check(&without, &world.binds()), None);
    let less = with(&[("closure", plain[&format!("{PREFIX}closure")].split(';').next().unwrap().to_owned())]);
    assert_eq!(world.check(&less, &world.binds()[..1]), Some(Code::AutomatonMismatch));
    // Signatures.
    let (key, stranger) = (SecretKey::generate("a-1").unwrap(), SecretKey::generate("b-1").unwrap());
    let machine = json!({"signature": [key.public().to_string()]}).to_string();
    let signed = |key: &SecretKey, text: &str| with(&[("signature", key.sign(text.as_bytes()).to_string())]);
    let digest = Hash::sha256(&parsed.canonical().unwrap());
    let text = format!("emergence-automaton-1;{automaton};{digest}");
    let demanded =
        |annotations: &BTreeMap<String, String>| world.check_on(annotations, &world.binds(), Some(&machine));
    assert_eq!(demanded(&signed(&key, &text)), None);
    assert_eq!(demanded(&plain), Some(Code::TrustPolicy));
    assert_eq!(demanded(&signed(&stranger, &text)), Some(Code::TrustPolicy));
    assert_eq!(demanded(&signed(&key, "other")), Some(Code::TrustSignature));
    assert_eq!(demanded(&world.annotations("full")), Some(Code::TrustPolicy), "no automaton");
}
