//! Commands that are killed: the next one finds the former state, and removes the leftovers.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::layouts::{Layout, file, made, tar_of};
use crate::stores::Store;
use crate::support::{emergence, program};

/// Starts a command, and kills it after this time.
fn killed(words: &[&str], after: Duration) {
    let mut command = Command::new(program());
    command.arg("emergence").args(words).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A tree of many small files; its NAR and its store path.
fn many(directory: &Path, name: &str, count: usize) -> (String, String) {
    let (tree, nar) = (directory.join(name), directory.join(format!("{name}.nar")));
    fs::create_dir(&tree).unwrap();
    for number in 0..count {
        fs::write(tree.join(number.to_string()), format!("{name} {number}")).unwrap();
    }
    emergence(&["nar", "dump", tree.to_str().unwrap(), "-o", nar.to_str().unwrap()]).ok();
    let path = emergence(&["store-path", "source", tree.to_str().unwrap(), "--name", name]).ok().to_owned();
    (format!("nar:{}", nar.display()), path)
}

/// Unpacks into one directory again and again, each time killed a bit later: there is all of it, or
/// nothing of its name.
#[test]
fn unpacking_next_to_a_store_is_atomic() {
    let directory = tempfile::tempdir().unwrap();
    let (nar, path) = many(directory.path(), "many", 1500);
    let files: Vec<String> = (0..1500).map(|number| format!("d/file-{number}")).collect();
    let members: Vec<_> =
        [made(b'5', "d")].into_iter().chain(files.iter().map(|name| file(name, b"x"))).collect();
    let layout = Layout::of(&[tar_of(&members)]);
    let image = layout.reference();
    let kinds: [&[&str]; 3] = [&[&nar], &[&nar, "--store-path", &path], &[&image]];
    for (at, reference) in kinds.iter().enumerate() {
        let place = directory.path().join(format!("place-{at}"));
        fs::create_dir(&place).unwrap();
        fs::create_dir(place.join(".emergence-mine")).unwrap();
        let to = place.join("to");
        let unpack = |to: &Path| {
            let words = ["--trust", "none", "unpack", "--to", to.to_str().unwrap()];
            [&words[..], reference].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let run = |words: &[String]| drop(emergence(words).ok().to_owned());
        let began = Instant::now();
        run(&unpack(&directory.path().join(format!("whole-{at}"))));
        let took = began.elapsed();
        let whole = names(&directory.path().join(format!("whole-{at}")));
        let mut left = 0;
        for round in 0..24 {
            let words = unpack(&to);
            killed(&words.iter().map(String::as_str).collect::<Vec<_>>(), took * round / 20);
            match to.exists() {
                true => {
                    assert_eq!(names(&to), whole);
                    fs::remove_dir_all(&to).unwrap();
                }
                false => left += names(&place).len() - 1,
            }
            // Never more than the leftovers of one command: each removes those of the one before.
            assert!(names(&place).len() <= 2, "{:?}", names(&place));
        }
        assert!(left > 0, "nothing was ended in the middle");
        run(&unpack(&to));
        assert_eq!(names(&place), [".emergence-mine", "to"]);
    }
}

/// Takes a closure away, in one copy of a store after another, each time killed a bit later: what
/// is there is whole, and the rest goes.
#[test]
fn a_collection_that_is_ended_leaves_a_valid_store() {
    let store = Store::new();
    let directory = tempfile::tempdir().unwrap();
    let import = |(nar, path): &(String, String), references: &[&str]| {
        let references: Vec<&str> = references.iter().flat_map(|path| ["--ref", path]).collect();
        let words = ["--trust", "none", "--sync", "none", "import", nar, "--store-path", path];
        store.run(&[&words[..], &references].concat()).ok();
    };
    let kept = many(directory.path(), "kept", 5);
    import(&kept, &[]);
    store.run(&["root", "add", "kept", &format!("store:{}", kept.1)]).ok();
    let all: Vec<_> = (0..3).map(|number| many(directory.path(), &format!("many-{number}"), 700)).collect();
    import(&all[0], &[]);
    import(&all[1], &[&all[0].1]);
    import(&all[2], &[&all[0].1, &all[1].1]);
    let copied = |round: u32| {
        let copy = directory.path().join(format!("store-{round}"));
        assert!(Command::new("cp").arg("-a").arg(store.directory()).arg(&copy).status().unwrap().success());
        copy
    };
    let run = |place: &Path, words: &[&str]| {
        emergence(&[&["--store", place.to_str().unwrap()], words].concat()).ok().to_owned()
    };
    let mut half = 0;
    for round in 1..80 {
        // Enough were ended in the middle.
        if half == 3 {
            break;
        }
        let place = copied(round);
        killed(&["--store", place.to_str().unwrap(), "gc"], Duration::from_millis(3) * round);
        // References of what is there are there, and every object is what it was.
        run(&place, &["check"]);
        let there = run(&place, &["ls"]).lines().count();
        half += usize::from(there == 2 || there == 3 || !names(&place.join("tmp")).is_empty());
        run(&place, &["gc"]);
        assert_eq!(run(&place, &["ls"]), kept.1);
        assert_eq!(names(&place.join("nix/store")), [kept.1.rsplit('/').next().unwrap()]);
        assert_eq!(names(&place.join("links")).len(), 5);
        assert!(names(&place.join("tmp")).is_empty());
        assert_eq!((names(&place.join("meta")).len(), names(&place.join("content")).len()), (1, 1));
        fs::remove_dir_all(&place).unwrap();
    }
    assert!(half > 0, "nothing was ended in the middle");
}

/// Seals of objects go with them.
#[test]
fn seals_are_removed_with_their_objects() {
    let store = Store::new();
    let directory = tempfile::tempdir().unwrap();
    let (gone, kept) = (many(directory.path(), "gone", 1), many(directory.path(), "kept", 1));
    for (nar, path) in [&gone, &kept] {
        store.run(&["--trust", "none", "import", nar, "--store-path", path]).ok();
    }
    store.run(&["root", "add", "kept", &format!("store:{}", kept.1)]).ok();
    let seal = |path: &str| format!("{}-1-2.fast", &path["/nix/store/".len()..][..32]);
    let seals = store.directory().join("seals");
    fs::create_dir(&seals).unwrap();
    for (_, path) in [&gone, &kept] {
        fs::write(seals.join(seal(path)), "").unwrap();
    }
    store.run(&["gc", "--dry-run"]).ok();
    assert_eq!(names(&seals).len(), 2);
    store.run(&["gc"]).ok();
    assert_eq!(names(&seals), [seal(&kept.1)]);
}
