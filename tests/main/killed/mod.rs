//! The runtime killed at any of its system calls, and of its child's: after `delete --force`
//! nothing is left.
//!
//! For each command and each kind of container the calls are counted first; then some of them are
//! chosen, and the runtime is killed there. `EMERGENCE_TEST_KILLS` says how many for each command,
//! kind and manner (1 unless set): a number, `all`, or `random:N`, which chooses again each time
//! and prints the seed; `random:N:SEED` repeats it. Each test prints how often it has killed, in
//! which manner.
//!
//! The whole sweep: `EMERGENCE_TEST_KILLS=all cargo test --test main killed:: -- --nocapture`, a
//! few hours on two cores.

mod stage;
mod sweep;

use std::fs;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};

use crate::support::{Env, on_test_machine, patience, until};
use crate::systemd::machine;
use stage::{Before, Kind, Place, Stage, dress};
use sweep::Sweep;

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.to_owned()).collect()
}

/// All combinations of what a container may have.
fn combinations() -> impl Iterator<Item = Kind> {
    (0..16).map(|bits| Kind {
        user: bits & 1 != 0,
        hooks: bits & 2 != 0,
        net: bits & 4 != 0,
        terminal: bits & 8 != 0,
        place: Place::Own,
    })
}

/// A world for these tests.
fn world() -> Option<Env> {
    let env = Env::new()?;
    warm(env)
}

/// The first container makes what the later ones find: the state directory, the cgroup above.
fn warm(env: Env) -> Option<Env> {
    if !env.ours("a promise that the others do not make") {
        return None;
    }
    env.run(&env.bundle(&["true"])).ok();
    Some(env)
}

const SLEEP: &[&str] = &["sleep", "100"];

fn create(stage: &Stage<'_>) -> Vec<String> {
    words(&[&stage.creating(&["create"])[..], &["web"]].concat())
}

fn run_detached(stage: &Stage<'_>) -> Vec<String> {
    words(&[&stage.creating(&["run", "-d"])[..], &["web"]].concat())
}

#[test]
fn create_leaves_nothing() {
    let Some(env) = world() else { return };
    for kind in combinations() {
        Sweep::run(&env, kind, Before::Nothing, SLEEP, create);
    }
}

#[test]
fn run_leaves_nothing() {
    let Some(env) = world() else { return };
    for kind in combinations() {
        Sweep::run(&env, kind, Before::Nothing, SLEEP, run_detached);
        Sweep::run(&env, kind, Before::Nothing, &["true"], |stage| {
            words(&[&stage.creating(&["run"])[..], &["web"]].concat())
        });
    }
}

#[test]
fn a_creation_in_another_place_leaves_nothing() {
    let Some(env) = world() else { return };
    // It must outlive the longest sweep.
    let other = dress(&env, Kind { user: true, ..Kind::default() }, env.bundle(&["sleep", "1000000"]));
    let other = other.set("linux/cgroupsPath", Value::from(format!("{}/other", env.cgroup_parent())));
    env.launch("other", &other);
    for place in [Place::JoinedPid, Place::JoinedUser, Place::NoCgroup, Place::NoCgroupNoPid, Place::NoMounts]
    {
        for hooks in [false, true] {
            let kind = Kind { hooks, place, ..Kind::default() };
            Sweep::run(&env, kind, Before::Nothing, SLEEP, create);
            Sweep::run(&env, kind, Before::Nothing, SLEEP, run_detached);
        }
    }
    env.delete("other");
}

#[test]
fn a_users_creation_leaves_nothing() {
    let Some(env) = Env::rootless().and_then(warm) else { return };
    for hooks in [false, true] {
        Sweep::run(&env, Kind { hooks, ..Kind::default() }, Before::Nothing, SLEEP, create);
        Sweep::run(&env, Kind { hooks, ..Kind::default() }, Before::Nothing, SLEEP, run_detached);
    }
}

/// Kinds for the commands that make no container.
const SOME: [Kind; 3] = {
    let plain = Kind { user: false, hooks: false, net: false, terminal: false, place: Place::Own };
    [
        plain,
        Kind { user: true, hooks: true, ..plain },
        Kind { terminal: true, place: Place::NoCgroupNoPid, ..plain },
    ]
};

fn is_grouped(kind: Kind) -> bool {
    !matches!(kind.place, Place::NoCgroup | Place::NoCgroupNoPid)
}

#[test]
fn start_kill_and_delete_leave_nothing() {
    let Some(env) = world() else { return };
    for kind in SOME {
        Sweep::run(&env, kind, Before::Created, SLEEP, |_| words(&["start", "web"]));
        Sweep::run(&env, kind, Before::Running, SLEEP, |_| words(&["kill", "web", "KILL"]));
        Sweep::run(&env, kind, Before::Stopped, SLEEP, |_| words(&["delete", "web"]));
        for before in [Before::Created, Before::Running] {
            Sweep::run(&env, kind, before, SLEEP, |_| words(&["delete", "--force", "web"]));
        }
    }
    for kind in SOME.into_iter().filter(|kind| is_grouped(*kind)) {
        Sweep::run(&env, kind, Before::Running, SLEEP, |_| words(&["kill", "--all", "web", "KILL"]));
        Sweep::run(&env, kind, Before::Paused, SLEEP, |_| words(&["delete", "--force", "web"]));
    }
}

#[test]
fn pause_resume_and_update_leave_nothing() {
    let Some(env) = world() else { return };
    for kind in SOME.into_iter().filter(|kind| is_grouped(*kind)) {
        Sweep::run(&env, kind, Before::Running, SLEEP, |_| words(&["pause", "web"]));
        Sweep::run(&env, kind, Before::Paused, SLEEP, |_| words(&["resume", "web"]));
        if env.controllers(&["pids"]) {
            Sweep::run(&env, kind, Before::Running, SLEEP, |_| {
                words(&["update", "--pids-limit", "100", "web"])
            });
        }
    }
}

#[test]
fn exec_leaves_nothing() {
    let Some(env) = world() else { return };
    let exec = |stage: &Stage<'_>, detach: bool| {
        let mut args = words(&["exec"]);
        if detach {
            args.push("-d".into());
        }
        if let (true, Some((_, path))) = (detach, &stage.console) {
            args.extend(words(&["-t", "--console-socket", path.to_str().unwrap()]));
        } else if stage.console.is_some() {
            args.push("-t".into());
        }
        args.extend(words(&["web", "sleep"]));
        args.push(if detach { "100" } else { "0" }.into());
        args
    };
    let without_group = Kind { place: Place::NoCgroup, ..SOME[0] };
    let kinds = combinations().filter(|kind| !kind.net && !kind.hooks).chain([without_group]);
    for (at, kind) in kinds.enumerate() {
        // Each is slow: what is killed in another pid namespace is reaped by the machine's first
        // process, at its leisure.
        let both = at == 0 || std::env::var("EMERGENCE_TEST_KILLS").is_ok();
        if both || at % 2 == 0 {
            Sweep::run(&env, kind, Before::Running, SLEEP, |stage| exec(stage, false));
        }
        if both || at % 2 == 1 {
            Sweep::run(&env, kind, Before::Running, SLEEP, |stage| exec(stage, true));
        }
    }
}

#[test]
fn mounts_leave_nothing() {
    let Some(env) = world() else { return };
    let list = env.dir().join("mounts.json");
    let bind = json!({"destination": "/tmp", "type": "bind", "source": env.dir(), "options": ["rbind"]});
    let proc = json!({"destination": "/var", "type": "proc", "source": "proc"});
    fs::write(&list, serde_json::to_vec(&json!([bind, proc])).unwrap()).unwrap();
    for kind in SOME {
        Sweep::run(&env, kind, Before::Running, SLEEP, |_| {
            words(&["mounts", "add", "web", list.to_str().unwrap()])
        });
    }
}

#[test]
fn checkpoint_and_restore_leave_nothing() {
    let Some(env) = world() else { return };
    if env.program("/bin/sh", &["-c", "criu check"]).run().code != 0 {
        assert!(!on_test_machine(), "criu does not work here");
        println!("skipped: criu is not installed, or does not work with this kernel");
        return;
    }
    let kind = Kind::default();
    let images = env.dir().join("images");
    let images = images.to_str().unwrap();
    let script = &["sh", "-c", "exec </dev/null >/dev/null 2>&1; while :; do usleep 50000; done"];
    let prepared = Stage::new(&env, kind, script);
    prepared.prepare(Before::Running);
    prepared.call(&["checkpoint", "--image-path", images, "web"]).run().ok();
    prepared.call(&["delete", "--force", "web"]).run().ok();
    Sweep::run(&env, kind, Before::Nothing, script, |stage| {
        words(&[&stage.creating(&["restore", "-d", "--image-path", images])[..], &["web"]].concat())
    });
    let other = env.dir().join("other-images");
    // It stays, as the images do.
    fs::create_dir(&other).unwrap();
    Sweep::run(&env, kind, Before::Running, script, |_| {
        words(&["checkpoint", "--image-path", other.to_str().unwrap(), "web"])
    });
}

#[test]
fn units_of_systemd_are_left_by_no_command() {
    let Some(env) = machine().and_then(warm) else { return };
    for (user, hooks) in [(false, false), (true, true)] {
        let kind = Kind { user, hooks, place: Place::Systemd, ..Kind::default() };
        Sweep::run(&env, kind, Before::Nothing, SLEEP, create);
        Sweep::run(&env, kind, Before::Nothing, SLEEP, run_detached);
        Sweep::run(&env, kind, Before::Running, SLEEP, |_| words(&["exec", "-d", "web", "sleep", "100"]));
        Sweep::run(&env, kind, Before::Running, SLEEP, |_| words(&["update", "--memory", "100M", "web"]));
        Sweep::run(&env, kind, Before::Running, SLEEP, |_| words(&["delete", "--force", "web"]));
    }
}

/// A hook that writes its number to a file and then works on.
fn slow_hook(file: &Path) -> Value {
    let script = format!("echo $$ >{}; exec sleep 100", file.display());
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

#[test]
fn hooks_of_a_creation_end_with_it() {
    let Some(env) = world() else { return };
    for (hook, place) in [("createRuntime", Place::Own), ("createContainer", Place::NoCgroupNoPid)] {
        let mut stage = Stage::new(&env, Kind { place, ..Kind::default() }, SLEEP);
        let file = env.dir().join(hook);
        stage.bundle = stage.bundle.push(&format!("hooks/{hook}"), slow_hook(&file));
        stage.bundle.write();
        let args = create(&stage);
        let creation = stage.call(&args.iter().map(String::as_str).collect::<Vec<_>>()).start();
        let number = || fs::read_to_string(&file).ok()?.trim().parse::<i32>().ok();
        until("the hook runs", || number().is_some());
        let hook = pidfd_open(Pid::from_raw(number().unwrap()).unwrap(), PidfdFlags::empty()).unwrap();
        kill_process(Pid::from_raw(creation.pid()).unwrap(), Signal::KILL).unwrap();
        creation.wait();
        stage.call(&["delete", "--force", "web"]).run().ok();
        let soon = Timespec { tv_sec: patience().as_secs() as i64 / 4, tv_nsec: 0 };
        let ended = poll(&mut [PollFd::new(&hook, PollFlags::IN)], Some(&soon)).unwrap();
        // Not left to the next test.
        let _ = pidfd_send_signal(&hook, Signal::KILL);
        assert_eq!(ended, 1, "the hook runs on");
    }
}
