//! What fuzzing has found so far, as ordinary tests: every file of fuzz/corpus through the check
//! that it was found with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../fuzz/src/checks/mod.rs"]
#[allow(unreachable_pub)] // public in the fuzz package, which has it too
mod checks;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// In bytes, all files together: the corpus is read by people and cloned by everybody.
const LARGEST: u64 = 300_000;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn found_references_stay_found() {
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

/// Long enough for what grows with the document, in a debug build on a busy machine; far too short
/// for what grows with its square.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn long_lists_take_linear_time() {
    const COUNT: usize = 20_000;
    let list = |entry: &dyn Fn(usize) -> Value| Value::from((0..COUNT).map(entry).collect::<Vec<_>>());
    let map = |entry: &dyn Fn(usize) -> (String, Value)| Value::from_iter((0..COUNT).map(entry));
    let names = list(&|at| json!(format!("CAP_{at}")));
    let everything = vec!["0-16383"; COUNT].join(",");
    let table = [
        (
            "process",
            json!({"cwd": "/", "args": ["a"], "capabilities": {"bounding": names, "permitted": names}}),
        ),
        (
            "process",
            json!({"cwd": "/", "args": ["a"], "execCPUAffinity": {"initial": everything, "final": "0"}}),
        ),
        ("process", json!({"cwd": "/", "args": ["a"], "env": list(&|at| json!(format!("A{at}=b")))})),
        ("resources", json!({"cpu": {"cpus": everything}, "unified": {"cpuset.mems": everything}})),
        ("resources", json!({"unified": map(&|at| (format!("memory.{at}"), json!("1")))})),
        (
            "resources",
            json!({"devices": list(&|at| json!({"allow": true, "type": "c", "major": at, "access": "r"}))}),
        ),
        (
            "mounts",
            list(
                &|at| json!({"destination": format!("/{at}"), "type": "tmpfs", "options": ["ro", "size=1"]}),
            ),
        ),
        (
            "config",
            json!({"ociVersion": "1.3.0", "root": {"path": "r"}, "linux": {
                "devices": list(&|at| json!({"path": format!("/dev/{at}"), "type": "c", "major": 1, "minor": 1})),
                "maskedPaths": list(&|at| json!(format!("/{at}"))),
                "sysctl": map(&|at| (format!("net.{at}"), json!("1"))),
                "namespaces": [{"type": "network"}, {"type": "mount"}],
            }}),
        ),
        (
            "seccomp",
            json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(&|at| json!({"names": ["read", "x"],
                "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": at, "op": "SCMP_CMP_EQ"}]}))}),
        ),
    ];
    for (name, document) in table {
        let (_, check) = checks::ALL.into_iter().find(|(other, _)| *other == name).unwrap();
        let text = document.to_string();
        let start = Instant::now();
        check(text.as_bytes());
        let took = start.elapsed();
        println!("{name}: {} bytes, {took:?}: {}…", text.len(), &text[..60]);
        assert!(took < PATIENCE, "{name}: {took:?}");
    }
}

#[test]
fn each_check_has_a_target_and_a_corpus() {
    let names = |directory: &str| -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        files(&fuzz().join(directory)).into_iter().map(stem).collect()
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
    let corpus = files(&fuzz().join("corpus")).into_iter().flat_map(|directory| files(&directory));
    let bytes: u64 = corpus.map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(bytes <= LARGEST, "{bytes} bytes; make it smaller with hack/fuzz --merge");
}
