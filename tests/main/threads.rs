//! The library in a program with threads: the container's process needs none of the locks that they
//! hold at the moment of the clone.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use emergence_runc::cgroup::Driver;
use emergence_runc::container::{self, Status, request};
use emergence_runc::sys::process::{self, Cloned};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions};

use crate::support::{Env, on_test_machine, patience};

/// Larger than what glibc keeps for each thread, smaller than what it maps: such a block takes the
/// lock of the arena.
const BLOCK: usize = 64 * 1024;

/// Has the C library's lock of the heap, and those of std's environment and standard output, taken
/// by threads nearly all the time while `act` runs.
fn with_locks_held(act: impl FnOnce()) {
    let over = AtomicBool::new(false);
    let until_over = |mut hold: Box<dyn FnMut() + Send>| {
        while !over.load(Ordering::Relaxed) {
            hold();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                until_over(Box::new(|| {
                    // SAFETY: what malloc gives, if anything, is given back at once.
                    unsafe { libc::free(libc::malloc(BLOCK)) };
                }));
            });
        }
        scope.spawn(|| {
            // SAFETY: every other reader and writer of the environment in this test takes std's
            // lock too.
            until_over(Box::new(|| unsafe {
                std::env::set_var("EMERGENCE_RUNC_THREADS", "x".repeat(BLOCK))
            }));
        });
        scope.spawn(|| {
            until_over(Box::new(|| {
                let mut out = std::io::stdout().lock();
                std::thread::sleep(Duration::from_millis(1));
                out.flush().unwrap();
            }));
        });
        // Also when it panics: the scope waits for its threads.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        over.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// One arena for all threads, so that they and the clone meet at one lock.
fn share_the_heap() {
    // SAFETY: two integers; nothing else in this process tunes malloc.
    assert_eq!(unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) }, 1);
}

/// Whether a child that does take memory is still waiting for it after a while.
fn a_child_that_takes_memory_hangs() -> bool {
    // SAFETY: no memory is shared. That the child uses the heap, against the contract, is what is
    // tried: it hangs, or ends.
    match unsafe { process::clone3(0, None) }.unwrap() {
        Cloned::Child => {
            // SAFETY: as above.
            unsafe { libc::free(libc::malloc(BLOCK)) };
            process::exit_now(0)
        }
        Cloned::Parent { pidfd, .. } => {
            let soon = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
            let hangs = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&soon)).unwrap() == 0;
            if hangs {
                process::signal(pidfd.as_fd(), libc::SIGKILL).unwrap();
            }
            process::wait(pidfd.as_fd()).unwrap();
            hangs
        }
    }
}

/// The locks are held often enough to matter: of many children that break the rule, some hang.
#[test]
fn a_child_that_breaks_the_rule_is_seen() {
    if on_test_machine() {
        return println!("skipped: with one processor the threads are rarely stopped where it matters");
    }
    share_the_heap();
    let mut hangs = false;
    with_locks_held(|| hangs = (0..2000).any(|_| a_child_that_takes_memory_hangs()));
    assert!(hangs, "2000 children took memory while other threads had the lock, and none waited for it");
}

#[test]
fn containers_start_while_threads_hold_locks() {
    let Some(env) = Env::new() else { return };
    if !env.ours("its library is what is tested") {
        return;
    }
    let mut bundle = env.bundle(&["sleep", "1000"]).set("linux/cgroupsPath", serde_json::Value::Null);
    // This process sees the cgroups of the machine, whatever they are, and not those of the test.
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
    bundle.config["linux"]["resources"] = serde_json::json!({});
    bundle.write();
    let settings = request::Settings {
        root: env.dir().join("threads"),
        root_is_named: true,
        driver: Driver::Disabled,
        rootless: false,
    };
    let request = request::Create {
        id: "web".parse().unwrap(),
        bundle: bundle.path().to_owned(),
        bundle_goes: false,
        config: None,
        console_socket: None,
        pid_file: None,
        pidfd_socket: None,
        no_pivot: false,
        no_new_keyring: true,
        preserve_fds: 0,
    };
    let exec = request::Exec {
        id: request.id.clone(),
        process: None,
        args: vec!["true".into()],
        changes: request::Changes::default(),
        detach: true,
        console_socket: None,
        pid_file: Some(env.dir().join("pid")),
        pidfd_socket: None,
        preserve_fds: 0,
        ignore_paused: false,
        cgroups: Vec::new(),
    };
    let mounts = env.dir().join("mounts.json");
    std::fs::write(&mounts, r#"[{"destination":"/more","type":"tmpfs","source":"tmpfs"}]"#).unwrap();
    share_the_heap();
    let rounds = if on_test_machine() { 5 } else { 40 };
    let (done, finished) = mpsc::channel();
    let work = std::thread::spawn(move || {
        with_locks_held(|| {
            for _ in 0..rounds {
                container::create(&settings, &request).unwrap();
                assert_eq!(container::state(&settings, &request.id).unwrap().status, Status::Created.word());
                container::start(&settings, &request.id).unwrap();
                container::exec(&settings, &exec).unwrap();
                // It is a child of this program, which alone reaps it.
                let pid = std::fs::read_to_string(exec.pid_file.as_ref().unwrap()).unwrap().parse().unwrap();
                let ended =
                    rustix::process::waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap().unwrap();
                assert_eq!(ended.1.exit_status(), Some(0));
                container::add_mounts(&settings, &request.id, &mounts).unwrap();
                container::delete(&settings, &request.id, true).unwrap();
            }
        });
        done.send(()).unwrap();
    });
    finished
        .recv_timeout(patience() * 3)
        .expect("a container's process waits for a lock that is never released");
    work.join().unwrap();
}
