//! `mounts add` and `mounts remove`: validated like the mounts of config.json, carried out by a
//! process in the container's mount namespace, `init::remount`.

use std::ffi::{CStr, OsStr};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::existing::Existing;
use super::handover::Unborn;
use super::open_files::Raised;
use super::pid::ProcessId;
use super::request::Settings;
use super::succession::{pid_namespace, procfs_filter};
use super::{ContainerId, facts, handover, idmap, members, open, sources};
use crate::cgroup::Driver;
use crate::error::{Doing, Error, Kind, Result};
use crate::init::procfs::Opener;
use crate::init::remount::{self, Remount, Work};
use crate::init::sync::{self, Message};
use crate::plan::{MountKind, Plan};
use crate::spec::{self, Linux, Mount, Spec};
use crate::sys::namespace::{Namespace, NamespaceSet};
use crate::sys::process::{self, Exit, Memory};

/// `mounts add`: makes the mounts that `file` lists, all or none.
pub fn add_mounts(settings: &Settings, id: &ContainerId, file: &Path) -> Result<()> {
    let mounts = read(file)?;
    // The lock prevents a concurrent deletion.
    let container = Existing::lock(settings, id)?;
    let init = container.init()?;
    let plan = judge(settings, &container, mounts, file).and_then(|plan| fit(plan, file))?;
    let _raised = Raised::for_plan(&plan);
    let mut opened = Vec::new();
    for (index, step) in plan.rootfs.mounts.iter().enumerate() {
        let bound = match &step.kind {
            // The source is inside an earlier mount of the list, so it is only visible in the
            // container.
            MountKind::Bind(bound) if bound.within.is_some() => None,
            MountKind::Bind(bound) => Some(bound),
            _ => None,
        };
        let Some(bound) = bound else {
            opened.push(None);
            continue;
        };
        opened.push(match sources::source(&plan, bound, index) {
            // An unprivileged user may not; the container's root may.
            Err(error) if error.errno() == Some(libc::EPERM) && bound.idmap.is_none() => None,
            other => Some(other?),
        });
    }
    sources::map_to_container(&plan, &opened, || idmap::of_process(init.pid))?;
    let made = opened.iter().map(|_| None).collect();
    carry_out(&plan, &init, Work::Add { sources: opened, made })
}

/// `mounts remove`: unmounts the destinations that `file` lists, last first.
pub fn remove_mounts(settings: &Settings, id: &ContainerId, file: &Path) -> Result<()> {
    let mut mounts = read(file)?;
    for mount in &mut mounts {
        // Only the destination and its lookup count. The plan checks least of a remount.
        mount.options.retain(|option| option == "dest-nofollow");
        mount.options.extend(["bind", "remount"].map(String::from));
        mount.uid_mappings.clear();
        mount.gid_mappings.clear();
    }
    let container = Existing::lock(settings, id)?;
    let init = container.init()?;
    let plan = judge(settings, &container, mounts, file)?;
    if let Some(at) = plan.rootfs.mounts.iter().position(|step| step.target.is_empty()) {
        return Err(refused(file, at, "destination", "the root file system itself cannot be unmounted"));
    }
    carry_out(&plan, &init, Work::Remove)
}

fn read(file: &Path) -> Result<Vec<Mount>> {
    let bytes = fs::read(file).doing(|| format!("read {}", file.display()))?;
    let name = file.display().to_string();
    let mounts =
        spec::parse_mounts(&bytes).map_err(|fault| Error::new(Kind::Invalid, format!("{name}: {fault}")))?;
    members::warn::<Vec<Mount>>(&name, &bytes);
    members::warn::<Spec>(&name, &bytes);
    Ok(mounts)
}

fn refused(file: &Path, at: usize, field: &str, words: &str) -> Error {
    Error::invalid(&format!("{}: mounts[{at}].{field}", file.display()), words)
}

/// Builds a plan with these mounts instead of the container's own, and no other steps.
fn judge(settings: &Settings, container: &Existing, mounts: Vec<Mount>, file: &Path) -> Result<Plan> {
    let config = container.directory.config()?;
    let linux = config.linux.unwrap_or_default();
    let spec = Spec {
        oci_version: config.oci_version,
        root: config.root,
        annotations: config.annotations,
        mounts,
        linux: Some(Linux {
            namespaces: linux.namespaces,
            uid_mappings: linux.uid_mappings,
            gid_mappings: linux.gid_mappings,
            mount_label: linux.mount_label,
            rootfs_propagation: linux.rootfs_propagation,
            ..Linux::default()
        }),
        ..Spec::default()
    };
    let without_groups = Settings { driver: Driver::Disabled, ..settings.clone() };
    handover::begin();
    let facts = facts::host(&spec, &without_groups, &container.record.id)?;
    let plan = Plan::build(&spec, &container.ask(), &facts.host).map_err(|faults| {
        let first = faults.first().map_or_else(String::new, ToString::to_string);
        Error::new(Kind::Invalid, format!("{}: {first}", file.display()))
    })?;
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    Ok(plan)
}

/// Whether a bind source is a symbolic link. A missing one is not; mounting it reports the error.
fn is_link(source: &CStr) -> Result<bool> {
    let path = Path::new(OsStr::from_bytes(source.to_bytes()));
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(found.is_symlink()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error).doing(|| format!("copy-symlink: read {}", path.display())),
    }
}

/// Refuses mounts that are possible only during the creation, or that could not be undone.
fn fit(mut plan: Plan, file: &Path) -> Result<Plan> {
    for (at, step) in plan.rootfs.mounts.iter_mut().enumerate() {
        match &mut step.kind {
            MountKind::New(new) => {
                // The path of the host's instance would be resolved in the container.
                new.shared_instance = None;
            }
            MountKind::Bind(bound) => {
                if bound.copy_symlink && is_link(&bound.path)? {
                    let words = "copy-symlink: a link is copied only while the container is created";
                    return Err(refused(file, at, "options", words));
                }
                bound.copy_symlink = false;
                if bound.within.is_some() && bound.idmap.is_some() {
                    let words = "idmap of a source inside of an earlier mount is possible only while the container is created";
                    return Err(refused(file, at, "options", words));
                }
            }
            MountKind::Cgroup(_) => {
                let words = "cgroup is mounted only while the container is created";
                return Err(refused(file, at, "type", words));
            }
            MountKind::Remount(_) => {
                let words =
                    "remount: mounts add creates new mounts only; remove the mount, then add it again";
                return Err(refused(file, at, "options", words));
            }
        }
    }
    Ok(plan)
}

/// The namespaces to enter: the mount namespace, the user namespace with the required rights, and
/// those that a new file system shows.
fn kinds(plan: &Plan, pid: i32) -> Result<NamespaceSet> {
    let shown = plan.rootfs.mounts.iter().filter_map(|step| match &step.kind {
        MountKind::New(new) => match new.fstype.to_bytes() {
            b"proc" => Some(Namespace::Pid),
            b"sysfs" => Some(Namespace::Network),
            b"mqueue" => Some(Namespace::Ipc),
            _ => None,
        },
        _ => None,
    });
    let wanted: NamespaceSet = shown.chain([Namespace::User, Namespace::Mount]).collect();
    let identity = |path: String| -> Result<(u64, u64)> {
        let found = fs::metadata(&path).doing(|| format!("stat {path}"))?;
        Ok((found.dev(), found.ino()))
    };
    let mut kinds = NamespaceSet::EMPTY;
    for kind in wanted.iter() {
        let name = kind.file();
        // The kernel refuses to enter a user namespace that the process is already in.
        if identity(format!("/proc/{pid}/ns/{name}"))? != identity(format!("/proc/self/ns/{name}"))? {
            kinds = kinds.with(kind);
        }
    }
    if !kinds.has(Namespace::Mount) {
        let words =
            "the container has no mount namespace of its own: what is mounted for it is mounted on the host";
        return Err(Error::new(Kind::Unsupported, words));
    }
    Ok(kinds)
}

fn carry_out(plan: &Plan, init: &ProcessId, work: Work) -> Result<()> {
    attempt(plan, init, work).map_err(|error| init.explain(error))
}

fn attempt(plan: &Plan, init: &ProcessId, work: Work) -> Result<()> {
    let (ours, theirs) = sync::pair().doing(|| "create a socket pair")?;
    let path = format!("/proc/{}/root", init.pid);
    let root = rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("open {path}"))?;
    let kinds = kinds(plan, init.pid)?;
    // Last: the PID lookups were right if the process still lives.
    let gone = || Error::new(Kind::State, "container not running");
    let container = init.pidfd()?.ok_or_else(gone)?;
    let procfs = if kinds.has(Namespace::Pid) {
        Some(Opener { namespace: pid_namespace(init, &container)?, filter: procfs_filter()? })
    } else {
        None
    };
    let proc = open::open_proc()?;
    let mut remount = Remount {
        sync: theirs,
        proc,
        container,
        pid: init.pid,
        kinds,
        procfs,
        root,
        work,
        numbers: Vec::new(),
        beginning: handover::beginning(),
    };
    remount.list_descriptors();
    // SAFETY: `judge`, which has made the plan, has called `handover::begin` before.
    let unborn = unsafe {
        Unborn::prepare(plan, &mut remount, remount::run, |remount| (remount.sync.as_fd(), &remount.numbers))
    }?;
    let (_, pidfd) = unborn.clone(0, None, Memory::Shared).doing(|| "create a process")?;
    // Only the process may hold its end, so that its death closes it.
    drop(remount);
    let said = sync::hear(ours.as_fd()).doing(|| "listen to the process in the container");
    let ended = process::wait(pidfd.as_fd()).doing(|| "wait for the process in the container")?;
    match (said?, ended) {
        (Some((Message::Fault(fault), _)), _) => Err(Error::new(Kind::System, fault.explain(plan))),
        (None, Exit::Code(0)) => Ok(()),
        (_, ended) => {
            let words = format!(
                "the process in the container ended with status {}; some of the mounts may have been made",
                ended.status()
            );
            Err(Error::new(Kind::System, words))
        }
    }
}
