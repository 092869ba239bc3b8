//! Containers of every kind, from before a command to the search for what is left of them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::sweep::Manner;
use crate::support::{Bundle, Call, Env, Killed, network_namespace, patience};
use crate::terminal::listen;

/// What is special about a kind of container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kind {
    pub user: bool,
    pub hooks: bool,
    pub net: bool,
    pub terminal: bool,
    pub place: Place,
}

/// Where it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// In namespaces and a cgroup of its own.
    #[default]
    Own,
    /// In the pid namespace of another container.
    JoinedPid,
    /// In the user namespace of another container.
    JoinedUser,
    /// Without a cgroup.
    NoCgroup,
    /// Without a cgroup and a pid namespace: it is known only by its pid.
    NoCgroupNoPid,
    /// Without a mount namespace: what it mounts is mounted on the host.
    NoMounts,
    /// In a unit of systemd.
    Systemd,
}

/// A world, and a kind of container in it.
pub(crate) struct Stage<'a> {
    pub env: &'a Env,
    pub kind: Kind,
    pub bundle: Bundle,
    pub network: Option<OwnedFd>,
    pub console: Option<(UnixListener, PathBuf)>,
    /// What is in the test's directories when no container is there.
    files: BTreeSet<PathBuf>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(env: &'a Env, kind: Kind, args: &[&str]) -> Self {
        let bundle = dress(env, kind, env.bundle(args));
        bundle.write();
        let network = kind.net.then(network_namespace);
        let console = kind.terminal.then(|| {
            // Of the kind before.
            let _ = fs::remove_file(env.dir().join("console"));
            listen(env)
        });
        let mut stage = Self { env, kind, bundle, network, console, files: BTreeSet::new() };
        stage.files = stage.present();
        stage
    }

    /// The runtime with `args`, as this kind of container needs it.
    pub(crate) fn call(&self, args: &[&str]) -> Call<'_> {
        let driver: &[&str] = match self.kind.place {
            Place::NoCgroup | Place::NoCgroupNoPid => &["--cgroup-manager", "disabled"],
            Place::Systemd => &["--systemd-cgroup"],
            _ => &[],
        };
        let call = self.env.call(&[driver, args].concat());
        match &self.network {
            Some(network) => call.network(network),
            None => call,
        }
    }

    pub(crate) fn creating<'b>(&'b self, command: &[&'b str]) -> Vec<&'b str> {
        let mut args = [command, &["-b", self.bundle.str()]].concat();
        if let Some((_, path)) = &self.console
            && command != ["run"]
        {
            args.extend(["--console-socket", path.to_str().unwrap()]);
        }
        args
    }

    fn ip(&self, script: &str) -> String {
        let Some(network) = &self.network else { return String::new() };
        self.env.program("/bin/sh", &["-c", script]).privileged().network(network).run().ok().stdout
    }

    /// What must be there before the command.
    pub(crate) fn prepare(&self, before: Before) {
        if self.kind.net {
            self.ip(
                "ip link show ertest0 >/dev/null 2>&1 || ip link add ertest0 type veth peer name ertest1",
            );
        }
        if let Some((listener, _)) = &self.console {
            while listener.accept().is_ok() {}
        }
        if before >= Before::Created {
            self.call(&[&self.creating(&["create"])[..], &["web"]].concat()).run().ok();
        }
        if before >= Before::Running {
            self.call(&["start", "web"]).run().ok();
        }
        match before {
            Before::Paused => drop(self.call(&["pause", "web"]).run().ok()),
            Before::Stopped => {
                self.call(&["kill", "web", "KILL"]).run().ok();
                let end = Instant::now() + patience();
                while self.call(&["state", "web"]).run().ok().stdout.contains("running") {
                    assert!(Instant::now() < end, "it does not stop");
                }
            }
            _ => {}
        }
    }

    /// Removes the container by force, and looks for what is left.
    pub(crate) fn clean(&self, what: &str, killed: &mut Killed, manner: Manner) {
        if !matches!(manner, Manner::ChildWakesLate) {
            killed.wake();
        }
        let deleted = self.call(&["delete", "--force", "web"]).run();
        assert_eq!(deleted.code, 0, "{what}: delete --force: {}", deleted.stderr);
        killed.wake();
        let mut left = String::new();
        for child in killed.children_left() {
            write!(left, "a process that the runtime had made: {child}; ").unwrap();
        }
        let directory = self.env.root().join("web");
        if directory.exists() {
            write!(left, "{}; ", directory.display()).unwrap();
        }
        let groups = self.env.cgroups();
        let groups: Vec<_> = groups.iter().filter(|group| !group.ends_with("other")).collect();
        if !groups.is_empty() {
            write!(left, "{groups:?}; ").unwrap();
        }
        let files: Vec<_> = self.present().difference(&self.files).cloned().collect();
        if !files.is_empty() {
            write!(left, "{files:?}; ").unwrap();
        }
        if self.kind.place == Place::NoMounts && !self.env.mounts().is_empty() {
            write!(left, "{:?}; ", self.env.mounts()).unwrap();
        }
        if self.kind.net {
            left += &self.links_left();
        }
        if self.kind.place == Place::Systemd {
            left += &self.unit_left();
        }
        assert!(left.is_empty(), "{:?}: {what}: left behind: {left}", self.kind);
    }

    fn unit_left(&self) -> String {
        let unit = format!("{}-web.scope", self.env.cgroup_parent().trim_start_matches('/'));
        let ask = format!("systemctl show -P LoadState {unit}; find /sys/fs/cgroup -name {unit}");
        let end = Instant::now() + patience() / 4;
        loop {
            let found = self.env.program("/bin/sh", &["-c", &ask]).privileged().run().ok();
            if found.text() == "not-found" {
                return String::new();
            }
            if Instant::now() > end {
                return format!("unit {unit}: {}; ", found.text());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The device is where it was, or has ended with the container's network namespace, and its
    /// peer with it.
    fn links_left(&self) -> String {
        let end = Instant::now() + patience() / 4;
        loop {
            let listed = self.ip("ip -o link");
            let names: Vec<_> = listed.lines().filter_map(|line| line.split([' ', '@']).nth(1)).collect();
            let names: Vec<_> = names.iter().map(|name| name.trim_end_matches(':')).collect();
            let whole = names.contains(&"ertest0") && names.contains(&"ertest1") && names.len() == 3;
            if whole || names == ["lo"] {
                return String::new();
            }
            if Instant::now() > end {
                return format!("network devices {names:?}; ");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Files of the test's directory, of the bundle and of its root.
    fn present(&self) -> BTreeSet<PathBuf> {
        let directories = [self.env.dir().to_owned(), self.bundle.path().to_owned(), self.bundle.rootfs("/")];
        let entries = directories.iter().flat_map(|directory| fs::read_dir(directory).unwrap().flatten());
        entries.map(|entry| entry.path()).collect()
    }
}

/// A bundle of this kind.
pub(crate) fn dress(env: &Env, kind: Kind, bundle: Bundle) -> Bundle {
    let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let with = |bundle: Bundle, yes: bool, change: &dyn Fn(Bundle) -> Bundle| {
        if yes { change(bundle) } else { bundle }
    };
    let bundle = with(bundle, kind.user && !env.is_rootless(), &|bundle| {
        let bundle = bundle.namespace("user", None).set("linux/uidMappings", mapping.clone());
        bundle.set("linux/gidMappings", mapping.clone())
    });
    let bundle = with(bundle, kind.hooks, &|bundle| {
        let host = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
        let bundle = host
            .into_iter()
            .fold(bundle, |bundle, name| bundle.push(&format!("hooks/{name}"), json!({"path": "/bin/true"})));
        bundle.push("hooks/startContainer", json!({"path": "/bin/true"}))
    });
    let bundle = with(bundle, kind.net, &|bundle| {
        bundle.set("linux/netDevices", json!({"ertest0": {"name": "inside"}}))
    });
    let bundle = bundle.set("process/terminal", json!(kind.terminal));
    let other = |name: &str| format!("/proc/{}/ns/{name}", env.pid("other"));
    match kind.place {
        Place::Own => bundle,
        Place::JoinedPid => bundle.namespace("pid", Some(&other("pid"))),
        Place::JoinedUser => bundle.namespace("user", Some(&other("user"))),
        Place::NoCgroup => without_cgroup(bundle),
        Place::NoCgroupNoPid => without_cgroup(bundle).without_namespace("pid"),
        Place::Systemd => {
            let unit = format!(":{}:web", env.cgroup_parent().trim_start_matches('/'));
            bundle.set("linux/cgroupsPath", json!(unit))
        }
        Place::NoMounts => bundle.without_namespace("mount").without_mount("/sys").edit(|config| {
            let linux = config["linux"].as_object_mut().unwrap();
            linux.remove("maskedPaths");
            linux.remove("readonlyPaths");
        }),
    }
}

pub(crate) fn without_cgroup(bundle: Bundle) -> Bundle {
    bundle.without_mount("/sys/fs/cgroup").edit(|config| {
        let linux = config["linux"].as_object_mut().unwrap();
        linux.remove("resources");
        linux.remove("cgroupsPath");
    })
}

/// What there is before a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Before {
    Nothing,
    Created,
    Running,
    Paused,
    Stopped,
}
