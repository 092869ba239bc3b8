//! Support for every end-to-end test: a private mount namespace with cgroup v2, bundles, and a
//! check for leftovers.
//!
//! The binary under test is the one cargo built, or `$EMERGENCE_RUNC_BIN`: the same tests then run
//! against another runtime, which proves the tests. Where only this runtime has a behaviour, a test
//! asks [`Env::ours`] first.
//!
//! `EMERGENCE_TEST_KERNEL=5.4` runs them as on that kernel; for what needs a newer one there is
//! [`Env::ok_since`].
//!
//! Needs: root, busybox (static), a kernel with cgroup 2. Without root a test is skipped and says
//! so; with `CI` set it fails.

mod bundle;
mod call;
mod killer;
mod leaks;
mod older;

pub(crate) use bundle::Bundle;
pub(crate) use call::{Call, Output, Running};
pub(crate) use killer::{Killed, Moment};
pub(crate) use older::Older;

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;
use serde_json::Value;

/// An unprivileged user that every Debian machine has; tests give it sub-ids of their own in their
/// mount namespace.
pub(crate) const NOBODY: u32 = 65534;

/// What a program that can be held looks for in its environment.
const HOLD: &[u8] = b"EMERGENCE_RUNC_HOLD";

/// Longest a test waits for something that should happen at once. The test machine of `hack/vm` is
/// emulated: all takes more than ten times as long there.
pub(crate) fn patience() -> Duration {
    Duration::from_secs(if on_test_machine() { 200 } else { 20 })
}

/// One test's world. Dropping it checks that nothing is left, and removes leftovers.
pub(crate) struct Env {
    dir: tempfile::TempDir,
    mount_namespace: OwnedFd,
    /// The cgroup 2 root that the namespace sees.
    hierarchy: OwnedFd,
    /// Name of the cgroup below the hierarchy's root that holds this test's containers.
    parent: String,
    binary: PathBuf,
    user: Option<u32>,
    /// As which older kernel the machine looks.
    older: Option<Older>,
    ids: AtomicU32,
    expected_mounts: RefCell<Vec<PathBuf>>,
}

impl Env {
    /// A world for a test that runs the runtime as root; `None` when this machine cannot have one.
    pub(crate) fn new() -> Option<Self> {
        Self::build(None)
    }

    /// A world where the runtime runs as an unprivileged user, with sub-ids 200000 to 265535.
    pub(crate) fn rootless() -> Option<Self> {
        Self::build(Some(NOBODY))
    }

    /// A world for root on an older kernel, or one that looks like it, whatever
    /// `EMERGENCE_TEST_KERNEL` says.
    pub(crate) fn older(kernel: Older) -> Option<Self> {
        let mut env = Self::build(None)?;
        env.older = Some(kernel);
        Some(env)
    }

    fn build(user: Option<u32>) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "the integration tests need root");
            println!("skipped: needs root");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("ert-").tempdir().expect("make a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))
            .expect("open the directory to other users");
        let name =
            dir.path().file_name().expect("a temporary directory has a name").to_string_lossy().into_owned();
        let parent = format!("emergence-test-{}-{}", std::process::id(), name.trim_start_matches("ert-"));
        let binary = dir.path().join(under_test().file_name().expect("a program has a name"));
        place_program(&under_test(), &binary);
        let run = dir.path().join("run");
        fs::create_dir(&run).expect("make the state directory's place");
        if let Some(uid) = user {
            std::os::unix::fs::chown(&run, Some(uid), Some(uid)).expect("give the directory to the user");
            fs::write(dir.path().join("subid"), "nobody:200000:65536\n").expect("write sub-ids");
        }
        let (mount_namespace, hierarchy) = mount_namespace(user.map(|_| dir.path().join("subid")));
        Some(Self {
            dir,
            mount_namespace,
            hierarchy,
            parent,
            binary,
            user,
            older: older::wanted(),
            ids: AtomicU32::new(0),
            expected_mounts: RefCell::new(Vec::new()),
        })
    }

    /// Whether the runtime runs as an unprivileged user.
    pub(crate) fn is_rootless(&self) -> bool {
        self.user.is_some()
    }

    /// Whether the program under test is this project's. Prints why the test goes no further when
    /// it is not.
    pub(crate) fn ours(&self, why: &str) -> bool {
        let ours = self.flavour() == "emergence-runc";
        if !ours {
            println!("skipped for {}: {why}", self.flavour());
        }
        ours
    }

    /// Whether the machine only looks like an older kernel.
    pub(crate) fn is_older(&self) -> bool {
        self.older.is_some()
    }

    /// What came of a call that must succeed on Linux `since` and newer. On an older one, or where
    /// it looks like one, it must have failed and named that version: `None`.
    #[track_caller]
    pub(crate) fn ok_since(&self, since: &str, output: Output) -> Option<Output> {
        if self.is_older() || older::is_before(since) {
            output.fails().says(&format!("Linux has since {since}"));
            return None;
        }
        Some(output.ok())
    }

    /// Whether `program` is installed; prints the Debian package that it is in when it is not. With
    /// `CI` set it must be.
    pub(crate) fn has(&self, program: &str, package: &str) -> bool {
        let has = self.program("/bin/sh", &["-c", &format!("command -v {program}")]).run().code == 0;
        assert!(has || std::env::var_os("CI").is_none(), "{program} is not installed (package {package})");
        if !has {
            println!("skipped: {program} is not installed (package {package})");
        }
        has
    }

    /// Whether this machine's cgroup 2 has all of these controllers. Prints those it lacks; where
    /// `EMERGENCE_TEST_MACHINE` is set, the machine was made for these tests and must have them.
    pub(crate) fn controllers(&self, needed: &[&str]) -> bool {
        let here = self.cgroup_file("/", "cgroup.controllers");
        let missing: Vec<_> =
            needed.iter().filter(|name| !here.split(' ').any(|there| there == **name)).collect();
        let machine = std::env::var_os("EMERGENCE_TEST_MACHINE").is_some();
        assert!(missing.is_empty() || !machine, "cgroup 2 has no {missing:?} here, only {here:?}");
        if !missing.is_empty() {
            println!("skipped: cgroup 2 has no {missing:?} here");
        }
        missing.is_empty()
    }

    /// What a file of a cgroup says; empty when it is not there. `cgroup` is named as in
    /// config.json.
    pub(crate) fn cgroup_file(&self, cgroup: &str, file: &str) -> String {
        let path = format!("/proc/self/fd/{}/{cgroup}/{file}", self.hierarchy.as_raw_fd());
        fs::read_to_string(path).unwrap_or_default().trim().to_owned()
    }

    /// Writes to a file of a cgroup.
    pub(crate) fn write_cgroup_file(&self, cgroup: &str, file: &str, text: &str) {
        let path = format!("/proc/self/fd/{}/{cgroup}/{file}", self.hierarchy.as_raw_fd());
        fs::write(&path, text).unwrap_or_else(|e| panic!("write {text:?} to {cgroup}/{file}: {e}"));
    }

    /// Whether the program under test can be held at a step: a debug build. Prints the reason when
    /// it cannot.
    pub(crate) fn holds(&self) -> bool {
        let program = fs::read(&self.binary).expect("read the program under test");
        let holds = program.windows(HOLD.len()).any(|part| part == HOLD);
        if !holds {
            println!("skipped: only a debug build can be held at a step");
        }
        holds
    }

    /// Whether the program under test is the named one, which is known to differ; prints the
    /// reason.
    pub(crate) fn differs(&self, program: &str, why: &str) -> bool {
        let is = self.flavour() == program;
        if is {
            println!("skipped for {program}: {why}");
        }
        is
    }

    /// File name of the program under test.
    pub(crate) fn flavour(&self) -> String {
        self.binary.file_name().expect("a program has a name").to_string_lossy().into_owned()
    }

    /// The test's temporary directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The program under test.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// Has the program under test as a copy that no other test runs, which the kernel would guard
    /// by itself.
    pub(crate) fn own_program(&self) {
        fs::remove_file(&self.binary).expect("remove the program");
        copy_program(&under_test(), &self.binary);
    }

    /// The runtime's state directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir().join("run/state")
    }

    /// The directory of this test's cgroups, as the containers' config.json names it.
    pub(crate) fn cgroup_parent(&self) -> String {
        format!("/{}", self.parent)
    }

    /// A container id that no other container of this test has.
    pub(crate) fn id(&self) -> String {
        format!("c{}", self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// The runtime with `--root` and `args`, ready to be run.
    pub(crate) fn call(&self, args: &[&str]) -> Call<'_> {
        let root = self.root();
        let mut all = vec!["--root", root.to_str().expect("temporary paths are UTF-8")];
        all.extend_from_slice(args);
        self.program(self.binary.to_str().expect("temporary paths are UTF-8"), &all)
    }

    /// Any program, in the test's mount namespace.
    pub(crate) fn program(&self, program: &str, args: &[&str]) -> Call<'_> {
        Call::new(self, program, args)
    }

    /// A shell script with `$RUNTIME`, `$ROOT`, in the test's mount namespace.
    pub(crate) fn shell(&self, script: &str) -> Output {
        self.program("/bin/sh", &["-c", script]).env("RUNTIME", &self.binary).env("ROOT", self.root()).run()
    }

    /// Runs the runtime with `args` and waits.
    pub(crate) fn runtime(&self, args: &[&str]) -> Output {
        self.call(args).run()
    }

    /// `run` in the foreground, with an id of its own.
    pub(crate) fn run(&self, bundle: &Bundle) -> Output {
        bundle.write();
        self.runtime(&["run", "--bundle", bundle.str(), &self.id()])
    }

    /// `create`. The container's standard output and error go to the same files as the runtime's.
    pub(crate) fn create(&self, id: &str, bundle: &Bundle) -> Output {
        bundle.write();
        self.runtime(&["create", "--bundle", bundle.str(), id])
    }

    /// `create` and `start`, both of which must succeed; the value is `create`'s, whose files the
    /// container writes to.
    pub(crate) fn launch(&self, id: &str, bundle: &Bundle) -> Output {
        let output = self.create(id, bundle).ok();
        self.runtime(&["start", id]).ok();
        output
    }

    /// `delete --force`, which must succeed.
    pub(crate) fn delete(&self, id: &str) {
        self.runtime(&["delete", "--force", id]).ok();
    }

    /// The parsed answer of `state`.
    pub(crate) fn state(&self, id: &str) -> Value {
        let output = self.runtime(&["state", id]).ok();
        serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("state is no JSON: {e}: {output:?}"))
    }

    /// The pid that `state` gives.
    pub(crate) fn pid(&self, id: &str) -> i32 {
        self.state(id)["pid"].as_i64().expect("state has a pid") as i32
    }

    /// Waits until `state` gives `status`.
    pub(crate) fn wait_for(&self, id: &str, status: &str) {
        until(&format!("container {id} is {status}"), || self.state(id)["status"] == status);
    }

    /// The runtime with `args`, under strace(1) with these options.
    pub(crate) fn strace(&self, options: &[&str], args: &[&str]) -> Call<'_> {
        let root = self.root();
        let runtime = [self.binary().to_str().unwrap(), "--root", root.to_str().unwrap()];
        self.program("strace", &[options, &runtime, args].concat())
    }

    /// Bind-mounts `from` over `to` in the test's mount namespace, which the check for leaks must
    /// not count.
    pub(crate) fn mount(&self, from: &Path, to: &Path, options: &[&str]) {
        let mut args = options.to_vec();
        args.extend([from.to_str().expect("UTF-8"), to.to_str().expect("UTF-8")]);
        self.program("mount", &args).privileged().run().ok();
        self.expected_mounts.borrow_mut().push(to.to_owned());
    }
}

/// Whether this is a machine made for these tests (EMERGENCE_TEST_MACHINE is set), where nothing
/// may be missing, and where the program under test is the debug build that belongs to them.
pub(crate) fn on_test_machine() -> bool {
    std::env::var_os("EMERGENCE_TEST_MACHINE").is_some()
}

/// Copies a program by another process: a copy made here could be open for writing in a child that
/// another thread is just making, and the kernel then refuses to run it (ETXTBSY).
fn copy_program(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg(from).arg(to).status().expect("run cp");
    assert!(status.success(), "copy {}", from.display());
}

/// Puts a program into a test's directory: a copy of its own. On the test machine it is a link to
/// one copy for all: to the emulator a new copy is new code, which it has to translate again, and
/// that takes longer than most tests.
fn place_program(from: &Path, to: &Path) {
    static FIRST: Mutex<()> = Mutex::new(());
    if !on_test_machine() {
        return copy_program(from, to);
    }
    let _alone = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
    let name = from.file_name().expect("a program has a name").to_string_lossy();
    let shared = std::env::temp_dir().join(format!("{name}-for-{}", std::process::id()));
    if !shared.exists() {
        copy_program(from, &shared);
    }
    fs::hard_link(&shared, to).expect("link a program");
}

/// Asks again and again until `done`, and fails the test with `what` when that takes too long.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + patience();
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(patience() / 4000);
    }
}

/// The program that the tests are about.
fn under_test() -> PathBuf {
    match std::env::var_os("EMERGENCE_RUNC_BIN") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_emergence-runc")),
    }
}

/// A new mount namespace whose `/sys/fs/cgroup` is cgroup 2 alone and where nothing reaches the
/// host.
///
/// A thread makes it, because unshare(2) of a mount namespace concerns only the thread that calls;
/// the namespace lives as long as the first descriptor; the second is the hierarchy's root.
fn mount_namespace(subids: Option<PathBuf>) -> (OwnedFd, OwnedFd) {
    let make = move || -> io::Result<(OwnedFd, OwnedFd)> {
        // SAFETY: no descriptor table is unshared, so no other thread's descriptors change meaning;
        // the thread ends with this closure and nothing else runs on it.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        if !cgroup2("/sys/fs/cgroup") {
            rustix::mount::unmount("/sys/fs/cgroup", UnmountFlags::DETACH)?;
            rustix::mount::mount("none", "/sys/fs/cgroup", "cgroup2", MountFlags::empty(), None)?;
        }
        if let Some(file) = subids {
            for target in ["/etc/subuid", "/etc/subgid"] {
                rustix::mount::mount_bind(&file, target)?;
            }
        }
        let hierarchy = fs::File::open("/sys/fs/cgroup")?;
        Ok((fs::File::open("/proc/thread-self/ns/mnt")?.into(), hierarchy.into()))
    };
    std::thread::spawn(make).join().expect("the thread does not panic").expect("create a mount namespace")
}

/// A network namespace of a test's own, with nothing but its loopback device.
pub(crate) fn network_namespace() -> OwnedFd {
    let make = || -> io::Result<OwnedFd> {
        // SAFETY: no descriptor table is unshared; the thread ends with this closure.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        Ok(fs::File::open("/proc/thread-self/ns/net")?.into())
    };
    std::thread::spawn(make).join().expect("the thread does not panic").expect("make a network namespace")
}

/// Whether `path` is the root of a cgroup 2 file system (statfs(2): CGROUP2_SUPER_MAGIC).
fn cgroup2(path: &str) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == 0x6367_7270)
}
