//! `store-path`.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::{bytes, each, emergence, emergence_with, text, trees, vector, vectors};

#[test]
fn store_paths_are_nixs() {
    let directory = trees();
    let paths = vectors("store_paths");
    for each in each(&paths) {
        // Some are known by their hash alone.
        let tree = each["tree"].as_str().map(|tree| directory.path().join(tree));
        let tree = tree.as_ref().map(|tree| tree.to_str().unwrap());
        let (name, want) = (text(&each["name"]), text(&each["path"]));
        let dir = each["storeDir"].as_str().unwrap_or("/nix/store");
        let call = |words: &[&str]| emergence(&[&["--store-dir", dir, "store-path"], words].concat());
        if each["kind"] == "source" {
            let tree = tree.unwrap();
            assert_eq!(call(&["source", tree, "--name", name]).ok(), want, "{each}");
            assert_eq!(call(&["source", tree]).ok(), want, "{each}");
            continue;
        }
        let (algorithm, hash) = (text(&each["algo"]), text(&each["hash"]));
        let method = format!("--{}", text(&each["mode"]));
        if let Some(tree) = tree {
            let of_tree = call(&["fixed", tree, &method, "--algo", algorithm, "--name", name]);
            assert_eq!(of_tree.ok(), want, "{each}");
        }
        assert_eq!(call(&["fixed", "--hash", hash, &method, "--name", name]).ok(), want, "{each}");
        if let Some(ca) = each["ca"].as_str() {
            assert_eq!(call(&["ca", ca, "--name", name]).ok(), want, "{each}");
        }
    }
}

#[test]
fn texts_are_nixs() {
    for each in each(&vectors("text")) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("text");
        fs::write(&file, bytes(each, "content")).unwrap();
        let mut words = vec!["store-path", "text", file.to_str().unwrap(), "--name", text(&each["name"])];
        // The order in which they are named does not count.
        for reference in each["references"].as_array().unwrap().iter().rev() {
            words.extend(["--ref", text(reference)]);
        }
        assert_eq!(emergence(&words).ok(), text(&each["path"]), "{each}");
        words[2] = "-";
        assert_eq!(emergence_with(&words, fs::File::open(&file).unwrap()).ok(), text(&each["path"]));
    }
}

#[test]
fn content_addresses_give_their_paths_and_a_tree_that_names_itself_too() {
    let caches = vectors("caches");
    let cache = each(&caches).iter().find(|cache| cache["name"] == "ca").unwrap();
    let mut selves = 0;
    for object in each(&cache["objects"]) {
        let want = text(&object["path"]);
        let base = want.strip_prefix("/nix/store/").unwrap();
        let (_, name) = base.split_once('-').unwrap();
        let others: Vec<String> = each(&object["references"])
            .iter()
            .filter(|reference| *reference != base)
            .flat_map(|reference| ["--ref".to_owned(), format!("/nix/store/{}", text(reference))])
            .collect();
        let itself = object["selfReference"] == true;
        let rest: Vec<&str> = others.iter().map(String::as_str).chain(itself.then_some("--self")).collect();
        let by_ca = [&["store-path", "ca", text(&object["ca"]), "--name", name], &rest[..]].concat();
        assert_eq!(emergence(&by_ca).ok(), want);
        let narinfo = fs::read_to_string(vector(text(&object["narinfo"]))).unwrap();
        let url = narinfo.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join(base);
        let packed = vector(text(&cache["dir"])).join(url);
        let mut xz = Command::new("xz").arg("-dc").arg(packed).stdout(Stdio::piped()).spawn().unwrap();
        let restored =
            emergence_with(&["nar", "restore", "-", tree.to_str().unwrap()], xz.stdout.take().unwrap());
        restored.ok();
        assert!(xz.wait().unwrap().success());
        let of_tree = [&["store-path", "source", tree.to_str().unwrap(), "--name", name], &rest[..]].concat();
        assert_eq!(emergence(&of_tree).ok(), want);
        selves += usize::from(itself);
    }
    assert_eq!(selves, 1);
}

#[test]
fn outputs_follow_from_their_recipe() {
    // The digest is checked through derivations; here, what may be asked.
    let hash = "0".repeat(64);
    let dev = emergence(&["store-path", "output", "--drv-hash", &hash, "--output", "dev", "--name", "a"]);
    let out = emergence(&["store-path", "output", "--drv-hash", &hash, "--name", "a"]);
    assert!(dev.ok().ends_with("-a-dev"));
    assert!(out.ok().ends_with("-a"));
    emergence(&["store-path", "output", "--drv-hash", "00", "--name", "a"]).refused(3, "hash.syntax");
    emergence(&["store-path", "output", "--drv-hash", &hash, "--name", ".."]).refused(3, "path.name");
}

#[test]
fn trees_without_a_computable_path() {
    let reference = "/nix/store/vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo";
    let flat = "fixed:sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
    let ca = |words: &[&str]| emergence(&[&["store-path", "ca"], words].concat());
    ca(&[flat, "--name", "a", "--ref", reference]).refused(3, "ca.syntax");
    ca(&[flat, "--name", "a", "--self"]).refused(3, "ca.syntax");
    ca(&["fixed:r:sha256:x", "--name", "a"]).refused(3, "ca.syntax");
    ca(&[flat, "--name", "a b"]).refused(3, "path.name");
    ca(&[flat, "--name", "a", "--ref", "/gnu/store/vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo"])
        .refused(3, "path.name");
    emergence(&["store-path", "source", "/none/such"]).fails(4, "/none/such");
    emergence(&["store-path", "source", "/"]).fails(2, "--name");
    emergence(&["store-path", "source", "/dev", "--self"]).fails(2, "DIGEST-NAME");
    emergence(&["store-path", "fixed", "--name", "a"]).fails(2, "");
}
