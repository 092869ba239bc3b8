//! The same questions to Nix itself, where it is installed (package nix-bin), in a store of the
//! test's own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::stores::Store;
use crate::support::{emergence, vector};

/// Nix with a store below a directory. `None`, with the reason printed, where it is not installed.
struct Nix {
    directory: tempfile::TempDir,
}

impl Nix {
    fn find() -> Option<Self> {
        if Command::new("nix-store").arg("--version").output().is_err() {
            assert!(std::env::var_os("EMERGENCE_TEST_NO_SKIP").is_none(), "Nix is missing (package nix-bin)");
            eprintln!("skipped: Nix is missing (package nix-bin)");
            return None;
        }
        Some(Self { directory: tempfile::tempdir().unwrap() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, program: &str, words: &[&str]) -> Output {
        let output = Command::new(program)
            .args(words)
            .env("NIX_REMOTE", format!("local?root={}", self.path("root").display()))
            .env("HOME", self.directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn line(&self, program: &str, words: &[&str]) -> String {
        String::from_utf8(self.run(program, words).stdout).unwrap().trim_end().to_owned()
    }

    /// Where an object of the store really is.
    fn real(&self, path: &str) -> PathBuf {
        self.path("root").join(path.trim_start_matches('/'))
    }
}

/// Numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// A tree of all that a NAR can hold, with names that are hard to sort.
fn grow(at: &Path, dice: &mut Dice, depth: u64) {
    match dice.below(if depth == 0 { 1 } else { 4 }) {
        0 if depth < 4 => {
            fs::create_dir(at).unwrap();
            for number in 0..dice.below(7) {
                let odd =
                    ["a", "a b", "a-b", "a.b", "ab", "A", "\u{e9}", "~", "aa", ".a"][dice.below(10) as usize];
                let name =
                    if dice.below(2) == 0 { format!("{odd}{number}") } else { format!("{number}{odd}") };
                grow(&at.join(name), dice, depth + 1);
            }
        }
        1 => symlink("../".repeat(dice.below(4) as usize) + "to where", at).unwrap(),
        _ => {
            let size = [0, 1, 7, 8, 9, 255, 4096, 70_000, 300_000][dice.below(9) as usize];
            fs::write(at, (0..size).map(|at| (at % 251) as u8).collect::<Vec<_>>()).unwrap();
            let mode = [0o644, 0o755, 0o400, 0o654, 0o100][dice.below(5) as usize];
            fs::set_permissions(at, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

#[test]
fn trees_are_dumped_and_restored_as_by_nix() {
    let Some(nix) = Nix::find() else { return };
    for seed in 0..40 {
        let tree = nix.path(&format!("tree{seed}"));
        grow(&tree, &mut Dice(seed), 0);
        let tree = tree.to_str().unwrap();
        let theirs = nix.run("nix-store", &["--dump", tree]).stdout;
        let dumped = emergence(&["nar", "dump", tree]);
        assert!(dumped.stdout == theirs, "seed {seed}: {}", dumped.stderr);
        let ours = emergence(&["hash", tree, "--format", "base16"]);
        assert_eq!(ours.ok(), nix.line("nix-hash", &["--type", "sha256", tree]));
        let nar = nix.path("nar");
        fs::write(&nar, &theirs).unwrap();
        let (one, other) = (nix.path(&format!("ours{seed}")), nix.path(&format!("theirs{seed}")));
        emergence(&["nar", "restore", nar.to_str().unwrap(), one.to_str().unwrap()]).ok();
        let script = format!("nix-store --restore {} < {}", other.display(), nar.display());
        nix.run("sh", &["-c", &script]);
        nix.run("diff", &["-r", "--no-dereference", one.to_str().unwrap(), other.to_str().unwrap()]);
        let modes = |root: &Path| {
            nix.line("sh", &["-c", &format!("cd {} && find . -printf '%p %M %s\\n' | sort", root.display())])
        };
        assert_eq!(modes(&one), modes(&other), "seed {seed}");
        fs::remove_file(&nar).unwrap();
    }
}

#[test]
fn paths_are_those_that_nix_adds() {
    let Some(nix) = Nix::find() else { return };
    let tree = nix.path("tree");
    grow(&tree, &mut Dice(1), 0);
    let file = nix.path("file-1.0");
    fs::write(&file, "contents\n").unwrap();
    let (tree, file) = (tree.to_str().unwrap(), file.to_str().unwrap());
    assert_eq!(emergence(&["store-path", "source", tree]).ok(), nix.line("nix-store", &["--add", tree]));
    for algorithm in ["md5", "sha1", "sha256", "sha512"] {
        for (path, recursive) in [(tree, true), (file, true), (file, false)] {
            let method = if recursive { "--nar" } else { "--flat" };
            let mut words = vec!["--add-fixed", algorithm, path];
            if recursive {
                words.insert(1, "--recursive");
            }
            let ours = emergence(&["store-path", "fixed", path, method, "--algo", algorithm]);
            assert_eq!(ours.ok(), nix.line("nix-store", &words), "{algorithm} {method}");
        }
    }
}

#[test]
fn derivations_that_nix_makes_have_the_paths_that_follow() {
    let Some(nix) = Nix::find() else { return };
    let recipe = nix.path("many.nix");
    // Each depends on a few before it, by any of their outputs; some are fixed.
    fs::write(
        &recipe,
        r#"
let
  fixed = n: derivation { name = "fixed-${n}"; system = "x"; builder = "/b"; mirror = n; outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = builtins.hashString "sha256" n; };
  make = n: earlier: derivation {
    name = "pkg-${toString n}"; system = "x86_64-linux"; builder = "/bin/sh"; outputs = if n - (n / 3) * 3 == 0 then [ "out" "dev" ] else [ "out" ];
    args = [ "-c" "echo \"${toString n}\" é $out\n\ttab" ]; deps = earlier ++ [ (fixed (toString (n / 2))) ]; text = builtins.toFile "t${toString n}" "text";
  };
  list = builtins.foldl' (done: n: done ++ [ (make n (if n > 2 then [ (builtins.elemAt done (n - 1)) (builtins.elemAt done (n / 2)).out ] else [])) ]) [] (builtins.genList (n: n) 120);
in builtins.elemAt list 119
"#,
    )
    .unwrap();
    let last = nix.line("nix-instantiate", &[recipe.to_str().unwrap()]);
    let store = nix.path("root/nix/store");
    let mut checked = 0;
    for entry in fs::read_dir(&store).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if !name.ends_with(".drv") {
            continue;
        }
        let file = entry.path();
        emergence(&["drv", "check", file.to_str().unwrap()]).ok();
        assert_eq!(emergence(&["drv", "path", file.to_str().unwrap()]).ok(), format!("/nix/store/{name}"));
        checked += 1;
    }
    assert!(checked > 150, "{checked}");
    let outputs = nix.line("nix-store", &["--query", "--outputs", &last]);
    let ours = emergence(&["drv", "check", nix.real(&last).to_str().unwrap()]);
    let paths: Vec<&str> =
        ours.ok().lines().filter_map(|line| line.split_once(" /").map(|(_, path)| path)).collect();
    assert_eq!(paths, outputs.lines().map(|path| path.trim_start_matches('/')).collect::<Vec<_>>());
}

#[test]
fn caches_that_nix_writes_are_verified() {
    let Some(nix) = Nix::find() else { return };
    let tree = nix.path("tree");
    grow(&tree, &mut Dice(9), 0);
    let path = nix.line("nix-store", &["--add", tree.to_str().unwrap()]);
    for compression in ["none", "xz", "zstd", "bzip2", "gzip", "br"] {
        let cache = nix.path(compression);
        let key = vector("keys/test-1.sk");
        let to = format!("file://{}?compression={compression}&secret-key={}", cache.display(), key.display());
        nix.run("nix", &["--extra-experimental-features", "nix-command", "copy", "--to", &to, &path]);
        let reference = format!("cache:{}#{path}", cache.display());
        let key = fs::read_to_string(vector("keys/test-1.pk")).unwrap();
        for options in [&["--trust", "signed", "--trusted-key", key.trim()][..], &[]] {
            let hash = emergence(&["hash", tree.to_str().unwrap()]);
            let checked = emergence(&[&["verify", &reference], options].concat());
            assert_eq!(checked.ok(), format!("ok {}", hash.ok()), "{compression}");
        }
    }
}

/// `--add-fixed` keeps the executable bit of a file, which its content address says nothing of.
#[test]
fn programs_that_nix_adds_by_their_bytes() {
    let Some(nix) = Nix::find() else { return };
    let file = nix.path("program");
    fs::write(&file, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let path = nix.line("nix-store", &["--add-fixed", "sha256", file.to_str().unwrap()]);
    let cache = nix.path("cache");
    let to = format!("file://{}", cache.display());
    nix.run("nix", &["--extra-experimental-features", "nix-command", "copy", "--to", &to, &path]);
    let store = Store::new();
    assert_eq!(store.run(&["import", &format!("cache:{}#{path}", cache.display())]).ok(), path);
    let mode = fs::metadata(store.directory().join(&path[1..])).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o555);
    store.run(&["check"]).ok();
    let spec = nix.path("spec.json");
    let document = format!(
        r#"{{"schemaVersion":1,"name":"program","declaration":{{"kind":"opaque"}},"outputs":{{"out":"{path}"}},"init":{{"entrypoint":["{path}"]}}}}"#
    );
    fs::write(&spec, document).unwrap();
    let layout = format!("oci:{}:t", nix.path("layout").display());
    let packed =
        ["pack", "--spec", spec.to_str().unwrap(), "--path", &path, "--from", "store:", "--output", &layout];
    for form in ["image", "artifact"] {
        fs::remove_dir_all(nix.path("layout")).ok();
        store.run(&[&packed[..], &["--form", form]].concat()).ok();
        emergence(&["verify", &layout]).ok();
    }
}

#[test]
fn nix_takes_what_a_store_exports() {
    let Some(nix) = Nix::find() else { return };
    let store = Store::new();
    // Two objects of which one refers to the other, and one that names itself.
    let recipe = nix.path("two.nix");
    fs::write(&recipe, r#"builtins.toFile "outer" "see ${builtins.toFile "inner" "inner"} and ${./tree}""#)
        .unwrap();
    let tree = nix.path("tree");
    let seed = (1..).find(|seed| {
        let _ = fs::remove_dir_all(&tree);
        let _ = fs::remove_file(&tree);
        grow(&tree, &mut Dice(*seed), 0);
        tree.is_dir() && fs::read_dir(&tree).unwrap().count() > 3
    });
    assert!(seed.is_some());
    let words = ["--extra-experimental-features", "nix-command", "eval", "--raw", "--impure", "--expr"];
    let path = nix.line("nix", &[&words[..], &[&format!("import {}", recipe.display())]].concat());
    let theirs = nix.path("theirs");
    let copy = ["--extra-experimental-features", "nix-command", "copy"];
    let to = format!("file://{}", theirs.display());
    nix.run("nix", &[&copy[..], &["--to", &to, &path]].concat());
    let reference = format!("cache:{}#{path}", theirs.display());
    assert_eq!(store.run(&["import", &reference]).ok(), path);
    let key = fs::read_to_string(vector("keys/test-1.pk")).unwrap();
    for compression in ["none", "xz", "zstd", "gzip", "bzip2"] {
        let ours = nix.path(compression);
        let to = format!("cache:{}", ours.display());
        let secret = vector("keys/test-1.sk");
        let words =
            ["export", &path, "--to", &to, "--compress", compression, "--sign", secret.to_str().unwrap()];
        assert_eq!(store.run(&words).ok().lines().count(), 3);
        // Into a store that trusts only that key, and believes no content address.
        let other = Nix { directory: tempfile::tempdir().unwrap() };
        let from = format!("file://{}", ours.display());
        let key = format!("trusted-public-keys = {}\nrequire-sigs = true", key.trim());
        let conf = other.path("conf");
        fs::create_dir(&conf).unwrap();
        fs::write(conf.join("nix.conf"), key).unwrap();
        let script = format!(
            "NIX_CONF_DIR={} nix --extra-experimental-features nix-command copy --from {from} {path}",
            conf.display()
        );
        other.run("sh", &["-c", &script]);
        for object in other.line("nix-store", &["--query", "--requisites", &path]).lines() {
            other.run("nix-store", &["--verify-path", object]);
            let ours = store.directory().join(&object[1..]);
            other.run(
                "diff",
                &["-r", "--no-dereference", ours.to_str().unwrap(), other.real(object).to_str().unwrap()],
            );
            let modes = |root: &Path| {
                let words = format!(
                    "cd {} && find . -printf '%p %M %s %T@ %U\\n' | sort",
                    root.parent().unwrap().display()
                );
                let all = nix.line("sh", &["-c", &words]);
                let name = root.file_name().unwrap().to_str().unwrap().to_owned();
                all.lines().filter(|line| line.contains(&name)).map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(modes(&ours), modes(&other.real(object)), "{compression}");
        }
        other.run("nix-store", &["--verify", "--check-contents"]);
        // And back.
        let again = Store::new();
        let words =
            ["--trust", "signed", "--trusted-key", &fs::read_to_string(vector("keys/test-1.pk")).unwrap()];
        let reference = format!("cache:{}#{path}", ours.display());
        again.run(&[&words[..], &["import", &reference]].concat()).ok();
        again.run(&["check"]).ok();
    }
}
