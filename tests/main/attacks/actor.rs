//! What a hostile process does inside a container that a shell cannot do, or not fast enough: this
//! test program, started there again.

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::Bundle;

/// Where the test program is in the container.
const PROGRAM: &str = "/attacker";

/// The variable that says what is played.
const PART: &str = "ATTACK";

/// The words that start a part.
pub(crate) const WORDS: [&str; 5] = [PROGRAM, "--ignored", "--exact", "attacks::actor::part", "--nocapture"];

/// The bundle with the test program in it.
pub(crate) fn with_actor(bundle: Bundle) -> Bundle {
    let own = std::env::current_exe().expect("the test program's own path");
    bundle.mount(PROGRAM, "bind", own.to_str().expect("UTF-8"), &["bind", "ro"])
}

/// The bundle whose program plays `part`.
pub(crate) fn playing(bundle: Bundle, part: &str) -> Bundle {
    let env = json!([format!("{PART}={part}"), "PATH=/bin", "RUST_TEST_THREADS=1"]);
    with_actor(bundle).set("process/args", json!(WORDS)).set("process/env", env)
}

#[test]
#[ignore = "played by other tests, inside a container"]
fn part() {
    let part = std::env::var(PART).expect("which part");
    match part.split_once(' ').unwrap_or((&part, "")) {
        ("type-into", place) => type_into(place),
        ("look-into-all", marker) => look_into_all(Path::new(marker)),
        ("seize-all", _) => seize_all(),
        (other, _) => panic!("no part {other}"),
    }
}

/// Pushes characters into the input of a terminal, as if they were typed: TIOCSTI, ioctl_tty(2).
fn type_into(place: &str) {
    let file = fs::File::open(place).expect("open the terminal");
    for byte in b"injected\n" {
        // SAFETY: TIOCSTI reads one byte, which lives across the call.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TIOCSTI, std::ptr::from_ref(byte)) };
        let error = std::io::Error::last_os_error();
        assert!(done == 0, "refused: {error}");
    }
    println!("typed");
}

/// Looks without end into every process that is seen for a way to a file of the host, and notes
/// what was found in /tmp/seen.
fn look_into_all(marker: &Path) {
    let marker = marker.strip_prefix("/").expect("an absolute path");
    let own = std::process::id().to_string();
    fs::write("/tmp/looking", "").expect("say that the looking has begun");
    loop {
        for pid in pids().filter(|pid| *pid != *own) {
            let process = Path::new("/proc").join(&pid);
            let mut ways = vec![process.join("root"), process.join("cwd")];
            ways.extend(
                fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path()),
            );
            // A directory of the host leads everywhere: the marker may be below it or anywhere
            // above.
            let leads = |way: &PathBuf| {
                let up = (0..8).scan(way.clone(), |at, _| {
                    let here = at.clone();
                    at.push("..");
                    Some(here)
                });
                up.into_iter().any(|directory| directory.join(marker).exists())
            };
            for way in ways.iter().filter(|way| leads(way)) {
                fs::write("/tmp/seen", way.as_os_str().as_encoded_bytes()).expect("note it");
            }
            if memory_can_be_written(&process) {
                fs::write("/tmp/memory", pid.as_encoded_bytes()).expect("note it");
            }
        }
    }
}

fn pids() -> impl Iterator<Item = OsString> {
    let names = fs::read_dir("/proc").expect("read /proc").flatten().map(|entry| entry.file_name());
    names.filter(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
}

/// Whether the memory of a process with more rights than ours can be written: it then does what we
/// like.
fn memory_can_be_written(process: &Path) -> bool {
    let opened = fs::OpenOptions::new().write(true).open(process.join("mem")).is_ok();
    opened && has_more(process)
}

/// Whether a process has capabilities that we have not, and may use them: no seccomp filter
/// prevents that.
fn has_more(process: &Path) -> bool {
    let field = |of: &Path, name: &str| {
        let text = fs::read_to_string(of.join("status")).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()))
    };
    let permitted =
        |of: &Path| field(of, "CapPrm:").and_then(|text| u64::from_str_radix(&text, 16).ok()).unwrap_or(0);
    let filtered = field(process, "Seccomp:").is_some_and(|mode| mode != "0");
    !filtered && permitted(process) & !permitted(Path::new("/proc/self")) != 0
}

/// Becomes the tracer of every process that is seen, and notes in /tmp/seized one that has more
/// rights than we have.
fn seize_all() {
    fs::write("/tmp/looking", "").expect("say that the looking has begun");
    loop {
        for pid in pids().filter_map(|pid| pid.to_str().map(str::to_owned)).filter(|pid| pid != "1") {
            let number: i32 = pid.parse().expect("digits");
            // SAFETY: integers only; PTRACE_SEIZE changes nothing of ours.
            if unsafe { libc::ptrace(libc::PTRACE_SEIZE, number, 0, 0) } != 0 {
                continue;
            }
            if has_more(&Path::new("/proc").join(&pid)) {
                fs::write("/tmp/seized", &pid).expect("note it");
            }
            // SAFETY: integers only, and a null status, which the kernel leaves alone.
            unsafe {
                libc::ptrace(libc::PTRACE_INTERRUPT, number, 0, 0);
                libc::waitpid(number, std::ptr::null_mut(), libc::__WALL);
                libc::ptrace(libc::PTRACE_DETACH, number, 0, 0);
            }
        }
    }
}
