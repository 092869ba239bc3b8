//! Root file systems: for store objects a skeleton with the closure mounted; for an image its tree
//! in the store, bound.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use super::Rootfs;
use crate::emergence::base::files::{copy_tree, overlay_directories, overlay_on, rename_new, set_time};
use crate::emergence::base::hash::Hash;
use crate::emergence::base::refusal::{Fault, Result};
use crate::emergence::nix::object::Object;
use crate::emergence::store::Store;
use crate::error::{Doing, Error};
use crate::spec::Mount;

/// Up to this many objects, each gets its own mount; more would slow down a container's start.
const FEW: usize = 50;

/// Directories of every skeleton, for mounts and files.
const DIRECTORIES: [&str; 5] = ["dev", "etc", "proc", "sys", "tmp"];

/// Files of every skeleton: programs look up their user and localhost.
const FILES: [(&str, &str); 3] = [
    ("etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\nnobody:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
];

/// Creates the directory `rootfs` in `bundle`, whose final path will be `last`. Returns the mounts
/// that complete it.
pub(crate) fn automaton_root(
    objects: &[Object],
    store: &Store,
    shape: Rootfs,
    bundle: &Path,
    last: &Path,
) -> Result<Vec<Mount>> {
    let rootfs = bundle.join("rootfs");
    skeleton(&rootfs, store)?;
    let place = rootfs.join(store.dir().as_str().trim_start_matches('/'));
    let mounts = match shape {
        Rootfs::Copy => {
            for object in objects {
                copy_tree(&store.tree(&object.path), &place.join(object.path.to_string()), false)?;
            }
            Vec::new()
        }
        Rootfs::Bind if objects.len() > FEW => vec![bind(store.dir().as_str(), &view(store, objects)?)?],
        Rootfs::Bind => {
            let each = objects.iter().map(|object| single(object, store, &place));
            each.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect()
        }
        Rootfs::Overlay => vec![overlay(store.dir().as_str(), &[view(store, objects)?], bundle, last)?],
    };
    settle(&rootfs)?;
    Ok(mounts)
}

fn skeleton(rootfs: &Path, store: &Store) -> Result<()> {
    let doing = || format!("create {}", rootfs.display());
    let directory = |path: &Path| {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o755))
    };
    directory(rootfs).doing(doing)?;
    for name in DIRECTORIES {
        directory(&rootfs.join(name)).doing(doing)?;
    }
    let mut place = rootfs.to_owned();
    for part in Path::new(store.dir().as_str().trim_start_matches('/')).components() {
        place.push(part);
        directory(&place).doing(doing)?;
    }
    for (name, text) in FILES {
        let file = rootfs.join(name);
        fs::write(&file, text).doing(doing)?;
        fs::set_permissions(&file, Permissions::from_mode(0o644)).doing(doing)?;
    }
    Ok(())
}

/// The mount of one object, and its mount point. A symbolic link is copied instead of mounted.
fn single(object: &Object, store: &Store, place: &Path) -> Result<Option<Mount>> {
    let tree = store.tree(&object.path);
    if mount_point(&tree, &place.join(object.path.to_string()))? {
        bind(&store.dir().path(&object.path), &tree).map(Some)
    } else {
        Ok(None)
    }
}

/// Creates a mount point for `from`. False: `from` is a symbolic link, which was copied and needs
/// no mount.
fn mount_point(from: &Path, point: &Path) -> Result<bool> {
    let doing = || format!("create {}", point.display());
    let kind = fs::symlink_metadata(from).doing(|| format!("stat {}", from.display()))?;
    if kind.is_symlink() {
        symlink(fs::read_link(from).doing(doing)?, point).doing(doing)?;
        return Ok(false);
    }
    if kind.is_dir() {
        fs::create_dir(point).doing(doing)?
    } else {
        drop(fs::File::create_new(point).doing(doing)?)
    }
    Ok(true)
}

fn bind(destination: &str, source: &Path) -> Result<Mount> {
    Ok(Mount {
        destination: destination.to_owned(),
        kind: "bind".into(),
        source: text(source)?.to_owned(),
        options: ["rbind", "ro", "nosuid", "nodev"].map(str::to_owned).into(),
        ..Mount::default()
    })
}

/// Creates the directory `rootfs` of an image whose tree is at `tree`, and returns its mounts,
/// which precede all others. Each top-level entry of the tree is bound read-only, so that nothing
/// writes to it, including the runtime when it creates mount points for `others`, the container's
/// other mounts.
pub(super) fn image_root(tree: &Path, rootfs: &Path, others: &[Mount]) -> Result<Vec<Mount>> {
    let doing = || format!("create {}", rootfs.display());
    fs::create_dir(rootfs).doing(doing)?;
    let mut mounts = Vec::new();
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(tree).doing(|| format!("read {}", tree.display()))? {
        names.insert(entry.doing(|| format!("read {}", tree.display()))?.file_name());
    }
    for name in &names {
        let from = tree.join(name);
        if !mount_point(&from, &rootfs.join(name))? {
            continue;
        }
        // Programs may be set-uid, as in the image.
        let options = ["rbind", "ro", "nodev"].map(str::to_owned).into();
        mounts.push(Mount { options, ..bind(text(&Path::new("/").join(name))?, &from)? });
    }
    for other in others {
        if let Some(Component::Normal(name)) = Path::new(&other.destination).components().nth(1)
            && names.insert(name.to_owned())
        {
            fs::create_dir(rootfs.join(name)).doing(doing)?;
        }
    }
    settle(rootfs)?;
    let kind = fs::symlink_metadata(tree).doing(|| format!("stat {}", tree.display()))?;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(rootfs, Some(kind.uid()), Some(kind.gid())).doing(doing)?;
    }
    fs::set_permissions(rootfs, kind.permissions()).doing(doing)?;
    Ok(mounts)
}

/// An overlay mount; writes go to the bundle. `lower`: its lower directories, lowest first.
fn overlay(destination: &str, lower: &[PathBuf], bundle: &Path, last: &Path) -> Result<Mount> {
    let mut options: Vec<String> = ["nosuid", "nodev"].map(str::to_owned).into();
    options.extend(written_to(bundle, lower, last)?);
    Ok(Mount {
        destination: destination.to_owned(),
        kind: "overlay".into(),
        source: "overlay".into(),
        options,
        ..Mount::default()
    })
}

/// Creates the upper and work directories in `bundle`, whose final path will be `last`. Returns the
/// mount options with all directories.
fn written_to(bundle: &Path, lower: &[PathBuf], last: &Path) -> Result<Vec<String>> {
    for name in ["upper", "work"] {
        let path = bundle.join(name);
        fs::create_dir(&path).doing(|| format!("create {}", path.display()))?;
    }
    overlay_directories(lower, &last.join("upper"), &last.join("work"))
}

/// Mounts an overlay on the new directory `rootfs`, in a mount namespace that ends with the
/// container. Writes go to `bundle`. `lower`: its lower directories, lowest first.
pub(crate) fn mount_overlay(lower: &[PathBuf], bundle: &Path, rootfs: &Path) -> Result<()> {
    let options = written_to(bundle, lower, bundle)?.join(",");
    fs::create_dir(rootfs).doing(|| format!("create {}", rootfs.display()))?;
    overlay_on(rootfs, options)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Fault::usage(format!("{}: must be UTF-8", path.display())))
}

/// A directory with exactly these objects, hard-linked to the store's files; created once per
/// closure.
///
/// It counts as a layer: the store keeps it as long as something holds it.
pub(crate) fn view(store: &Store, objects: &[Object]) -> Result<PathBuf> {
    let directory = store.layers().join(view_name(objects));
    if directory.exists() {
        return Ok(directory);
    }
    store.staged(|staging| {
        let new = staging.join("view");
        fs::create_dir(&new).doing(|| format!("create {}", new.display()))?;
        for object in objects {
            copy_tree(&store.tree(&object.path), &new.join(object.path.to_string()), true)?;
        }
        let opened = fs::set_permissions(&new, Permissions::from_mode(0o755));
        opened.doing(|| format!("open {}", new.display()))?;
        set_time(&new)?;
        match rename_new(&new, &directory) {
            // Another process may have been faster.
            Ok(()) | Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(()),
            Err(error) => Err(Error::from(error).within(format!("create {}", directory.display())).into()),
        }
    })?;
    Ok(directory)
}

/// The name of a closure's directory. The suffix keeps it apart from those of images, whose layers
/// may have any content.
pub(crate) fn view_name(objects: &[Object]) -> String {
    let mut names: Vec<String> = objects.iter().map(|object| format!("{}\n", object.path)).collect();
    names.sort_unstable();
    Hash::sha256(format!("emergence-view-1\n{}", names.concat()).as_bytes()).hex() + ".view"
}

/// Sets all times as in a store, so that the same closure gives the same skeleton.
fn settle(rootfs: &Path) -> Result<()> {
    let mut left = vec![rootfs.to_owned()];
    let mut all = Vec::new();
    while let Some(path) = left.pop() {
        let kind = fs::symlink_metadata(&path).doing(|| format!("stat {}", path.display()))?;
        if kind.is_dir() {
            for entry in fs::read_dir(&path).doing(|| format!("read {}", path.display()))? {
                left.push(entry.doing(|| format!("read {}", path.display()))?.path());
            }
        }
        all.push(path);
    }
    all.iter().rev().try_for_each(|path| set_time(path))
}
