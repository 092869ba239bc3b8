//! Applies layers to one file tree, one over another. Parents are looked up inside the tree; the
//! last component of a path is never followed.
//!
//! For each layer, first its whiteouts remove entries of the layers below. Then its entries are
//! created in the order of the tar, so the last of two with the same name remains. An entry
//! replaces an existing file of another type.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timestamps, Uid, XattrFlags, fchmod, fchown, fgetxattr, fsetxattr,
    fstat, ftruncate, futimens, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat,
};
use rustix::io::Errno;

use super::check::Whiteouts;
use super::entry::{InTree, Meaning, meaning};
use super::inherited::{disinherit, has_default};
use super::inside::{self, c_string, stamp, times};
use super::layer::See;
use super::tar::{Input, Member, MemberKind, Members};
use super::xattrs::{forget_xattrs, kept_xattrs};
use crate::emergence::base::files::reserve;
use crate::emergence::base::refusal::{Code, Fault, Result, Within, shown};
use crate::emergence::base::stream::ROOM;
use crate::error::{Doing, Error};
use crate::sys::remove::{empty, remove_at};

/// Maximum number of names reported as skipped.
const MOST_TOLD: usize = 1000;

/// Parts of an image that were not created, for lack of privileges or of file system support.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Paths of devices; the first 1000.
    pub devices: Vec<String>,
    /// Names of extended attributes, with the number of entries; the first 1000 names.
    pub xattrs: BTreeMap<String, u64>,
    /// Entries whose owner could not be set without privileges.
    pub owners: u64,
    /// Files without a set-ID bit of theirs, because an owner or capabilities could not be set.
    pub set_ids: u64,
}

impl Skipped {
    /// Adds the skipped parts of another layer.
    pub(crate) fn add(&mut self, other: Self) {
        self.devices.extend(other.devices);
        self.devices.truncate(MOST_TOLD);
        other.xattrs.into_iter().for_each(|(name, count)| self.add_xattr(name, count));
        self.owners += other.owners;
        self.set_ids += other.set_ids;
    }

    pub(super) fn add_xattr(&mut self, name: String, entries: u64) {
        if let Some(count) = self.xattrs.get_mut(&name) {
            *count += entries;
        } else if self.xattrs.len() < MOST_TOLD {
            self.xattrs.insert(name, entries);
        }
    }
}

/// The tree that is being created.
pub(crate) struct Tree {
    root: OwnedFd,
    /// Whether owners and devices can be set.
    pub(super) privileged: bool,
    here: Option<Here>,
    /// The root's final mode. The root is closed to others until the end.
    root_mode: u32,
    /// Directories whose final mode does not give the owner full access. It is set at the end. By
    /// device and inode, with the path and the mode.
    late: HashMap<(u64, u64), (Vec<u8>, u32)>,
    room: Vec<u8>,
    pub(crate) skipped: Skipped,
}

/// The directory in which entries are being created, and its times before that.
struct Here {
    path: Vec<u8>,
    directory: OwnedFd,
    times: Timestamps,
    /// Whether new entries inherit an access list.
    inherits: bool,
}

/// Sets mode and times.
pub(super) fn settle(fd: &OwnedFd, member: &Member, mode: u32) -> Result<()> {
    fchmod(fd, Mode::from_raw_mode(mode)).doing(|| "set its mode")?;
    futimens(fd, &stamp(member.mtime)).doing(|| "set its times").map_err(Fault::from)
}

pub(super) fn system(error: Errno) -> Fault {
    Error::from(error).into()
}

fn refused(code: Code, words: &str) -> Fault {
    Fault::refused(code, "", words)
}

impl Tree {
    /// A tree in this new, empty directory.
    pub(crate) fn new(root: OwnedFd) -> Result<Self> {
        disinherit(&root).doing(|| "remove the root's inherited access lists")?;
        futimens(&root, &stamp((0, 0))).doing(|| "set the times of the root")?;
        Ok(Self {
            root,
            privileged: rustix::process::geteuid().is_root(),
            here: None,
            root_mode: 0o755,
            late: HashMap::new(),
            room: vec![0; ROOM],
            skipped: Skipped::default(),
        })
    }

    /// A tree in this directory, which shows the layers below the next one; `below` is the root of
    /// the layer below.
    pub(crate) fn over(root: OwnedFd, below: &OwnedFd) -> Result<Self> {
        let doing = || "copy the root's attributes from the layer below";
        let stat = fstat(below).doing(doing)?;
        let tree = Self { root_mode: stat.st_mode & 0o7777, ..Self::new(root)? };
        let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        fchown(&tree.root, Some(owner.0), Some(owner.1)).doing(doing)?;
        for name in kept_xattrs(below).doing(doing)? {
            let mut value = vec![0; 64 * 1024];
            let length = fgetxattr(below, &name, &mut value[..]).doing(doing)?;
            fsetxattr(&tree.root, &name, value.get(..length).unwrap_or_default(), XattrFlags::empty())
                .doing(doing)?;
        }
        futimens(&tree.root, &times(below).doing(doing)?).doing(doing)?;
        Ok(tree)
    }

    /// Removes the entries of lower layers that this layer hides.
    pub(super) fn apply_whiteouts(&mut self, removals: &Whiteouts) -> Result<()> {
        for path in &removals.gone {
            let (directory, name) = path.split();
            if self.enter_below(directory, removals).within(|| shown(path.bytes()))? {
                let removed = remove_at(self.directory(), c_string(name).map_err(system)?.as_c_str());
                match removed {
                    Ok(_) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(system(error).within(format!("remove {}", shown(path.bytes())))),
                }
            }
        }
        for path in &removals.opaque {
            if self.enter_below(path.bytes(), removals)? {
                let directory = inside::directory(self.directory(), b"").map_err(system)?;
                empty(&directory).doing(|| format!("empty {}", shown(path.bytes())))?;
            }
        }
        Ok(())
    }

    /// Enters a directory of the layers below. False: it does not exist there, or the layer
    /// replaces a part of its path by a directory of its own.
    fn enter_below(&mut self, path: &[u8], removals: &Whiteouts) -> Result<bool> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain((!path.is_empty()).then_some(path.len())) {
            let above = path.get(..end).unwrap_or_default();
            if removals.directories.contains(above) {
                let name = c_string(above).map_err(system)?;
                match statat(&self.root, &name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
                    _ => return Ok(false),
                }
            }
        }
        match inside::directory(self.root.as_fd(), path) {
            Ok(directory) => self.enter(path, directory).map(|()| true),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(error) => Err(system(error)),
        }
    }

    /// The directory in which entries are being created.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.here.as_ref().map_or(self.root.as_fd(), |here| here.directory.as_fd())
    }

    /// Whether entries created now inherit an access list.
    pub(super) fn inherits(&self) -> bool {
        self.here.as_ref().is_some_and(|here| here.inherits)
    }

    fn enter(&mut self, path: &[u8], directory: OwnedFd) -> Result<()> {
        self.leave()?;
        let times = times(&directory).map_err(system)?;
        let inherits = has_default(&directory);
        self.here = Some(Here { path: path.to_vec(), directory, times, inherits });
        Ok(())
    }

    /// Restores the times of the current directory: creating entries in it does not count.
    fn leave(&mut self) -> Result<()> {
        match self.here.take() {
            Some(here) => futimens(&here.directory, &here.times)
                .doing(|| format!("set the times of {}", shown(&here.path)))
                .map_err(Fault::from),
            None => Ok(()),
        }
    }

    /// Enters the directory of an entry and creates it if it is missing.
    fn go(&mut self, path: &[u8]) -> Result<()> {
        if self.here.as_ref().is_some_and(|here| here.path == path) {
            return Ok(());
        }
        // First, because the new directory's times may depend on the current one.
        self.leave()?;
        let directory = match inside::directory(self.root.as_fd(), path) {
            Err(Errno::NOENT) => inside::make_directory(self.root.as_fd(), path),
            other => other,
        };
        self.enter(path, directory.map_err(not_inside)?)
    }

    /// Calls `make`; on EEXIST, removes the existing entry and calls it again.
    fn make<T>(&self, name: &CStr, mut make: impl FnMut() -> rustix::io::Result<T>) -> Result<T> {
        match make() {
            Err(Errno::EXIST) => {
                self.vacate(name)?;
                make().map_err(system)
            }
            other => other.map_err(system),
        }
    }

    fn vacate(&self, name: &CStr) -> Result<()> {
        match remove_at(self.directory(), name) {
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(system(error).within("remove the existing file")),
        }
    }

    fn entry<R: Input>(&mut self, path: &InTree, member: &Member, from: &mut Members<R>) -> Result<()> {
        let (directory, name) = path.split();
        let name = c_string(name).map_err(system)?;
        self.go(directory)?;
        match member.kind {
            MemberKind::File => self.file(&name, member, from),
            MemberKind::Directory => self.create_directory(path, &name, member),
            MemberKind::Symlink => self.symlink(&name, member),
            MemberKind::HardLink => self.hard_link(&name, member),
            MemberKind::Fifo => self.node(&name, member, FileType::Fifo),
            MemberKind::Character => self.node(&name, member, FileType::CharacterDevice),
            MemberKind::Block => self.node(&name, member, FileType::BlockDevice),
        }
    }

    fn file<R: Input>(&mut self, name: &CStr, member: &Member, from: &mut Members<R>) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.make(name, || openat(self.directory(), name, flags, Mode::from_raw_mode(0o600)))?;
        if self.inherits() {
            disinherit(&file).doing(|| "remove inherited access lists")?;
        }
        match &member.sparse {
            None => self.contents(&file, member.size, from)?,
            Some(extents) => {
                ftruncate(&file, member.size).doing(|| "set the length")?;
                for extent in extents {
                    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(extent.offset)).doing(|| "seek")?;
                    self.write(&file, extent.length, from)?;
                }
            }
        }
        self.adorn(&file, member)
    }

    fn contents<R: Input>(&mut self, file: &OwnedFd, size: u64, from: &mut Members<R>) -> Result<()> {
        reserve(file, size);
        self.write(file, size, from)
    }

    fn write<R: Input>(&mut self, file: &OwnedFd, count: u64, from: &mut Members<R>) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.room.len());
            let got = from.read(self.room.get_mut(..most).unwrap_or_default())?;
            let mut bytes = self.room.get(..got).unwrap_or_default();
            if bytes.is_empty() {
                return Err(refused(Code::LayerHeader, "has fewer bytes than it declares"));
            }
            left -= bytes.len() as u64;
            while !bytes.is_empty() {
                match rustix::io::write(file, bytes) {
                    Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(system(error).within("write")),
                }
            }
        }
        Ok(())
    }

    fn create_directory(&mut self, path: &InTree, name: &CStr, member: &Member) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let own = Mode::from_raw_mode(0o700);
        let made = mkdirat(self.directory(), name, own);
        let directory = match made {
            Ok(()) => openat(self.directory(), name, flags, Mode::empty()).map_err(system)?,
            Err(Errno::EXIST) => match openat(self.directory(), name, flags, Mode::empty()) {
                Ok(directory) => {
                    forget_xattrs(&directory).doing(|| "remove attributes")?;
                    directory
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    self.make(name, || mkdirat(self.directory(), name, own))?;
                    openat(self.directory(), name, flags, Mode::empty()).map_err(system)?
                }
                Err(error) => return Err(system(error)),
            },
            Err(error) => return Err(system(error)),
        };
        if self.inherits() {
            disinherit(&directory).doing(|| "remove inherited access lists")?;
        }
        let mode = self.own(&directory, member)?;
        let mode = self.mode_for_now(path, &directory, mode)?;
        settle(&directory, member, mode)
    }

    /// Without root privileges, the owner must be able to enter the directory until all entries are
    /// created.
    fn mode_for_now(&mut self, path: &InTree, directory: &OwnedFd, mode: u32) -> Result<u32> {
        if self.privileged {
            return Ok(mode);
        }
        let stat = fstat(directory).map_err(system)?;
        let identity = (stat.st_dev, stat.st_ino);
        if mode & 0o700 == 0o700 {
            self.late.remove(&identity)
        } else {
            self.late.insert(identity, (path.bytes().to_vec(), mode))
        };
        Ok(mode | 0o700)
    }

    fn symlink(&mut self, name: &CStr, member: &Member) -> Result<()> {
        let target = c_string(&member.link).map_err(system)?;
        self.make(name, || symlinkat(&target, self.directory(), name))?;
        self.adorn_name(name, member)
    }

    /// Links to an existing file, which has its own owner, mode and times.
    fn hard_link(&mut self, name: &CStr, member: &Member) -> Result<()> {
        let outside = |words: String| Fault::refused(Code::LayerEscape, shown(&member.link), words);
        let missing = |error: Errno| match error {
            Errno::NOENT | Errno::NOTDIR => {
                let words = format!("is the target of a hard link, but not in the tree ({error})");
                Fault::refused(Code::LayerLink, shown(&member.link), words)
            }
            error => outside(format!("is not inside the tree ({error})")),
        };
        let target = InTree::read(&member.link)?;
        let (directory, last) = target.split();
        if last.is_empty() {
            return Err(outside("is the root, which has no other name".into()));
        }
        let directory = inside::directory(self.root.as_fd(), directory).map_err(missing)?;
        let last: CString = c_string(last).map_err(system)?;
        let stat = statat(&directory, &last, AtFlags::SYMLINK_NOFOLLOW).map_err(missing)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(refused(Code::LayerHeader, "is a hard link to a directory"));
        }
        if let Ok(current) = statat(self.directory(), name, AtFlags::SYMLINK_NOFOLLOW)
            && (current.st_dev, current.st_ino) == (stat.st_dev, stat.st_ino)
        {
            return Ok(());
        }
        self.make(name, || linkat(&directory, &last, self.directory(), name, AtFlags::empty()))
    }

    fn node(&mut self, name: &CStr, member: &Member, kind: FileType) -> Result<()> {
        let device = makedev(member.device.0, member.device.1);
        let mode = Mode::from_raw_mode(member.mode);
        // A character device 0:0 is the whiteout of overlayfs, which would hide entries of other
        // layers. EPERM, as overlayfs itself returns.
        let made = if kind == FileType::CharacterDevice && device == 0 {
            self.vacate(name).and(Err(system(Errno::PERM)))
        } else {
            self.make(name, || mknodat(self.directory(), name, kind, mode, device))
        };
        match made {
            Err(Fault::Failed(error)) if error.errno() == Some(libc::EPERM) && kind != FileType::Fifo => {
                if self.skipped.devices.len() < MOST_TOLD {
                    self.skipped.devices.push(shown(&member.path));
                }
                return Ok(());
            }
            other => other?,
        }
        self.adorn_name(name, member)
    }

    fn root(&mut self, member: &Member) -> Result<()> {
        self.leave()?;
        let root =
            openat(&self.root, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let root = root.map_err(system)?;
        forget_xattrs(&root).doing(|| "remove attributes")?;
        self.root_mode = self.own(&root, member)?;
        settle(&root, member, 0o700)
    }

    /// Sets the root's final mode last.
    pub(crate) fn finish(mut self) -> Result<Skipped> {
        self.leave()?;
        let mut late: Vec<_> = std::mem::take(&mut self.late).into_iter().collect();
        // Deepest first, because a directory may become inaccessible to its owner.
        late.sort_by(|(_, (one, _)), (_, (other, _))| other.cmp(one));
        for (identity, (path, mode)) in late {
            let Ok(directory) = inside::directory(self.root.as_fd(), &path) else { continue };
            let stat = fstat(&directory).map_err(system)?;
            if (stat.st_dev, stat.st_ino) == identity {
                fchmod(&directory, Mode::from_raw_mode(mode))
                    .doing(|| format!("set the mode of {}", shown(&path)))?;
            }
        }
        fchmod(&self.root, Mode::from_raw_mode(self.root_mode)).doing(|| "set the mode of the root")?;
        Ok(self.skipped)
    }
}

impl See for Tree {
    fn member<R: Input>(&mut self, member: Member, from: &mut Members<R>) -> Result<()> {
        match meaning(&member)? {
            Meaning::Root => self.root(&member),
            Meaning::Entry(path) => self.entry(&path, &member, from),
            // Already applied by `apply_whiteouts`.
            Meaning::Gone(_) | Meaning::Opaque(_) | Meaning::Nothing => Ok(()),
        }
        .within(|| shown(&member.path))
    }
}

/// The refusal if the directory of an entry cannot be reached inside the tree.
fn not_inside(error: Errno) -> Fault {
    match error {
        Errno::NOTDIR => refused(Code::LayerHeader, "is below a file that is not a directory"),
        Errno::LOOP => refused(Code::LayerEscape, "is below a dangling link"),
        Errno::NAMETOOLONG => refused(Code::LayerHeader, "is nested too deep"),
        other => system(other).within("open its directory"),
    }
}
