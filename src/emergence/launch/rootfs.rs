//! Root file systems: of store objects a skeleton, with the closure at its place; of an image its tree in the store, bound.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use super::Rootfs;
use crate::emergence::base::files::{again, overlay_folders, overlay_on, rename_new, set_time};
use crate::emergence::base::hash::Hash;
use crate::emergence::base::refusal::{Fault, Result};
use crate::emergence::nix::object::Object;
use crate::emergence::store::Store;
use crate::error::{Doing, Error};
use crate::spec::Mount;

/// Up to so many objects each gets a mount of its own; more of them would make a container's start slow.
const FEW: usize = 50;

/// Folders of every skeleton, where something is mounted or files are.
const FOLDERS: [&str; 5] = ["dev", "etc", "proc", "sys", "tmp"];

/// Files of every skeleton: programs look up their user, and localhost.
const FILES: [(&str, &str); 3] = [
    ("etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\nnobody:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
];

/// Makes the folder `rootfs` in `bundle`, which is going to be called `last`: the mounts that complete it.
pub fn automaton_root(
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
                again(&store.tree(&object.path), &place.join(object.path.to_string()), false)?;
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
    let doing = || format!("make {}", rootfs.display());
    let folder = |path: &Path| {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o755))
    };
    folder(rootfs).doing(doing)?;
    for name in FOLDERS {
        folder(&rootfs.join(name)).doing(doing)?;
    }
    let mut place = rootfs.to_owned();
    for part in Path::new(store.dir().as_str().trim_start_matches('/')).components() {
        place.push(part);
        folder(&place).doing(doing)?;
    }
    for (name, text) in FILES {
        let file = rootfs.join(name);
        fs::write(&file, text).doing(doing)?;
        fs::set_permissions(&file, Permissions::from_mode(0o644)).doing(doing)?;
    }
    Ok(())
}

/// The mount of one object, and the place for it. A link is not mounted but there itself.
fn single(object: &Object, store: &Store, place: &Path) -> Result<Option<Mount>> {
    let tree = store.tree(&object.path);
    match mount_point(&tree, &place.join(object.path.to_string()))? {
        true => bind(&store.dir().path(&object.path), &tree).map(Some),
        false => Ok(None),
    }
}

/// Makes the place where `from` can be mounted. A link is made there itself instead; then there is nothing to mount.
fn mount_point(from: &Path, point: &Path) -> Result<bool> {
    let doing = || format!("make {}", point.display());
    let kind = fs::symlink_metadata(from).doing(|| format!("look at {}", from.display()))?;
    if kind.is_symlink() {
        symlink(fs::read_link(from).doing(doing)?, point).doing(doing)?;
        return Ok(false);
    }
    match kind.is_dir() {
        true => fs::create_dir(point).doing(doing)?,
        false => drop(fs::File::create_new(point).doing(doing)?),
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

/// Makes the folder `rootfs` of an image whose tree is at `tree`: what the tree has at its top is bound, read-only, so that nobody writes to
/// it, not even the runtime when it makes the places of `others`, the mounts that the container has besides. The mounts that come first.
pub(super) fn image_root(tree: &Path, rootfs: &Path, others: &[Mount]) -> Result<Vec<Mount>> {
    let doing = || format!("make {}", rootfs.display());
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
        // A program may give its user's rights, as it may in the image.
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
    let kind = fs::symlink_metadata(tree).doing(|| format!("look at {}", tree.display()))?;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(rootfs, Some(kind.uid()), Some(kind.gid())).doing(doing)?;
    }
    fs::set_permissions(rootfs, kind.permissions()).doing(doing)?;
    Ok(mounts)
}

/// What is written goes to the bundle. `lower`: folders one over another, the lowest first.
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

/// Makes the folders in `bundle`, which is going to be called `last`, that take what is written over `lower`: the options that name all.
fn written_to(bundle: &Path, lower: &[PathBuf], last: &Path) -> Result<Vec<String>> {
    for name in ["upper", "work"] {
        let path = bundle.join(name);
        fs::create_dir(&path).doing(|| format!("make {}", path.display()))?;
    }
    overlay_folders(lower, &last.join("upper"), &last.join("work"))
}

/// Mounts an overlay on the new folder `rootfs`: what is written over the folders of `lower`, the lowest first, goes to `bundle`. For a
/// mount namespace that ends with the container.
pub fn mount_overlay(lower: &[PathBuf], bundle: &Path, rootfs: &Path) -> Result<()> {
    let options = written_to(bundle, lower, bundle)?.join(",");
    fs::create_dir(rootfs).doing(|| format!("make {}", rootfs.display()))?;
    overlay_on(rootfs, options)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Fault::usage(format!("{}: must be UTF-8", path.display())))
}

/// A folder with these objects and no other, their files the store's own inodes; made once for each closure.
///
/// It counts as a layer: the store keeps it while something holds it.
pub fn view(store: &Store, objects: &[Object]) -> Result<PathBuf> {
    let folder = store.layers().join(view_name(objects));
    if folder.exists() {
        return Ok(folder);
    }
    store.staged(|staging| {
        let new = staging.join("view");
        fs::create_dir(&new).doing(|| format!("make {}", new.display()))?;
        for object in objects {
            again(&store.tree(&object.path), &new.join(object.path.to_string()), true)?;
        }
        let opened = fs::set_permissions(&new, Permissions::from_mode(0o755));
        opened.doing(|| format!("open {}", new.display()))?;
        set_time(&new)?;
        match rename_new(&new, &folder) {
            // Another process was faster.
            Ok(()) | Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(()),
            Err(error) => Err(Error::from(error).within(format!("make {}", folder.display())).into()),
        }
    })?;
    Ok(folder)
}

/// What the folder of a closure is called. Not as one of an image could be, whose layer may be any text.
pub fn view_name(objects: &[Object]) -> String {
    let mut names: Vec<String> = objects.iter().map(|object| format!("{}\n", object.path)).collect();
    names.sort_unstable();
    Hash::sha256(format!("emergence-view-1\n{}", names.concat()).as_bytes()).hex() + ".view"
}

/// The same closure gives the same skeleton: times as in a store.
fn settle(rootfs: &Path) -> Result<()> {
    let mut left = vec![rootfs.to_owned()];
    let mut all = Vec::new();
    while let Some(path) = left.pop() {
        let kind = fs::symlink_metadata(&path).doing(|| format!("look at {}", path.display()))?;
        if kind.is_dir() {
            for entry in fs::read_dir(&path).doing(|| format!("read {}", path.display()))? {
                left.push(entry.doing(|| format!("read {}", path.display()))?.path());
            }
        }
        all.push(path);
    }
    all.iter().rev().try_for_each(|path| set_time(path))
}
