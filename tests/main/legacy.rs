//! Hosts with cgroup version 1 or both versions, played by a named hierarchy of the test's own: the
//! host's are not touched.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::{Env, NOBODY, until};

/// Runs the container in a mount namespace where /sys/fs/cgroup holds `mounts`, and looks that its
/// groups are gone after.
fn on_legacy(env: &Env, mounts: &str, bundle: &str) -> String {
    // A hierarchy is known by its name to the whole machine, and tests of one process may run side
    // by side.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("emergence{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    // The hierarchies are made as root; setpriv(1) then makes us the user that the world is for.
    let user = if env.is_rootless() {
        format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups")
    } else {
        String::new()
    };
    let script = format!(
        "umount -R /sys/fs/cgroup && mount -t tmpfs tmpfs /sys/fs/cgroup && cd /sys/fs/cgroup && mkdir named unified && \
         mount -t cgroup -o none,name={name} cgroup named && {mounts} && \
         {user} $RUNTIME --root $ROOT run -b {bundle} legacy && find . -name legacy && cd / && umount -R /sys/fs/cgroup"
    );
    let output = env
        .program("unshare", &["-m", "sh", "-c", &script])
        .privileged()
        .env("RUNTIME", env.binary())
        .env("ROOT", env.root())
        .run();
    // The kernel keeps a hierarchy whose last cgroup was not yet freed at its unmounting; the next
    // unmounting ends it.
    let end =
        format!("mkdir -p end && mount -t cgroup -o none,name={name} cgroup end && umount end; rmdir end");
    until(&format!("the test's hierarchy is gone, after {output:?}"), || {
        std::thread::sleep(Duration::from_millis(200));
        let gone = !std::fs::read_to_string("/proc/self/cgroup").unwrap().contains(&name);
        if !gone {
            env.program("unshare", &["-m", "sh", "-c", &end]).privileged().cwd(env.dir()).run();
        }
        gone
    });
    output.ok().stdout.replace(&name, "NAME")
}

#[test]
fn groups_are_joined_in_every_hierarchy() {
    let Some(env) = Env::new() else { return };
    if !env.ours("Debian's others want all controllers of version 1") {
        return;
    }
    for (mounts, unified) in [("true", false), ("mount -t cgroup2 cgroup2 unified", true)] {
        let look =
            "grep NAME= /dev/null; grep -E \"name=emergence|^0:\" /proc/self/cgroup; ls /sys/fs/cgroup";
        for own in [false, true] {
            let bundle = env.script(look);
            let bundle = bundle.edit(|config| {
                let linux = config["linux"].as_object_mut().unwrap();
                linux.remove("resources");
                linux.remove("cgroupsPath");
            });
            let bundle =
                if own { bundle.namespace("cgroup", None) } else { bundle.without_namespace("cgroup") };
            bundle.write();
            let seen = on_legacy(&env, mounts, bundle.str());
            let lines: Vec<&str> = seen.lines().collect();
            let place = if own { ":/" } else { "/legacy" };
            assert!(lines.iter().any(|line| line.contains(":name=NAME:") && line.ends_with(place)), "{seen}");
            if unified {
                assert!(lines.iter().any(|line| line.starts_with("0::") && line.ends_with(place)), "{seen}");
                assert!(lines.contains(&"unified"), "{seen}");
            }
            assert!(lines.contains(&"NAME"), "the hierarchy is seen by its name: {seen}");
        }
    }
}

#[test]
fn a_rootless_user_needs_no_group() {
    let Some(env) = Env::rootless() else { return };
    if !env.ours("Debian's others want all controllers of version 1") {
        return;
    }
    for mounts in ["true", "mount -t cgroup2 cgroup2 unified"] {
        let bundle = env.script("echo hello");
        bundle.write();
        assert_eq!(on_legacy(&env, mounts, bundle.str()), "hello\n");
    }
}
