//! Bundles: busybox as the root file system, and the config.json of `spec`, changed as a test
//! needs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::Env;

const APPLETS: &str = "awk basename cat chmod chown cp cut date dd df dmesg echo env expr fallocate false find getopt grep head hostname id ip \
    kill killall ln ls md5sum mkdir mknod mount mv nc printf ps pwd readlink rm rmdir sed seq setsid sh sleep sort stat stty sync \
    tail tee test timeout touch tr true tty ulimit umount uname uniq unshare usleep vi wc which whoami xargs";

/// A bundle on disk and the configuration it will have.
pub(crate) struct Bundle {
    path: PathBuf,
    /// The configuration; [`Bundle::write`] puts it on disk.
    pub config: Value,
}

impl Env {
    /// A bundle whose program is `args`, without a terminal, its root writable, in a cgroup of this
    /// test.
    pub(crate) fn bundle(&self, args: &[&str]) -> Bundle {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self.dir().join(format!("b{count}"));
        root_file_system(&path.join("rootfs"));
        if let Some(uid) = self.user {
            self.program("chown", &["-R", &format!("{uid}:{uid}"), path.to_str().expect("UTF-8")])
                .privileged()
                .run()
                .ok();
        }
        let options: &[&str] = if self.user.is_some() { &["spec", "--rootless"] } else { &["spec"] };
        self.call(options).cwd(&path).run().ok();
        self.adopt(path).set("process/args", json!(args)).set("root/readonly", json!(false))
    }

    /// A bundle that another program made; without a terminal, in a cgroup of this test.
    pub(crate) fn adopt(&self, path: PathBuf) -> Bundle {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let text = fs::read(path.join("config.json")).expect("a bundle has a config.json");
        let mut config: Value = serde_json::from_slice(&text).expect("config.json is JSON");
        if self.flavour() == "crun" {
            // With device rules crun 1.8 asks for unlimited locked memory, which not every machine
            // grants root.
            config["linux"]["resources"] = json!({});
        }
        let bundle = Bundle { path, config }.set("process/terminal", json!(false));
        if self.user.is_some() {
            return bundle;
        }
        let cgroup = format!("{}/c{}", self.cgroup_parent(), COUNT.fetch_add(1, Ordering::Relaxed));
        bundle.set("linux/cgroupsPath", json!(cgroup))
    }

    /// A bundle whose program is a shell script.
    pub(crate) fn script(&self, script: &str) -> Bundle {
        self.bundle(&["sh", "-c", script])
    }
}

impl Bundle {
    /// The bundle's directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The bundle's directory, as an argument.
    pub(crate) fn str(&self) -> &str {
        self.path.to_str().expect("temporary paths are UTF-8")
    }

    /// The container's cgroup, as config.json names it.
    pub(crate) fn cgroup(&self) -> &str {
        self.config["linux"]["cgroupsPath"].as_str().expect("a cgroup of this test")
    }

    /// A path of the host below the root file system.
    pub(crate) fn rootfs(&self, inside: &str) -> PathBuf {
        self.path.join("rootfs").join(inside.trim_start_matches('/'))
    }

    /// Changes one value; `place` is member names with `/` between, made where missing.
    pub(crate) fn set(mut self, place: &str, value: Value) -> Self {
        *self.place(place) = value;
        self
    }

    /// Adds to a list, made where missing.
    pub(crate) fn push(mut self, place: &str, value: Value) -> Self {
        let list = self.place(place);
        if list.is_null() {
            *list = json!([]);
        }
        list.as_array_mut().unwrap_or_else(|| panic!("{place} is no list")).push(value);
        self
    }

    /// Changes the configuration as a whole.
    pub(crate) fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// Adds a mount.
    pub(crate) fn mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        let mount = json!({"destination": destination, "type": kind, "source": source, "options": options});
        self.push("mounts", mount)
    }

    /// Has a namespace of this kind: new when `path` is `None`, joined otherwise.
    pub(crate) fn namespace(self, kind: &str, path: Option<&str>) -> Self {
        let mut bundle = self.without_namespace(kind);
        let mut entry = json!({"type": kind});
        if let Some(path) = path {
            entry["path"] = json!(path);
        }
        bundle = bundle.push("linux/namespaces", entry);
        bundle
    }

    /// Has no namespace of this kind.
    pub(crate) fn without_namespace(self, kind: &str) -> Self {
        self.edit(|config| {
            let list = config["linux"]["namespaces"].as_array_mut().expect("a list of namespaces");
            list.retain(|entry| entry["type"] != kind);
        })
    }

    /// Has no mount on this path.
    pub(crate) fn without_mount(self, destination: &str) -> Self {
        self.edit(|config| {
            let list = config["mounts"].as_array_mut().expect("a list of mounts");
            list.retain(|entry| entry["destination"] != destination);
        })
    }

    /// Puts config.json on disk.
    pub(crate) fn write(&self) {
        let text = serde_json::to_vec_pretty(&self.config).expect("JSON values can be written");
        fs::write(self.path.join("config.json"), text).expect("write config.json");
    }

    fn place(&mut self, place: &str) -> &mut Value {
        place.split('/').fold(&mut self.config, |at, name| match at {
            Value::Array(list) => &mut list[name.parse::<usize>().expect("a list's index")],
            other => {
                if other.is_null() {
                    *other = json!({});
                }
                other.as_object_mut().expect("an object").entry(name).or_insert(Value::Null)
            }
        })
    }
}

/// Busybox as its root file system; a copy, as what runs in a container may write to it.
fn root_file_system(root: &Path) {
    for directory in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"] {
        fs::create_dir_all(root.join(directory)).expect("make the root file system's directories");
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("chmod tmp");
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.expect("busybox is installed (package busybox-static)");
    super::place_program(busybox.as_ref(), &root.join("bin/busybox"));
    for name in APPLETS.split_whitespace() {
        symlink("busybox", root.join("bin").join(name)).expect("link an applet");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n")
        .expect("passwd");
    fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n").expect("group");
}
