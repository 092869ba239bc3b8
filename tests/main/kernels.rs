//! On kernels back to 5.4, and inside of engines with old filters: fallbacks for newer calls behave
//! as these do. `EMERGENCE_TEST_KERNEL=5.4` runs all the other tests so, too.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::support::{Bundle, Env, Older, until};

const OURS: &str = "the stand-ins are ours";

#[test]
fn a_whole_life() {
    for kernel in [Older::Linux5_4, Older::InOldEngine] {
        let Some(env) = Env::older(kernel) else { return };
        if !env.ours(OURS) {
            return;
        }
        let bundle = env.script("cat /proc/self/cgroup; touch /sys/x; exec sleep 1000");
        let bundle = bundle.namespace("cgroup", None).set("root/readonly", json!(true));
        let output = env.launch("web", &bundle);
        until("the program runs", || output.later().contains("0::"));
        assert!(output.later().contains("0::/\n"), "the cgroup namespace begins in the container's own");
        let members = env.cgroup_file(bundle.cgroup(), "cgroup.procs");
        assert!(members.lines().any(|pid| pid == env.pid("web").to_string()), "{members}");
        let script = "ls -l /proc/self/fd | grep -c /; cat /proc/self/cgroup; touch /x || echo read-only";
        let entered = env.runtime(&["exec", "web", "sh", "-c", script]).ok();
        let lines: Vec<_> = entered.stdout.lines().collect();
        assert!(lines.contains(&"0::/") && lines.contains(&"read-only"), "{entered:?}");
        env.runtime(&["kill", "web", "KILL"]).ok();
        env.wait_for("web", "stopped");
        env.runtime(&["delete", "web"]).ok();
    }
}

/// Flags of the mounts at and below a path, as a container without a name sees them: `PATH FLAGS`,
/// a line each.
fn flags(env: &Env, bundle: Bundle, below: &str) -> String {
    let script = format!("awk '$5 ~ \"^{below}\" {{ print $5, $6 }}' /proc/self/mountinfo");
    let bundle = bundle.set("process/args", json!(["sh", "-c", script]));
    env.run(&bundle).ok().stdout.trim().to_owned()
}

/// A directory with a tmpfs mounted on it that has many flags, and another one below.
fn mounted(env: &Env) -> PathBuf {
    let source = env.dir().join("source");
    fs::create_dir(&source).unwrap();
    tmpfs(env, &source, "nosuid,nodev,noexec,noatime,nodiratime");
    let below = source.join(BELOW);
    env.program("mkdir", &[below.to_str().unwrap()]).run().ok();
    tmpfs(env, &below, "nodev");
    source
}

const BELOW: &str = "below \\ it";

fn tmpfs(env: &Env, place: &Path, options: &str) {
    env.program("mount", &["-t", "tmpfs", "-o", options, "tmpfs", place.to_str().unwrap()]).run().ok();
}

fn unmount(env: &Env, source: &Path) {
    env.shell(&format!("while mountpoint -q {0}; do umount -R {0} || exit; done", source.display())).ok();
}

#[test]
fn flags_become_what_they_become_on_a_new_kernel() {
    let (Some(new), Some(old)) = (Env::new(), Env::older(Older::Linux5_4)) else { return };
    if !old.ours(OURS) {
        return;
    }
    let sources = [mounted(&new), mounted(&old)];
    let mut seen = std::collections::BTreeSet::new();
    for options in [
        &["bind", "ro"][..],
        &["rbind", "ro"],
        &["rbind", "rro"],
        &["rbind", "rro", "rw"],
        &["rbind", "rnosuid", "rnodiratime"],
        &["rbind", "rsuid", "dev"],
        &["rbind", "rrelatime"],
        &["rbind", "rstrictatime"],
        &["rbind", "strictatime", "nosuid"],
        &["bind", "noatime"],
        &["rbind", "rnosymfollow"],
        &["rbind", "rprivate", "rro"],
    ] {
        let [want, got] = [(&new, &sources[0]), (&old, &sources[1])].map(|(env, source)| {
            let bundle = env.bundle(&["true"]).mount("/m", "bind", source.to_str().unwrap(), options);
            flags(env, bundle, "/m")
        });
        assert_eq!(got, want, "{options:?}");
        assert!(got.starts_with("/m r"), "{options:?}: {got}");
        seen.insert(got);
    }
    assert!(seen.len() > 7, "{seen:#?}");
    unmount(&new, &sources[0]);
    unmount(&old, &sources[1]);
}

#[test]
fn an_unreachable_destination_is_refused_and_never_left_writable() {
    let Some(env) = Env::older(Older::Linux5_4) else { return };
    if !env.ours(OURS) {
        return;
    }
    let source = mounted(&env);
    let bundle = || {
        let bundle = env.bundle(&["true"]);
        bundle.mount("/m", "bind", source.to_str().unwrap(), &["rbind", "rro"])
    };
    env.run(&bundle()).ok();
    tmpfs(&env, &source.join(BELOW), "ro");
    env.run(&bundle()).fails().says("mounts[").says("Linux has since 5.12");
    // Over the source: that is all there is to bind then.
    tmpfs(&env, &source, "ro");
    env.run(&bundle()).ok();
    unmount(&env, &source);
}

#[test]
fn a_file_is_read_only_too() {
    let Some(env) = Env::older(Older::Linux5_4) else { return };
    if !env.ours(OURS) {
        return;
    }
    let file = env.dir().join("file");
    fs::write(&file, "as it was").unwrap();
    let bundle = env.script("echo other > /file || cat /file");
    let bundle = bundle.mount("/file", "bind", file.to_str().unwrap(), &["bind", "ro"]);
    env.run(&bundle).ok().prints("as it was");
}

#[test]
fn masks_and_read_only_paths_hold() {
    for kernel in [Older::Linux5_4, Older::InOldEngine] {
        let Some(env) = Env::older(kernel) else { return };
        if !env.ours(OURS) {
            return;
        }
        let script = "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls /proc/acpi /sys/firmware; \
            echo 1 > /proc/sys/kernel/panic || echo sys; echo h > /proc/sysrq-trigger || echo trigger";
        env.run(&env.script(script)).ok().prints("0\n/proc/acpi:\n\n/sys/firmware:\nsys\ntrigger");
    }
}

/// While containers are made, `data` in the image is a directory, then a link that leads up and
/// out, then again a directory, while the first one is out of the image.
#[test]
fn names_that_are_exchanged_lead_nobody_out() {
    let Some(env) = Env::older(Older::Linux5_4) else { return };
    if !env.ours(OURS) {
        return;
    }
    let outside = env.dir().join("outside");
    fs::create_dir_all(outside.join("data/deep")).unwrap();
    let bundle = env.bundle(&["true"]);
    fs::create_dir_all(bundle.rootfs("data/deep")).unwrap();
    let up = format!("{}{}", "../".repeat(12), outside.strip_prefix("/").unwrap().display());
    symlink(up, bundle.rootfs("link")).unwrap();
    let bundle = (0..8).fold(bundle, |bundle, number| {
        let way = format!("/way{number}");
        symlink(format!("data/deep/../../new{number}"), bundle.rootfs(&way)).unwrap();
        let bundle = bundle.mount(&format!("{way}/x"), "tmpfs", "tmpfs", &[]);
        bundle.mount(&format!("/data/file{number}"), "bind", "/etc/hostname", &["bind", "ro"])
    });
    let done = AtomicBool::new(false);
    let names = [bundle.rootfs("data"), bundle.rootfs("link"), outside.join("data")];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = |other: &Path| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &names[0], rustix::fs::CWD, other, flags).unwrap();
            };
            while !done.load(Ordering::Relaxed) {
                names[1..].iter().for_each(|other| (0..2).for_each(|_| exchange(other)));
            }
        });
        for _ in 0..20 {
            // Whether it is made or not is a matter of luck.
            env.run(&bundle);
        }
        done.store(true, Ordering::Relaxed);
    });
    let left: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["data"]);
}
