//! The only place that validates a spec: turns `Spec` and the command's request into a [`Plan`], or
//! returns all errors.
//!
//! A plan is owned, validated, and complete: every string is a C string, every number in range,
//! every list in execution order. Building it makes no system call; the child that executes it does
//! nothing else.

#![forbid(unsafe_code)]

mod capabilities;
pub(crate) mod cause;
mod describe;
pub mod devices;
pub mod enter;
mod filter;
pub mod hooks;
pub mod ids;
pub mod limits;
mod mount_options;
pub mod mount_step;
mod mounts;
pub mod namespaces;
pub mod options;
pub mod passed;
pub mod process;
pub mod rdt;
mod remount;
pub mod rlimits;
mod rootfs;
pub mod schedule;
pub mod step;
pub mod success;
pub mod sysctl;
pub mod update;
mod words;

use std::ffi::CString;
use std::fmt::{self, Display, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::cgroup;
use crate::error::{LONGEST_PATH, LONGEST_WORDS, OneLine, shortened};
use crate::net::{Move, check_name};
use crate::security::seccomp::Filter;
use crate::spec::{self, Spec};
use crate::sys::cred::CapMask;
use crate::sys::namespace::{Namespace, NamespaceSet};

pub use capabilities::CapSets;
pub use devices::DeviceStep;
pub use hooks::{ContainerHook, HookEnvironment, Hooks, RuntimeHook};
pub use ids::IdMaps;
pub use mount_step::{BindSource, CgroupMount, CgroupView, MountKind, MountStep, NewFs};
pub use namespaces::{MapsBy, Namespaces};
pub use passed::Passed;
pub use process::{Affinity, ProcessPlan, ProcessStrings, TerminalSize};
pub use rootfs::Rootfs;
pub use step::{At, Step, StepError};
pub use success::Detail;

/// The actions that create the container, or ([`Plan::enter`]) one more process in it.
#[derive(Debug)]
pub struct Plan {
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// Its root file system and all mounts.
    pub rootfs: Rootfs,
    /// The program; `None` if config.json has none: then the container cannot be started.
    pub process: Option<ProcessPlan>,
    /// Host name inside; empty: not set.
    pub hostname: Vec<u8>,
    /// NIS domain name inside; empty: not set.
    pub domainname: Vec<u8>,
    /// Path below /proc/sys, and value.
    pub sysctl: Vec<(CString, Vec<u8>)>,
    /// Programs to run at certain points.
    pub hooks: Hooks,
    /// Name of a new session keyring.
    pub keyring: Option<CString>,
    /// personality(2).
    pub personality: Option<u64>,
    /// set_mempolicy(2).
    pub memory_policy: Option<MemoryPolicy>,
    /// The settings written into the cgroup.
    pub limits: cgroup::CgroupSettings,
    /// The new owner of the container's cgroup, as a user ID in this process's user namespace.
    pub cgroup_owner: Option<u32>,
    /// Properties of the container's systemd unit, if it has one.
    pub scope: Vec<cgroup::systemd::Property>,
    /// Decides about device accesses in cgroup v2; `None`: every access is allowed, or there is no
    /// cgroup.
    pub device_program: Option<cgroup::devices::Program>,
    /// Shares of caches and memory bandwidth.
    pub rdt: Option<cgroup::ResctrlWish>,
    /// System call filter.
    pub seccomp: Option<Filter>,
    /// Network devices to move into the container.
    pub net_devices: Vec<Move>,
    /// Warnings: nothing is refused, but the user should know.
    pub warnings: Vec<String>,
    /// Debug messages.
    pub details: Vec<String>,
}

/// set_mempolicy(2): mode with flags, and nodes as a bit mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// `MPOL_… | MPOL_F_…`.
    pub mode: i32,
    /// In 64-bit words.
    pub nodes: Vec<u64>,
}

/// The request of the command, in addition to config.json.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The bundle, absolute.
    pub bundle: &'a Path,
    /// Whether pivot_root is avoided.
    pub no_pivot: bool,
    /// Whether the process gets its own session keyring.
    pub new_keyring: bool,
    /// Descriptors of the caller that the program inherits.
    pub passed: &'a Passed,
}

impl Ask<'_> {
    /// The session keyring's name, which all processes of a container share.
    fn keyring(&self) -> Option<CString> {
        self.new_keyring.then(|| CString::new(format!("_ses.{}", self.id)).ok()).flatten()
    }
}

/// The properties of this host and this process that a plan depends on.
#[derive(Clone, Debug)]
pub struct Host {
    /// The runtime's effective user.
    pub euid: u32,
    /// The runtime's effective group.
    pub egid: u32,
    /// The runtime's permitted capabilities.
    pub capabilities: CapMask,
    /// Whether the kernel has AppArmor on.
    pub apparmor: bool,
    /// Whether the kernel has SELinux on.
    pub selinux: bool,
    /// Whether the kernel supports the mount option nosymfollow; before Linux 5.10, mount(2)
    /// silently ignores it.
    pub nosymfollow: bool,
    /// The contents of a mount of type cgroup, if there are any.
    pub cgroup_view: Option<CgroupView>,
    /// How the container's limits are applied.
    pub limiting: Limiting,
    /// The resctrl resources of the host; only read if config.json has linux.intelRdt.
    pub resctrl: Option<cgroup::Resctrl>,
    /// The container's future systemd unit.
    pub scope: Option<cgroup::systemd::Scope>,
    /// The runtime's environment, for hooks without their own.
    pub environment: Vec<CString>,
}

/// How a container's limits are applied on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limiting {
    /// Not limited: the host has no cgroups.
    Nothing,
    /// Not limited: the user has disabled it.
    Disabled,
    /// By cgroup v1.
    Legacy,
    /// By cgroup v2.
    Unified,
}

/// A path in config.json. It becomes a string only for a fault.
type Place<'a> = fmt::Arguments<'a>;

/// Shared inputs of the parts of a plan; private to this module.
#[derive(Debug)]
pub struct Context<'a> {
    bundle: &'a Path,
    passed: &'a Passed,
    grantable: CapMask,
    keep_groups: bool,
    apparmor: bool,
    selinux: bool,
    mount_label: String,
    mount_context: &'static str,
    nosymfollow: bool,
    cgroup_view: Option<CgroupView>,
    /// The namespaces that differ from the runtime's.
    own: NamespaceSet,
    /// The new ones among them.
    made: NamespaceSet,
}

impl<'a> Context<'a> {
    /// The part that does not depend on the container's namespaces.
    fn of(spec: &Spec, ask: &Ask<'a>, host: &Host) -> Self {
        Self {
            bundle: ask.bundle,
            passed: ask.passed,
            grantable: host.capabilities,
            keep_groups: annotated(spec, "run.oci.keep_original_groups", "1"),
            apparmor: host.apparmor,
            selinux: host.selinux,
            mount_label: String::new(),
            mount_context: "context",
            nosymfollow: true,
            cgroup_view: None,
            own: NamespaceSet::EMPTY,
            made: NamespaceSet::EMPTY,
        }
    }

    fn owns(&self, kind: Namespace) -> bool {
        self.own.has(kind)
    }

    fn makes(&self, kind: Namespace) -> bool {
        self.made.has(kind)
    }
}

#[cfg(test)]
impl Context<'_> {
    fn for_tests() -> Self {
        Self {
            bundle: Path::new("/bundle"),
            passed: &passed::NOTHING,
            grantable: !0,
            keep_groups: false,
            apparmor: false,
            selinux: false,
            mount_label: String::new(),
            mount_context: "context",
            nosymfollow: true,
            cgroup_view: None,
            own: NamespaceSet::EMPTY,
            made: NamespaceSet::EMPTY,
        }
    }
}

/// One error in config.json.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadField {
    /// JSON path.
    pub path: String,
    /// The error, and what to write instead.
    pub words: String,
}

impl fmt::Display for BadField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, words) = (shortened(&self.path, LONGEST_PATH), shortened(&self.words, LONGEST_WORDS));
        write!(OneLine(f), "{path}: {words}")
    }
}

/// Collects errors, so that all of them are reported at once.
#[derive(Debug, Default)]
pub struct Judge {
    /// Errors: they cannot work.
    pub faults: Vec<BadField>,
    /// Warnings: things that behave unexpectedly.
    pub warnings: Vec<String>,
    /// Debug messages.
    pub details: Vec<String>,
}

impl Judge {
    fn fault(&mut self, path: impl Display, words: impl Into<String>) {
        self.faults.push(BadField { path: path.to_string(), words: words.into() });
    }

    fn verdict(self, plan: Option<Plan>) -> Result<Plan, Vec<BadField>> {
        match plan {
            Some(plan) if self.faults.is_empty() => {
                Ok(Plan { warnings: self.warnings, details: self.details, ..plan })
            }
            _ => Err(self.faults),
        }
    }

    fn warn(&mut self, words: String) {
        self.warnings.push(shortened(&words, LONGEST_WORDS).into_owned());
    }

    fn cstring(&mut self, path: impl Display, text: &str) -> Option<CString> {
        self.cstring_at(|| path.to_string(), text)
    }

    fn cstring_at(&mut self, path: impl FnOnce() -> String, text: &str) -> Option<CString> {
        let made = CString::new(text);
        if made.is_err() {
            self.fault(path(), "has a NUL byte");
        }
        made.ok()
    }

    fn cbytes_at(&mut self, path: impl FnOnce() -> String, bytes: &[u8]) -> Option<CString> {
        let made = CString::new(bytes);
        if made.is_err() {
            self.fault(path(), "has a NUL byte");
        }
        made.ok()
    }

    fn path(&mut self, path: impl Display, file: &Path) -> Option<CString> {
        let made = CString::new(file.as_os_str().as_bytes());
        if made.is_err() {
            self.fault(path, "has a NUL byte");
        }
        made.ok()
    }
}

impl Plan {
    /// Validates `spec`: returns a plan, or all errors.
    pub fn build(spec: &Spec, ask: &Ask<'_>, host: &Host) -> Result<Plan, Vec<BadField>> {
        let mut judge = Judge::default();
        let plan = build(spec, ask, host, &mut judge);
        judge.verdict(plan)
    }
}

fn build(spec: &Spec, ask: &Ask<'_>, host: &Host, judge: &mut Judge) -> Option<Plan> {
    version(&spec.oci_version, judge);
    let empty = spec::Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&empty);
    let namespaces = namespaces::plan(linux, host, judge);
    let new_user = namespaces.creates(Namespace::User);
    let context = Context {
        grantable: if new_user || namespaces.joins(Namespace::User) { !0 } else { host.capabilities },
        mount_label: mount_label(linux, host, judge),
        mount_context: mount_context(spec, judge),
        nosymfollow: host.nosymfollow,
        cgroup_view: host.cgroup_view.clone(),
        own: namespaces.not_the_runtimes(),
        made: namespaces.new,
        ..Context::of(spec, ask, host)
    };
    let rootfs = rootfs::plan(spec, linux, ask, &context, judge);
    let process = spec.process.as_ref().map(|process| {
        process::plan(process, &process::ProcessStrings::of(process), "process", &context, judge)
    });
    if let (true, Some(process), Some(maps)) = (new_user, &spec.process, &namespaces.maps) {
        process::check_mapped(process, &context, maps, judge);
    }
    if let (true, Some(maps)) = (new_user, &namespaces.maps) {
        ids::mapped_options(&spec.mounts, maps, judge);
    }
    let (mut limits, device_program) = limits::resources(linux.resources.as_ref(), host.limiting, judge);
    let scope = limits::scope(spec, &mut limits, host.scope.as_ref(), judge);
    let hostname = host_name(&spec.hostname, "hostname", &namespaces, judge);
    let domainname = host_name(&spec.domainname, "domainname", &namespaces, judge);
    Some(Plan {
        sysctl: sysctl::plan(spec, &namespaces, judge),
        hooks: hooks::plan(spec, &host.environment, judge),
        net_devices: net_devices(linux, &namespaces, judge),
        personality: linux.personality.as_ref().and_then(|wanted| limits::personality(wanted, judge)),
        memory_policy: linux.memory_policy.as_ref().and_then(|wanted| schedule::memory_policy(wanted, judge)),
        cgroup_owner: rootfs
            .as_ref()
            .and_then(|rootfs| limits::cgroup_owner(process.as_ref()?.as_ref()?, rootfs, &namespaces, host)),
        limits,
        scope,
        device_program,
        rdt: linux
            .intel_rdt
            .as_ref()
            .and_then(|wanted| rdt::plan(wanted, ask.id, host.resctrl.as_ref(), judge)),
        seccomp: filter::plan(spec, judge),
        hostname,
        domainname,
        keyring: ask.keyring(),
        namespaces,
        warnings: Vec::new(),
        details: Vec::new(),
        process: match process {
            Some(plan) => Some(plan?),
            None => None,
        },
        rootfs: rootfs?,
    })
}

/// Whether an annotation has this value (or `true`).
fn annotated(spec: &Spec, name: &str, value: &str) -> bool {
    spec.annotations.get(name).is_some_and(|found| found == value || found == "true")
}

fn version(version: &str, judge: &mut Judge) {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<Option<u32>> = core.split('.').map(|part| part.parse().ok()).collect();
    match parts.as_slice() {
        [Some(1), Some(_), Some(_)] => {}
        [Some(_), Some(_), Some(_)] => {
            judge.fault("ociVersion", format!("{version:?} is not supported; write 1.0.0 to 1.3.0"))
        }
        _ => judge.fault("ociVersion", format!("{version:?} is not a version; write for example 1.3.0")),
    }
}

fn mount_label(linux: &spec::Linux, host: &Host, judge: &mut Judge) -> String {
    if !linux.mount_label.is_empty() && !host.selinux {
        judge.fault("linux.mountLabel", "asked for, but SELinux is not enabled in this kernel");
    }
    linux.mount_label.clone()
}

fn mount_context(spec: &Spec, judge: &mut Judge) -> &'static str {
    const NAME: &str = "run.oci.mount_context_type";
    match spec.annotations.get(NAME).map(String::as_str) {
        None | Some("context") => "context",
        Some("fscontext") => "fscontext",
        Some("defcontext") => "defcontext",
        Some("rootcontext") => "rootcontext",
        Some(other) => {
            judge.fault(
                format!("annotations.{NAME}"),
                format!("{other:?}: use context, fscontext, defcontext or rootcontext"),
            );
            "context"
        }
    }
}

/// Longest host and domain name, uname(2).
const LONGEST_NAME: usize = 64;

fn host_name(name: &str, path: &str, namespaces: &Namespaces, judge: &mut Judge) -> Vec<u8> {
    if !name.is_empty() && !namespaces.own(Namespace::Uts) {
        judge.fault(
            path,
            "needs a uts namespace of the container's own; add {\"type\": \"uts\"} to linux.namespaces",
        );
    }
    if name.len() > LONGEST_NAME || name.contains('\0') {
        judge.fault(path, format!("longer than {LONGEST_NAME} bytes, or with a NUL byte"));
    }
    name.as_bytes().to_vec()
}

fn net_devices(linux: &spec::Linux, namespaces: &Namespaces, judge: &mut Judge) -> Vec<Move> {
    if !linux.net_devices.is_empty() && !namespaces.own(Namespace::Network) {
        judge.fault("linux.netDevices", "needs a network namespace of the container's own");
    }
    let mut moves = Vec::new();
    for (host_name, device) in &linux.net_devices {
        let container_name = if device.name.is_empty() { host_name } else { &device.name };
        for name in [host_name, container_name] {
            if let Err(words) = check_name(name) {
                judge.fault(format!("linux.netDevices.{host_name}"), words);
            }
        }
        moves.push(Move { host_name: host_name.clone(), container_name: container_name.clone() });
    }
    moves
}

#[cfg(test)]
mod tests;
