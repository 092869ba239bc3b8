//! External resources of a container, which images cannot contain: mounts of the host, standard
//! files, joined namespaces. `checkpoint` names each, and `restore` supplies the resource for the
//! name.
//!
//! A mount's name is its destination in config.json. criu needs the real mount point, so
//! `checkpoint` reads the kernel's list of mounts.

use std::ffi::CString;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::error::{Doing, Error, Kind, Result};
use crate::plan::mount_step::CgroupMount;
use crate::plan::{CgroupView, MountKind, Plan};
use crate::rootfs::inroot::{InRoot, LastLink};
use crate::sys::mount::Reach;
use crate::sys::mountinfo::{self, Mount};
use crate::sys::namespace::Namespace;

/// The source of the mounts that hide masked files, and the name of all such mounts.
const NULL: &str = "/dev/null";

/// Joined namespaces, with their names in criu's images. The names are runc's: its images can be
/// restored.
pub(crate) const NAMESPACES: &[(Namespace, &str)] =
    &[(Namespace::Network, "extRootNetNS"), (Namespace::Pid, "extRootPidNS")];

/// A mount point.
struct MountPoint {
    /// The path as in config.json, from the root, without a slash at the end.
    inside: String,
    /// The mount's source.
    source: MountSource,
}

enum MountSource {
    /// A file system of the container's own.
    Own,
    /// A file or directory of the host.
    Host {
        /// Its path on the host.
        source: PathBuf,
        /// Whether all mounts below are included.
        reach: Reach,
    },
}

/// All mount points, in mount order.
fn places(plan: &Plan) -> Result<Vec<MountPoint>> {
    let mut places = Vec::new();
    let mut add = |inside: String, source| places.push(MountPoint { inside, source });
    for (index, step) in plan.rootfs.mounts.iter().enumerate() {
        let inside = inside(&step.target);
        match &step.kind {
            MountKind::Bind(bound) => {
                let source = path(&bound.path);
                if bound.copy_symlink && source.is_symlink() {
                    continue;
                }
                if bound.idmap.is_some() {
                    let words = "an id-mapped mount can neither be checkpointed nor restored by criu";
                    return Err(Error::invalid(&format!("mounts[{index}]"), words).of_kind(Kind::Unsupported));
                }
                // The path as the kernel lists it. A dump does not need a source that no longer
                // exists; a restore will report it.
                let source = match fs::canonicalize(&source) {
                    Err(error) if error.kind() == ErrorKind::NotFound => source,
                    real => real.doing(|| format!("resolve {} (mounts[{index}])", source.display()))?,
                };
                add(inside, MountSource::Host { source, reach: bound.reach });
            }
            MountKind::New(_) => add(inside, MountSource::Own),
            MountKind::Cgroup(cgroup) => {
                add(inside.clone(), MountSource::Own);
                for (inside, source) in cgroups(cgroup, &inside) {
                    add(inside, MountSource::Host { source, reach: Reach::Mount });
                }
            }
            MountKind::Remount(_) => {}
        }
    }
    if plan.rootfs.bind_devices {
        for device in &plan.rootfs.devices {
            let source = path(&device.host);
            add(inside(&device.path), MountSource::Host { source, reach: Reach::Mount });
        }
    }
    Ok(places)
}

/// The cgroup directories that are bind-mounted from the host, where the container cannot mount its
/// own view.
fn cgroups(cgroup: &CgroupMount, inside: &str) -> Vec<(String, PathBuf)> {
    match &cgroup.view {
        CgroupView::Unified(own) => vec![(inside.to_owned(), path(own))],
        CgroupView::Legacy(hierarchies) => {
            let each = hierarchies.iter();
            each.map(|one| (format!("{inside}/{}", one.name.to_string_lossy()), path(&one.own))).collect()
        }
    }
}

fn inside(target: &CString) -> String {
    format!("/{}", target.to_string_lossy()).trim_end_matches('/').to_owned()
}

fn path(text: &CString) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(text.as_bytes()))
}

/// The part of `path` below `above`, with its slash; empty for `above` itself.
fn below<'p>(path: &'p str, above: &str) -> Option<&'p str> {
    path.strip_prefix(above).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// For a dump: the external mounts of process `pid`, in criu's form `mnt[PLACE]:NAME`.
pub(crate) fn mounts_of(pid: i32, plan: &Plan) -> Result<Vec<String>> {
    let host = mounts("self")?;
    let mounts = mounts(&pid.to_string())?;
    let root = format!("/proc/{pid}/root");
    let root = rustix::fs::open(&root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("open {root}"))?;
    let real = |inside: &str| -> String {
        if mounts.iter().any(|mount| mount.place == inside) {
            return inside.to_owned();
        }
        // A symbolic link of the image led elsewhere.
        resolved(InRoot(root.as_fd()), inside).unwrap_or_else(|| inside.to_owned())
    };
    let places: Vec<(String, MountPoint)> =
        places(plan)?.into_iter().map(|place| (real(&place.inside), place)).collect();
    let masked: Vec<String> = plan.rootfs.masked.iter().map(|path| real(&inside(path))).collect();
    let own_cgroups = plan.namespaces.own(Namespace::Cgroup);
    let mut names = Vec::new();
    for mount in mounts.iter().filter(|mount| mount.place != "/") {
        let name = if masked.contains(&mount.place) {
            // A directory is hidden by a tmpfs of the container's own.
            (mount.root != "/").then(|| NULL.to_owned())
        } else if is_cgroup(mount) && (own_cgroups || mount.root == "/") {
            None
        } else {
            name(mount, &places, &host)
        };
        names.extend(name.map(|name| format!("mnt[{}]:{name}", mount.place)));
    }
    Ok(names)
}

fn mounts(process: &str) -> Result<Vec<Mount>> {
    mountinfo::of(process).doing(|| format!("read /proc/{process}/mountinfo"))
}

/// Whether it is a cgroup mount, of either version.
fn is_cgroup(mount: &Mount) -> bool {
    matches!(mount.fstype.as_str(), "cgroup" | "cgroup2")
}

/// The external name of a mount. `None`: it is the container's own.
fn name(mount: &Mount, places: &[(String, MountPoint)], host: &[Mount]) -> Option<String> {
    let covering = places.iter().filter_map(|(real, place)| Some((real, place, below(&mount.place, real)?)));
    // The deepest match; of several mounts on one place, the last.
    let (_, place, rest) = covering.max_by_key(|(real, ..)| real.len())?;
    let MountSource::Host { source, reach } = &place.source else { return None };
    if rest.is_empty() {
        return Some(place.inside.clone());
    }
    // Below it, the container may have created mounts of its own.
    let on_the_host = format!("{}{rest}", source.display());
    let same = |on_host: &Mount| {
        on_host.place == on_the_host && on_host.device == mount.device && on_host.root == mount.root
    };
    (*reach == Reach::Tree && host.iter().any(same)).then(|| format!("{}{rest}", place.inside))
}

/// The real path of `inside`, as seen in the container.
fn resolved(root: InRoot<'_>, inside: &str) -> Option<String> {
    use std::os::fd::AsRawFd;
    let path = CString::new(inside.trim_start_matches('/')).ok()?;
    let found = root.open(&path, LastLink::Follow).ok()?;
    let link = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
    link.to_str().map(str::to_owned)
}

/// For a restore: the source for every name that a dump may have used, in criu's form
/// `mnt[NAME]:SOURCE`.
pub(crate) fn mounts_for(plan: &Plan) -> Result<Vec<String>> {
    let host = mounts("self")?;
    let mut given = vec![format!("mnt[{NULL}]:{NULL}")];
    for place in places(plan)? {
        let MountSource::Host { source, reach } = &place.source else { continue };
        fs::metadata(source)
            .doing(|| format!("what was mounted on {}: {}", place.inside, source.display()))?;
        let source = source.to_str().ok_or_else(|| {
            let words = format!("{} is not UTF-8, which criu's messages must be", source.display());
            Error::new(Kind::Unsupported, words)
        })?;
        given.push(format!("mnt[{}]:{source}", place.inside));
        for mount in host.iter().filter(|_| *reach == Reach::Tree) {
            if let Some(rest) = below(&mount.place, source).filter(|rest| !rest.is_empty()) {
                given.push(format!("mnt[{}{rest}]:{}", place.inside, mount.place));
            }
        }
    }
    Ok(given)
}

/// Creates the missing mount points: in the root file system, or in a host directory bind-mounted
/// over it. In a file system of the container's own, criu restores them.
pub(crate) fn make_mount_points(plan: &Plan) -> Result<()> {
    let places = places(plan)?;
    for (index, place) in places.iter().enumerate() {
        let before = places.get(..index).unwrap_or_default().iter();
        let covering = before.filter_map(|other| Some((other, below(&place.inside, &other.inside)?)));
        let (base, rest) = match covering.max_by_key(|(other, _)| other.inside.len()) {
            Some((other, rest)) => match &other.source {
                MountSource::Own => continue,
                MountSource::Host { source, .. } => (source.clone(), rest),
            },
            None => (path(&plan.rootfs.path), place.inside.as_str()),
        };
        make(&base, rest.trim_start_matches('/'), place)
            .doing(|| format!("create {} to mount on, below {}", place.inside, base.display()))?;
    }
    Ok(())
}

fn make(base: &Path, rest: &str, place: &MountPoint) -> std::io::Result<()> {
    if rest.is_empty() {
        return Ok(());
    }
    let rest = CString::new(rest)?;
    let base = rustix::fs::open(base, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let root = InRoot(base.as_fd());
    match &place.source {
        MountSource::Host { source, .. } if !source.is_dir() => root.file(&rest)?,
        _ => root.directory(&rest)?,
    };
    Ok(())
}

/// For a dump: the names in images of process `pid`'s three standard files, and those of them that
/// are files of the host, for criu's list of external resources.
pub(crate) fn standard_files(pid: i32) -> Result<(Vec<String>, Vec<String>)> {
    let mounts = mounts(&pid.to_string())?;
    let (mut files, mut outside) = (Vec::new(), Vec::new());
    for number in 0..3 {
        let file = format!("/proc/{pid}/fd/{number}");
        // Closed: an empty name.
        let link = match fs::read_link(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            link => link.doing(|| format!("read {file}"))?.to_string_lossy().into_owned(),
        };
        if link.is_empty() {
            files.push(link);
            continue;
        }
        let name = match of_host(pid, number, &link, &mounts).doing(|| format!("identify {file}"))? {
            Some(name) => {
                outside.push(name.clone());
                name
            }
            None => link,
        };
        files.push(name);
    }
    Ok((files, outside))
}

/// criu's name of a file, fifo or device on a mount that the container does not have. Terminals
/// have other rules.
fn of_host(pid: i32, number: i32, link: &str, mounts: &[Mount]) -> std::io::Result<Option<String>> {
    let found = fs::metadata(format!("/proc/{pid}/fd/{number}"))?;
    let kind = rustix::fs::FileType::from_raw_mode(found.mode());
    let terminal = matches!(rustix::fs::major(found.rdev()), 4 | 5 | 136..=143);
    let outside = !link.starts_with("pipe:")
        && match kind {
            rustix::fs::FileType::RegularFile | rustix::fs::FileType::Fifo => true,
            rustix::fs::FileType::CharacterDevice => !terminal,
            _ => false,
        };
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"))?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse::<u32>().ok());
    let Some(mount) = mount.filter(|id| outside && !mounts.iter().any(|mount| mount.id == *id)) else {
        return Ok(None);
    };
    Ok(Some(format!("file[{mount:x}:{:x}]", found.ino())))
}
