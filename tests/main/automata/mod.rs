//! Artifacts that become containers: packed, verified, bundled, run, and checked again when a
//! container is created.

mod checked;
mod groups;
mod images;
mod life;
mod rootless;
mod runs;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use emergence_runc::emergence::automaton::{Form, Packed, Packing, Recipes, Tree, pack};
use emergence_runc::emergence::oci::LayoutTarget;
use emergence_runc::emergence::{
    Compression, Demand, Fault, Limits, Name, StoreDir, Terms, Trust, Unwatched,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Call, Env, NOBODY, Output, until};

/// Programs of the only object.
const APPLETS: [&str; 14] = [
    "cat", "echo", "env", "grep", "id", "kill", "ls", "mkdir", "readlink", "sh", "sleep", "touch", "trap",
    "true",
];

/// A test's world with a tree of busybox, and a store of its own.
struct World {
    env: Env,
}

/// What is asked of what the tests make themselves: nothing.
fn terms() -> Terms {
    let trust = Trust { demand: Demand::None, ..Trust::default() };
    let (dir, limits) = (StoreDir::default(), Limits::default());
    Terms { dir, trust, limits, scan: false, jobs: 2, watch: Arc::new(Unwatched), destination: None }
}

impl World {
    /// `None` when this machine or the program under test cannot have one.
    fn new() -> Option<Self> {
        Self::with(Env::new()?)
    }

    /// The same for an unprivileged user.
    fn rootless() -> Option<Self> {
        let world = Self::with(Env::rootless()?)?;
        fs::create_dir(world.store()).unwrap();
        chown(world.store(), Some(NOBODY), Some(NOBODY)).unwrap();
        Some(world)
    }

    fn with(env: Env) -> Option<Self> {
        if !env.ours("it knows no artifacts") {
            return None;
        }
        let bin = env.dir().join("tree/bin");
        fs::create_dir_all(&bin).unwrap();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        fs::copy(busybox.expect("busybox is installed (package busybox-static)"), bin.join("busybox"))
            .unwrap();
        for name in APPLETS {
            symlink("busybox", bin.join(name)).unwrap();
        }
        Some(Self { env })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.env.dir().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A container's id, which names its cgroup too, and so is to be of this test alone.
    fn id(&self, name: &str) -> String {
        // Other worlds of this process may have a container of the name, and share the cgroups.
        let world = self.env.dir().file_name().expect("a directory of its own").to_string_lossy();
        format!("{name}-{world}")
    }

    fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// `emergence --store … ARGS…`.
    fn call(&self, args: &[&str]) -> Call<'_> {
        let store = self.text("store");
        self.env.call(&[&["emergence", "--store", &store], args].concat())
    }

    /// Runs an artifact whose program says that it is up, and kills the runtime then.
    fn run_and_kill(&self, reference: &str, id: &str) {
        let running = self.call(&["run", reference, id]).start();
        until("it runs", || running.stdout().contains("up"));
        kill_process(Pid::from_raw(running.pid()).unwrap(), Signal::KILL).unwrap();
        running.wait().exits(128 + 9);
    }

    fn emergence(&self, args: &[&str]) -> Output {
        self.call(args).run()
    }

    /// Packs an automaton under this tag, whose document is `init` and `more`; gives its REF.
    fn pack(&self, tag: &str, form: Form, init: Value, more: Value) -> String {
        self.try_pack(tag, form, init, more).unwrap_or_else(|fault| panic!("{tag}: {fault}"));
        format!("oci:{}:{tag}", self.text("layout"))
    }

    fn try_pack(&self, tag: &str, form: Form, init: Value, more: Value) -> Result<Packed, Fault> {
        let mut spec = json!({"schemaVersion": 1, "name": "app", "outputs": {"out": "@bb"}, "init": init});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let trees = vec![Tree { name: Name::new("bb").unwrap(), path: self.path("tree") }];
        let packing = Packing {
            spec,
            directory: self.env.dir(),
            trees,
            closures: Vec::new(),
            recipes: Recipes::Nowhere,
            form,
            compression: Compression::None,
            key: None,
            pin: false,
        };
        pack(packing, LayoutTarget::Directory(self.path("layout")), Some(tag), &terms())
    }

    /// An automaton that runs a script.
    fn script(&self, tag: &str, script: &str) -> String {
        let init = json!({"entrypoint": ["@bb/bin/sh", "-c", script], "env": {"PATH": "@bb/bin"}});
        self.pack(tag, Form::Image, init, json!({}))
    }

    /// The store path of busybox.
    fn busybox(&self) -> String {
        self.emergence(&["store-path", "source", &self.text("tree"), "--name", "bb"]).ok().text().to_owned()
    }

    /// Every file of the test's directory by what it is, but for what calls write.
    fn files(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        let mut left = vec![self.env.dir().to_owned()];
        while let Some(path) = left.pop() {
            let kind = fs::symlink_metadata(&path).unwrap();
            let told = if kind.is_dir() {
                left.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
                "directory".to_owned()
            } else if kind.is_file() {
                format!("{} bytes", kind.len())
            } else {
                "other".to_owned()
            };
            found.insert(path, told);
        }
        let calls = self.path("run");
        found.retain(|path, _| path.parent() != Some(&calls));
        found
    }

    /// Nothing holds anything of the store any more.
    fn is_free(&self) {
        let left: Vec<_> =
            fs::read_dir(self.store().join("leases")).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(self.env.runtime(&["list", "-q"]).text(), "");
    }
}
