//! Layers made into one tree of files, one over another. Every parent is looked up inside the tree,
//! the last name is never followed.
//!
//! For each layer: first goes what it takes away from those below, then its entries are made in the
//! order of the tar, so that of two with one name the last stays. What has another type than an
//! entry is replaced by it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timestamps, Uid, XattrFlags, fchmod, fchown, fgetxattr, fsetxattr,
    fstat, ftruncate, futimens, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::check::Removals;
use super::entry::{InTree, Meaning, meaning};
use super::inside::{self, c_string, stamp, times};
use super::layer::See;
use super::tar::{Input, Member, MemberKind, Members};
use crate::emergence::base::files::reserve;
use crate::emergence::base::refusal::{Code, Fault, Result, Within, shown};
use crate::emergence::base::stream::ROOM;
use crate::error::{Doing, Error};
use crate::sys::remove::{empty, remove_at};

/// Names that are told of what could not be made, at most.
const MOST_TOLD: usize = 1000;

/// What of an image was not made, because it may not be or the file system cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Paths of devices; the first 1000.
    pub devices: Vec<String>,
    /// Names of extended attributes, and at how many entries; the first 1000.
    pub xattrs: BTreeMap<String, u64>,
    /// Entries that belong to another than who unpacks, where he may not give them away.
    pub owners: u64,
}

impl Skipped {
    /// What was not made of another layer, too.
    pub(crate) fn add(&mut self, other: Self) {
        self.devices.extend(other.devices);
        self.devices.truncate(MOST_TOLD);
        other.xattrs.into_iter().for_each(|(name, count)| self.add_xattr(name, count));
        self.owners += other.owners;
    }

    fn add_xattr(&mut self, name: String, entries: u64) {
        if let Some(count) = self.xattrs.get_mut(&name) {
            *count += entries;
        } else if self.xattrs.len() < MOST_TOLD {
            self.xattrs.insert(name, entries);
        }
    }
}

/// The tree that is made.
pub(crate) struct Tree {
    root: OwnedFd,
    /// Whether owners and devices are ours to give.
    privileged: bool,
    /// It will be one layer of an overlay, which takes the device 0:0 for a whiteout.
    layered: bool,
    here: Option<Here>,
    /// Of the root, which is closed to others until all is done.
    root_mode: u32,
    /// Folders whose owner may not do all in them; they get their modes at the end. By their
    /// identity, with the path.
    late: HashMap<(u64, u64), (Vec<u8>, u32)>,
    room: Vec<u8>,
    pub(crate) skipped: Skipped,
}

/// The folder in which entries are being made, and the times that it had before.
struct Here {
    path: Vec<u8>,
    folder: OwnedFd,
    times: Timestamps,
}

fn system(error: Errno) -> Fault {
    Error::from(error).into()
}

fn refused(code: Code, words: &str) -> Fault {
    Fault::refused(code, "", words)
}

impl Tree {
    /// In this folder, which is new and empty.
    pub(crate) fn new(root: OwnedFd) -> Result<Self> {
        futimens(&root, &stamp((0, 0))).doing(|| "set the times of the root")?;
        Ok(Self {
            root,
            privileged: rustix::process::geteuid().is_root(),
            layered: false,
            here: None,
            root_mode: 0o755,
            late: HashMap::new(),
            room: vec![0; ROOM],
            skipped: Skipped::default(),
        })
    }

    /// The same for the lowest layer of an overlay.
    pub(crate) fn lowest(root: OwnedFd) -> Result<Self> {
        Ok(Self { layered: true, ..Self::new(root)? })
    }

    /// In this folder, which shows what lies below the layer that comes: `below` is the root of
    /// that.
    pub(crate) fn over(root: OwnedFd, below: &OwnedFd) -> Result<Self> {
        let doing = || "give the root what it has below";
        let stat = fstat(below).doing(doing)?;
        let tree = Self { root_mode: stat.st_mode & 0o7777, layered: true, ..Self::new(root)? };
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

    /// Takes away what a layer hides of those below.
    pub(super) fn take_away(&mut self, removals: &Removals) -> Result<()> {
        for path in &removals.gone {
            let (folder, name) = path.split();
            if self.enter_below(folder, removals).within(|| shown(path.bytes()))? {
                let removed = remove_at(self.folder(), c_string(name).map_err(system)?.as_c_str());
                match removed {
                    Ok(_) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(system(error).within(format!("remove {}", shown(path.bytes())))),
                }
            }
        }
        for path in &removals.opaque {
            if self.enter_below(path.bytes(), removals)? {
                let folder = inside::folder(self.folder(), b"").map_err(system)?;
                empty(&folder).doing(|| format!("empty {}", shown(path.bytes())))?;
            }
        }
        Ok(())
    }

    /// Enters a folder of the layers below; false: they have none there, or what leads there is
    /// replaced by a folder of the layer's own.
    fn enter_below(&mut self, path: &[u8], removals: &Removals) -> Result<bool> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain((!path.is_empty()).then_some(path.len())) {
            let above = path.get(..end).unwrap_or_default();
            if removals.folders.contains(above) {
                let name = c_string(above).map_err(system)?;
                match statat(&self.root, &name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
                    _ => return Ok(false),
                }
            }
        }
        match inside::folder(self.root.as_fd(), path) {
            Ok(folder) => self.enter(path, folder).map(|()| true),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(error) => Err(system(error)),
        }
    }

    /// Where entries are made now.
    fn folder(&self) -> BorrowedFd<'_> {
        self.here.as_ref().map_or(self.root.as_fd(), |here| here.folder.as_fd())
    }

    fn enter(&mut self, path: &[u8], folder: OwnedFd) -> Result<()> {
        self.leave()?;
        let times = times(&folder).map_err(system)?;
        self.here = Some(Here { path: path.to_vec(), folder, times });
        Ok(())
    }

    /// Gives the folder where entries were made the times back that it had: what is in it does not
    /// count.
    fn leave(&mut self) -> Result<()> {
        match self.here.take() {
            Some(here) => futimens(&here.folder, &here.times)
                .doing(|| format!("set the times of {}", shown(&here.path)))
                .map_err(Fault::from),
            None => Ok(()),
        }
    }

    /// Goes to the folder of an entry, which is made where it is missing.
    fn go(&mut self, path: &[u8]) -> Result<()> {
        if self.here.as_ref().is_some_and(|here| here.path == path) {
            return Ok(());
        }
        // The times of the one before may be what is looked at now.
        self.leave()?;
        let folder = match inside::folder(self.root.as_fd(), path) {
            Err(Errno::NOENT) => inside::make_folder(self.root.as_fd(), path),
            other => other,
        };
        self.enter(path, folder.map_err(not_inside)?)
    }

    /// Does `make`; where something is there already, that is removed and it is done again.
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
        match remove_at(self.folder(), name) {
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(system(error).within("remove what was there")),
        }
    }

    fn entry<R: Input>(&mut self, path: &InTree, member: &Member, from: &mut Members<R>) -> Result<()> {
        let (folder, name) = path.split();
        let name = c_string(name).map_err(system)?;
        self.go(folder)?;
        match member.kind {
            MemberKind::File => self.file(&name, member, from),
            MemberKind::Directory => self.directory(path, &name, member),
            MemberKind::Symlink => self.symlink(&name, member),
            MemberKind::HardLink => self.hard_link(&name, member),
            MemberKind::Fifo => self.node(&name, member, FileType::Fifo),
            MemberKind::Character => self.node(&name, member, FileType::CharacterDevice),
            MemberKind::Block => self.node(&name, member, FileType::BlockDevice),
        }
    }

    fn file<R: Input>(&mut self, name: &CStr, member: &Member, from: &mut Members<R>) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.make(name, || openat(self.folder(), name, flags, Mode::from_raw_mode(0o600)))?;
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
        self.adorn(&file, member, member.mode)
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

    /// Owner, attributes, mode and times, in this order: a new owner takes the capabilities and the
    /// bits above the mode away.
    fn adorn(&mut self, fd: &OwnedFd, member: &Member, mode: u32) -> Result<()> {
        if self.owner(member) {
            fchown(fd, Some(Uid::from_raw(member.uid)), Some(Gid::from_raw(member.gid)))
                .doing(|| format!("give it to {}:{}", member.uid, member.gid))?;
        }
        for (name, value) in &member.xattrs {
            if !kept(name)
                || fsetxattr(fd, c_string(name).map_err(system)?.as_c_str(), value, XattrFlags::empty())
                    .is_err()
            {
                self.skip_xattr(name);
            }
        }
        fchmod(fd, Mode::from_raw_mode(mode)).doing(|| "set its mode")?;
        futimens(fd, &stamp(member.mtime)).doing(|| "set its times").map_err(Fault::from)
    }

    /// Whether the owner can be set; otherwise it is counted when it is another.
    fn owner(&mut self, member: &Member) -> bool {
        if !self.privileged && (member.uid, member.gid) != (0, 0) {
            self.skipped.owners += 1;
        }
        self.privileged
    }

    fn skip_xattr(&mut self, name: &[u8]) {
        self.skipped.add_xattr(shown(name), 1);
    }

    fn directory(&mut self, path: &InTree, name: &CStr, member: &Member) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let own = Mode::from_raw_mode(0o700);
        let made = mkdirat(self.folder(), name, own);
        let folder = match made {
            Ok(()) => openat(self.folder(), name, flags, Mode::empty()).map_err(system)?,
            Err(Errno::EXIST) => match openat(self.folder(), name, flags, Mode::empty()) {
                Ok(folder) => {
                    forget_xattrs(&folder).doing(|| "remove attributes")?;
                    folder
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    self.make(name, || mkdirat(self.folder(), name, own))?;
                    openat(self.folder(), name, flags, Mode::empty()).map_err(system)?
                }
                Err(error) => return Err(system(error)),
            },
            Err(error) => return Err(system(error)),
        };
        let mode = self.mode_for_now(path, &folder, member.mode)?;
        self.adorn(&folder, member, mode)
    }

    /// Who is not root must be able to enter the folder until all is made.
    fn mode_for_now(&mut self, path: &InTree, folder: &OwnedFd, mode: u32) -> Result<u32> {
        if self.privileged {
            return Ok(mode);
        }
        let stat = fstat(folder).map_err(system)?;
        let identity = (stat.st_dev, stat.st_ino);
        match mode & 0o700 == 0o700 {
            true => self.late.remove(&identity),
            false => self.late.insert(identity, (path.bytes().to_vec(), mode)),
        };
        Ok(mode | 0o700)
    }

    fn symlink(&mut self, name: &CStr, member: &Member) -> Result<()> {
        let target = c_string(&member.link).map_err(system)?;
        self.make(name, || symlinkat(&target, self.folder(), name))?;
        // Links take no attributes but the system's own.
        for (attribute, _) in &member.xattrs {
            self.skip_xattr(attribute);
        }
        self.adorn_name(name, member)
    }

    /// Owner and times of what cannot be opened.
    fn adorn_name(&mut self, name: &CStr, member: &Member) -> Result<()> {
        if self.owner(member) {
            let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
            rustix::fs::chownat(self.folder(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .doing(|| format!("give it to {}:{}", member.uid, member.gid))?;
        }
        utimensat(self.folder(), name, &stamp(member.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .doing(|| "set its times")
            .map_err(Fault::from)
    }

    /// The file that it names must be there; that has owner, mode and times of its own.
    fn hard_link(&mut self, name: &CStr, member: &Member) -> Result<()> {
        let outside = |words: String| Fault::refused(Code::LayerEscape, shown(&member.link), words);
        let target = InTree::read(&member.link)?;
        let (folder, last) = target.split();
        if last.is_empty() {
            return Err(outside("is the root, which has no other name".into()));
        }
        let folder = inside::folder(self.root.as_fd(), folder)
            .map_err(|error| outside(format!("is not inside the tree ({error})")))?;
        let last: CString = c_string(last).map_err(system)?;
        let stat = statat(&folder, &last, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| outside(format!("is not inside the tree ({error})")))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(refused(Code::LayerHeader, "is another name of a folder"));
        }
        if let Ok(there) = statat(self.folder(), name, AtFlags::SYMLINK_NOFOLLOW)
            && (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino)
        {
            return Ok(());
        }
        self.make(name, || linkat(&folder, &last, self.folder(), name, AtFlags::empty()))
    }

    fn node(&mut self, name: &CStr, member: &Member, kind: FileType) -> Result<()> {
        let device = makedev(member.device.0, member.device.1);
        let mode = Mode::from_raw_mode(member.mode);
        // As overlayfs itself says of its whiteouts.
        let made = match self.layered && kind == FileType::CharacterDevice && device == 0 {
            true => self.vacate(name).and(Err(system(Errno::PERM))),
            false => self.make(name, || mknodat(self.folder(), name, kind, mode, device)),
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
        for (attribute, _) in &member.xattrs {
            self.skip_xattr(attribute);
        }
        if self.owner(member) {
            let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
            rustix::fs::chownat(self.folder(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .doing(|| format!("give it to {}:{}", member.uid, member.gid))?;
        }
        // It is new and no link; the umask has taken from its mode.
        rustix::fs::chmodat(self.folder(), name, mode, AtFlags::empty()).doing(|| "set its mode")?;
        utimensat(self.folder(), name, &stamp(member.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .doing(|| "set its times")
            .map_err(Fault::from)
    }

    fn root(&mut self, member: &Member) -> Result<()> {
        self.leave()?;
        let root =
            openat(&self.root, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let root = root.map_err(system)?;
        forget_xattrs(&root).doing(|| "remove attributes")?;
        self.root_mode = member.mode;
        self.adorn(&root, member, 0o700)
    }

    /// Opens the root to whom its mode lets in, when all else is done.
    pub(crate) fn finish(mut self) -> Result<Skipped> {
        self.leave()?;
        let mut late: Vec<_> = std::mem::take(&mut self.late).into_iter().collect();
        // The deepest first: a folder that is closed lets nobody through.
        late.sort_by(|(_, (one, _)), (_, (other, _))| other.cmp(one));
        for (identity, (path, mode)) in late {
            let Ok(folder) = inside::folder(self.root.as_fd(), &path) else { continue };
            let stat = fstat(&folder).map_err(system)?;
            if (stat.st_dev, stat.st_ino) == identity {
                fchmod(&folder, Mode::from_raw_mode(mode))
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
            // Done before.
            Meaning::Gone(_) | Meaning::Opaque(_) | Meaning::Nothing => Ok(()),
        }
        .within(|| shown(&member.path))
    }
}

/// What is said when the folder of an entry cannot be reached inside the tree.
fn not_inside(error: Errno) -> Fault {
    match error {
        Errno::NOTDIR => refused(Code::LayerHeader, "is below what is no folder"),
        Errno::LOOP => refused(Code::LayerEscape, "is below a link that leads nowhere"),
        Errno::NAMETOOLONG => refused(Code::LayerHeader, "is deeper than may be"),
        other => system(other).within("open its folder"),
    }
}

/// Attributes that an image may set: what a file may do, and what users say of it. Others are the
/// system's own, such as labels and what overlayfs keeps.
fn kept(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.")
}

/// Takes the attributes away that the entry of a lower layer has set.
fn forget_xattrs(folder: &OwnedFd) -> rustix::io::Result<()> {
    kept_xattrs(folder)?.iter().try_for_each(|name| rustix::fs::fremovexattr(folder, name))
}

/// The names of the attributes that an image has set.
fn kept_xattrs(folder: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = vec![0u8; 64 * 1024];
    let count = match rustix::fs::flistxattr(folder, &mut names) {
        Err(Errno::NOTSUP) => 0,
        other => other?,
    };
    let names = names.get(..count).unwrap_or_default().split(|byte| *byte == 0);
    names.filter(|name| kept(name)).map(c_string).collect()
}
