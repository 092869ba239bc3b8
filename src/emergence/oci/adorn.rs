//! Sets the attributes of new entries: owner, extended attributes, mode and times. What cannot be
//! set is left out so that nobody gets more rights than with it.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, Uid, XattrFlags, fchown, fsetxattr, utimensat};

use super::acl::{self, Acl};
use super::apply::{Tree, settle, system};
use super::inherited::disinherit_node;
use super::inside::{c_string, stamp};
use super::tar::{Member, MemberKind};
use super::xattrs::is_settable;
use crate::emergence::base::refusal::{Fault, Result, shown};
use crate::error::Doing;

/// The set-user-ID and set-group-ID bits.
const SET_IDS: u32 = 0o6000;

impl Tree {
    /// Sets owner, extended attributes, mode and times of a file.
    pub(super) fn adorn(&mut self, fd: &OwnedFd, member: &Member) -> Result<()> {
        let mode = self.own(fd, member)?;
        settle(fd, member, mode)
    }

    /// Sets owner and extended attributes, and returns the mode that is to be set afterwards, as
    /// chown(2) clears capabilities and the set-ID bits.
    pub(super) fn own(&mut self, fd: &OwnedFd, member: &Member) -> Result<u32> {
        if self.owner(member) {
            fchown(fd, Some(Uid::from_raw(member.uid)), Some(Gid::from_raw(member.gid)))
                .doing(|| format!("set its owner to {}:{}", member.uid, member.gid))?;
        }
        let mut mode = self.without_set_ids(member);
        for (name, value) in &member.xattrs {
            let attribute = c_string(name).map_err(system)?;
            // The users and groups of an access list are owners too, which only root sets.
            let may = is_settable(name) && (self.privileged || name.starts_with(b"user."));
            if may && fsetxattr(fd, attribute.as_c_str(), value, XattrFlags::empty()).is_ok() {
                if name == acl::ACCESS
                    && let Some(acl) = Acl::read(value)
                {
                    mode = mode & 0o7000 | acl.mode();
                }
            } else {
                mode = self.leave_out(name, value, mode);
            }
        }
        Ok(mode)
    }

    /// Reports an attribute that is left out, and returns the mode for a file without it.
    fn leave_out(&mut self, name: &[u8], value: &[u8], mode: u32) -> u32 {
        self.skip_xattr(name);
        match name {
            // A set-user-ID program with capabilities gets only these, and all without them,
            // capabilities(7).
            b"security.capability" => self.drop_set_ids(mode, 0o4000),
            _ if acl::is_access(name) => acl::narrowed(name, value, mode),
            _ => mode,
        }
    }

    /// The member's mode. A file's set-ID bits are for the owner that the image declares: with
    /// another owner they would give his rights away.
    fn without_set_ids(&mut self, member: &Member) -> u32 {
        if self.privileged || member.kind == MemberKind::Directory {
            return member.mode;
        }
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let user = if uid.as_raw() == member.uid { 0 } else { 0o4000 };
        let group = if gid.as_raw() == member.gid { 0 } else { 0o2000 };
        self.drop_set_ids(member.mode, user | group)
    }

    fn drop_set_ids(&mut self, mode: u32, bits: u32) -> u32 {
        self.skipped.set_ids += u64::from(mode & bits & SET_IDS != 0);
        mode & !bits
    }

    /// Whether the owner can be set; if not, an owner other than 0:0 is counted as skipped.
    fn owner(&mut self, member: &Member) -> bool {
        if !self.privileged && (member.uid, member.gid) != (0, 0) {
            self.skipped.owners += 1;
        }
        self.privileged
    }

    fn skip_xattr(&mut self, name: &[u8]) {
        self.skipped.add_xattr(shown(name), 1);
    }

    /// Sets owner and times of a file that cannot be opened.
    pub(super) fn adorn_name(&mut self, name: &CStr, member: &Member) -> Result<()> {
        if self.owner(member) {
            let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
            rustix::fs::chownat(self.directory(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .doing(|| format!("set its owner to {}:{}", member.uid, member.gid))?;
        }
        let mut mode = self.without_set_ids(member);
        for (attribute, value) in &member.xattrs {
            mode = self.leave_out(attribute, value, mode);
        }
        if member.kind != MemberKind::Symlink {
            if self.inherits() {
                // No attribute of a node can be changed by a descriptor.
                let at = self.directory().as_raw_fd();
                let path = [format!("/proc/self/fd/{at}/").as_bytes(), name.to_bytes()].concat();
                let path = c_string(&path).map_err(system)?;
                disinherit_node(&path).doing(|| "remove its inherited access list")?;
            }
            // The node is new and not a link; the umask has restricted its mode.
            rustix::fs::chmodat(self.directory(), name, Mode::from_raw_mode(mode), AtFlags::empty())
                .doing(|| "set its mode")?;
        }
        utimensat(self.directory(), name, &stamp(member.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .doing(|| "set its times")
            .map_err(Fault::from)
    }
}
