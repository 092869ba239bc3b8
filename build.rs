//! Notes what this binary is made from (git's name of the commit, the compiler's version) for
//! `--version`, and has a release's functions ordered as `hack/order.d/start.ld` says, without the
//! tables of `hack/order.d/discard.ld`.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    let source = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let commit = commit(&source).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=BUILD_COMMIT={commit}");
    println!("cargo::rustc-env=BUILD_RUSTC={}", rustc().unwrap_or_else(|| "unknown".into()));
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=hack/order.d/start.ld");
    println!("cargo::rerun-if-changed=hack/order.d/discard.ld");
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        for script in ["start", "discard"] {
            println!("cargo::rustc-link-arg-bins=-Wl,-T,{source}/hack/order.d/{script}.ld");
        }
    }
}

/// The commit of the repository whose top is `source`; none in a plain source tree, even one that
/// lies inside another repository.
fn commit(source: &str) -> Option<String> {
    let git = |args: &[&str]| words("git", &[&["-C", source], args].concat());
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != Path::new(source).canonicalize().ok()? {
        return None;
    }
    // The reflog changes with every commit and checkout, HEAD only with the latter.
    if let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"])
        && Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["describe", "--always", "--dirty"])
}

/// `1.90.0` of `rustc 1.90.0 (1159e78c4 2025-09-14)`.
fn rustc() -> Option<String> {
    let line = words(&env::var("RUSTC").ok()?, &["--version"])?;
    line.split(' ').nth(1).map(str::to_owned)
}

/// What a program prints, when it succeeds and prints something.
fn words(program: &str, args: &[&str]) -> Option<String> {
    let done = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(done.stdout).ok()?;
    let text = text.trim();
    (done.status.success() && !text.is_empty()).then(|| text.to_owned())
}
