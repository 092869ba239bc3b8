//! `root` of config.json and everything below it: mounts, devices, masked and read-only paths,
//! propagation.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use super::mount_step::FsOption;
use super::{Ask, Context, DeviceStep, Judge, MountStep, devices, mounts, options};
use crate::spec::{self, Spec};
use crate::sys::mount::Reach;
use crate::sys::namespace::Namespace;

/// The root file system and everything mounted in it. Paths inside have no leading slash.
#[derive(Debug)]
pub struct Rootfs {
    /// Absolute path on the host.
    pub path: CString,
    /// Whether `/` is read-only in the end.
    pub readonly: bool,
    /// Whether the container's mount namespace differs from the runtime's; otherwise there is no
    /// pivot_root.
    pub own_mounts: bool,
    /// Propagation of all mounts during creation: MS_SLAVE unless the container shares its mounts.
    pub start_propagation: u64,
    /// `linux.rootfsPropagation`: MS_….
    pub propagation: Option<(u64, Reach)>,
    /// Whether MS_MOVE and chroot replace pivot_root.
    pub no_pivot: bool,
    /// The mounts, in order.
    pub mounts: Vec<MountStep>,
    /// Whether /dev gets the default links and ptmx.
    pub make_dev: bool,
    /// Device nodes, in /dev and elsewhere.
    pub devices: Vec<DeviceStep>,
    /// Whether nodes are bound from the host, because a user namespace cannot create them.
    pub bind_devices: bool,
    /// Masked paths.
    pub masked: Vec<CString>,
    /// Read-only paths.
    pub readonly_paths: Vec<CString>,
    /// Mount options of the tmpfs that masks a directory.
    pub mask_options: Vec<FsOption>,
}

impl Rootfs {
    /// The root of an existing container, which is not changed.
    pub(super) fn untouched() -> Self {
        Self {
            path: CString::default(),
            readonly: false,
            own_mounts: false,
            start_propagation: 0,
            propagation: None,
            no_pivot: false,
            mounts: Vec::new(),
            make_dev: false,
            devices: Vec::new(),
            bind_devices: false,
            masked: Vec::new(),
            readonly_paths: Vec::new(),
            mask_options: Vec::new(),
        }
    }

    pub(super) fn name(&self, list: &[CString], index: usize) -> String {
        list.get(index).map_or_else(String::new, |path| path.to_string_lossy().into_owned())
    }
}

/// Validates `root`, `mounts`, and the paths and devices of `linux`.
pub(crate) fn plan(
    spec: &Spec,
    linux: &spec::Linux,
    ask: &Ask<'_>,
    context: &Context<'_>,
    judge: &mut Judge,
) -> Option<Rootfs> {
    let Some(root) = &spec.root else {
        judge.fault("root", "missing; name the directory of the root file system in root.path");
        return None;
    };
    if root.path.is_empty() {
        judge.fault("root.path", "empty; name the directory of the root file system");
    }
    let own_mounts = context.owns(Namespace::Mount);
    let mut mounts = mounts::plan(spec, context, judge);
    let make_dev = !mounts::dev_is_bound(&mounts);
    let devices = devices::plan(&linux.devices, make_dev, judge);
    let propagation = propagation(&linux.rootfs_propagation, own_mounts, judge);
    let private = libc::MS_PRIVATE;
    let start_propagation = match propagation {
        Some((flag, _)) if flag == libc::MS_SHARED || flag == private => flag,
        // Unbindable would forbid our own bind mounts, so it is set at the end.
        Some((flag, _)) if flag == libc::MS_UNBINDABLE => private,
        _ => libc::MS_SLAVE,
    };
    let path = judge.path("root.path", &clean(&ask.bundle.join(&root.path)))?;
    mounts::find_sources_within(&mut mounts, &path);
    let mut mask_options = Vec::new();
    if !context.mount_label.is_empty() {
        let mut option = |text: &str| judge.cstring("linux.mountLabel", text);
        mask_options.push((option(context.mount_context)?, Some(option(&context.mount_label)?)));
    }
    Some(Rootfs {
        path,
        readonly: root.readonly,
        own_mounts,
        start_propagation,
        propagation,
        no_pivot: ask.no_pivot,
        mounts,
        make_dev,
        devices,
        bind_devices: context.owns(Namespace::User),
        masked: inside_paths(&linux.masked_paths, "linux.maskedPaths", own_mounts, judge),
        readonly_paths: inside_paths(&linux.readonly_paths, "linux.readonlyPaths", own_mounts, judge),
        mask_options,
    })
}

/// Normalizes lexically: `/bundle/./rootfs/` becomes `/bundle/rootfs`.
fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

fn propagation(word: &str, own_mounts: bool, judge: &mut Judge) -> Option<(u64, Reach)> {
    if word.is_empty() {
        return None;
    }
    let Some((flag, reach)) = options::propagation(word) else {
        judge.fault(
            "linux.rootfsPropagation",
            format!("{word:?}: use shared, slave, private or unbindable, or each with an r in front"),
        );
        return None;
    };
    if !own_mounts {
        judge.fault("linux.rootfsPropagation", "needs a mount namespace of the container's own");
        return None;
    }
    Some((flag.bits().into(), reach))
}

fn inside_paths(list: &[String], place: &str, own_mounts: bool, judge: &mut Judge) -> Vec<CString> {
    if !list.is_empty() && !own_mounts {
        judge.fault(place, "needs a mount namespace of the container's own");
    }
    let list = list.iter().enumerate();
    list.filter_map(|(at, path)| {
        if !path.starts_with('/') {
            judge.fault(format!("{place}[{at}]"), format!("{path:?} is not absolute"));
        }
        judge.cstring_at(|| format!("{place}[{at}]"), &mounts::inside(path))
    })
    .collect()
}
