//! What fuzzing has found so far, as ordinary tests: every file of fuzz/corpus through the check that it was found with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../fuzz/src/checks/mod.rs"]
mod checks;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// In bytes, all files together: the corpus is read by people and cloned by everybody.
const LARGEST: u64 = 300_000;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn what_was_found_stays_found() {
    for (name, check) in checks::ALL {
        let corpus = files(&fuzz().join("corpus").join(name));
        assert!(!corpus.is_empty(), "{name} has no corpus");
        for file in corpus {
            // The last line is the file that broke it.
            println!("{}", file.display());
            check(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn each_check_has_a_target_and_a_corpus() {
    let names = |folder: &str| -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        files(&fuzz().join(folder)).into_iter().map(stem).collect()
    };
    let checks: BTreeSet<String> = checks::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), checks);
    assert_eq!(names("corpus"), checks);
    for (name, _) in checks::ALL {
        let text = fs::read_to_string(fuzz().join("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(text.contains(&format!("checks::{name}::check(data)")), "{name}.rs calls another check");
    }
}

#[test]
fn the_corpus_stays_small() {
    let corpus = files(&fuzz().join("corpus")).into_iter().flat_map(|folder| files(&folder));
    let bytes: u64 = corpus.map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(bytes <= LARGEST, "{bytes} bytes; make it smaller with hack/fuzz --merge");
}
