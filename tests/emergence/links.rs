//! Files that are the same: one inode, until it has all the names that a file may have.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::stores::Store;
use crate::support::emergence;

/// Contents of a file that is made at once, and of one that is written as it is read.
const CONTENTS: [(&str, usize); 2] = [("small", 10), ("large", 200_000)];

/// Copies of each in the second object.
const COPIES: usize = 20;

/// Names that the files of the store may still get.
const LEFT: u64 = 5;

/// Takes a directory in as the object `name`; gives its tree in the store.
fn import(store: &Store, tree: &Path, name: &str) -> std::path::PathBuf {
    let (tree, nar) = (tree.to_str().unwrap(), store.held.path().join(format!("{name}.nar")));
    emergence(&["nar", "dump", tree, "-o", nar.to_str().unwrap()]).ok();
    let answer = emergence(&["store-path", "source", tree, "--name", name]);
    let path = answer.ok();
    let words = ["--trust", "none", "import", "--store-path", path, &format!("nar:{}", nar.display())];
    assert_eq!(store.run(&words).ok(), path);
    store.directory().join(path.trim_start_matches('/'))
}

/// Names of `file` below `directory` until it can have no more. False: that is not before 70 000.
fn use_up(file: &Path, directory: &Path) -> bool {
    fs::create_dir(directory).unwrap();
    (0..70_000).any(|number| match fs::hard_link(file, directory.join(number.to_string())) {
        Err(error) if error.kind() == ErrorKind::TooManyLinks => true,
        other => {
            other.unwrap();
            false
        }
    })
}

#[test]
fn a_file_at_the_link_limit_is_copied() {
    let store = Store::new();
    let (first, second) = (store.held.path().join("first"), store.held.path().join("second"));
    fs::create_dir(&first).unwrap();
    fs::create_dir(&second).unwrap();
    for (name, size) in CONTENTS {
        fs::write(first.join(name), vec![b'x'; size]).unwrap();
        for copy in 0..COPIES {
            fs::copy(first.join(name), second.join(format!("{name}-{copy}"))).unwrap();
        }
    }
    let first = import(&store, &first, "first");
    let mut most = 0;
    for (name, _) in CONTENTS {
        let more = store.held.path().join(format!("more-{name}"));
        if !use_up(&first.join(name), &more) {
            println!("skipped: files may have any number of names here");
            return;
        }
        (0..LEFT).for_each(|number| fs::remove_file(more.join(number.to_string())).unwrap());
        most = fs::metadata(first.join(name)).unwrap().nlink() + LEFT;
    }
    let second = import(&store, &second, "second");
    for (name, size) in CONTENTS {
        let old = fs::metadata(first.join(name)).unwrap();
        let mut inodes: BTreeMap<u64, usize> = BTreeMap::new();
        for copy in 0..COPIES {
            let file = second.join(format!("{name}-{copy}"));
            assert_eq!(fs::read(&file).unwrap().len(), size);
            *inodes.entry(fs::metadata(&file).unwrap().ino()).or_default() += 1;
        }
        // The old one got all that it could have, and one that was made then the rest, or a few
        // that were made at the same time.
        assert_eq!(inodes.remove(&old.ino()), Some(LEFT as usize), "{name}");
        assert!((1..COPIES / 3).contains(&inodes.len()), "{name}: {inodes:?}");
        assert!(old.nlink() < most, "the store has dropped its own name of it");
        let kept: Vec<_> = fs::read_dir(store.directory().join("links")).unwrap().flatten().collect();
        assert!(kept.iter().any(|link| inodes.contains_key(&link.metadata().unwrap().ino())), "{name}");
        assert_eq!(kept.len(), CONTENTS.len());
    }
    store.run(&["check"]).ok();
}
