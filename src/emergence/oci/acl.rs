//! POSIX access control lists: their two forms in tars, and the mode of a file that lost its list.

use std::ffi::CStr;

/// The attributes that hold the lists of a file, and of what is created in a directory.
pub(super) const ACCESS_NAME: &CStr = c"system.posix_acl_access";
pub(super) const DEFAULT_NAME: &CStr = c"system.posix_acl_default";
pub(super) const ACCESS: &[u8] = ACCESS_NAME.to_bytes();
pub(super) const DEFAULT: &[u8] = DEFAULT_NAME.to_bytes();

/// Attributes with lists that cannot be interpreted: of NFS, of XFS on the disk, of Samba.
const FOREIGN: [&[u8]; 5] = [
    b"system.nfs4_acl",
    b"system.richacl",
    b"trusted.SGI_ACL_FILE",
    b"trusted.SGI_ACL_DEFAULT",
    b"security.NTACL",
];

// Tags of entries, linux/posix_acl.h.
const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// POSIX_ACL_XATTR_VERSION, linux/posix_acl_xattr.h.
const VERSION: u32 = 2;

/// Permissions (0 to 7) of the classes of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acl {
    owner: u32,
    group: u32,
    other: u32,
    mask: Option<u32>,
    /// Permissions that every named user has, and every named group; all if there is none.
    users: u32,
    groups: u32,
}

/// Whether the attribute holds an access list of any kind.
pub(super) fn is_access(name: &[u8]) -> bool {
    name == ACCESS || FOREIGN.contains(&name)
}

impl Acl {
    /// Reads the attribute's value. `None`: it is malformed.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let (version, entries) = value.split_first_chunk::<4>()?;
        let (entries, rest) = entries.as_chunks::<8>();
        if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
            return None;
        }
        let (mut owner, mut group, mut other, mut mask) = (None, None, None, None);
        let (mut users, mut groups, mut any_user, mut any_group) = (7, 7, false, false);
        for [tag, tag_high, rights, rights_high, ..] in entries {
            let rights = u32::from(u16::from_le_bytes([*rights, *rights_high]));
            if rights > 7 {
                return None;
            }
            let before = match u16::from_le_bytes([*tag, *tag_high]) {
                USER_OBJ => owner.replace(rights),
                GROUP_OBJ => group.replace(rights),
                OTHER => other.replace(rights),
                MASK => mask.replace(rights),
                USER => {
                    users &= rights;
                    any_user = true;
                    None
                }
                GROUP => {
                    groups &= rights;
                    any_group = true;
                    None
                }
                _ => return None,
            };
            if before.is_some() {
                return None;
            }
        }
        // The mask limits named users and groups.
        let named = mask.unwrap_or(7);
        let limited = |rights: u32, any: bool| if any { rights & named } else { 7 };
        let (users, groups) = (limited(users, any_user), limited(groups, any_group));
        Some(Self { owner: owner?, group: group?, other: other?, mask, users, groups })
    }

    /// The permission bits of a file with this list, acl(5): those of the group are the mask.
    pub(super) fn mode(&self) -> u32 {
        self.owner << 6 | self.mask.unwrap_or(self.group) << 3 | self.other
    }

    /// `mode` for a file without the list: nobody gets more rights than with it. A named user may
    /// now be of the group or of the others, and a named group of the others.
    fn without(&self, mode: u32) -> u32 {
        let group = self.group & self.mask.unwrap_or(7) & self.users;
        let other = self.other & self.users & self.groups;
        mode & (0o7000 | self.owner << 6 | group << 3 | other)
    }
}

/// `mode` for a file whose access list `value` was left out. Without a readable list, the group
/// gets no more than the others.
pub(super) fn narrowed(name: &[u8], value: &[u8], mode: u32) -> u32 {
    match Acl::read(value).filter(|_| name == ACCESS) {
        Some(acl) => acl.without(mode),
        None => mode & (0o7707 | (mode & 7) << 3),
    }
}

/// The attribute's value for a list in text, as GNU tar, star and libarchive write it:
/// `TAG:[ID]:RIGHTS[:NUMBER]`, separated by commas or newlines. `None`: it is malformed, or names a
/// user or group without its number.
pub(super) fn from_text(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let lines = text.split([',', '\n']).map(|line| line.split('#').next().unwrap_or_default().trim());
    let mut entries = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let mut fields = line.split(':').map(str::trim);
        let (tag, mut id, mut rights) = (fields.next()?, fields.next()?, fields.next().unwrap_or_default());
        // `mask:r-x` and `other:r-x` have no field for an id.
        if rights.is_empty() {
            (id, rights) = ("", id);
        }
        let tag = match (tag, id.is_empty()) {
            ("user" | "u", true) => USER_OBJ,
            ("user" | "u", false) => USER,
            ("group" | "g", true) => GROUP_OBJ,
            ("group" | "g", false) => GROUP,
            ("mask" | "m", true) => MASK,
            ("other" | "o", true) => OTHER,
            _ => return None,
        };
        let number = match (tag, fields.next().filter(|field| !field.is_empty())) {
            (USER | GROUP, Some(number)) => number.parse().ok()?,
            (USER | GROUP, None) => id.parse().ok()?,
            _ => u32::MAX,
        };
        entries.push((tag, permissions(rights)?, number));
    }
    // The kernel demands this order.
    entries.sort_by_key(|(tag, ..)| *tag);
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(rights.to_le_bytes());
        value.extend(u32::to_le_bytes(id));
    }
    Some(value)
}

fn permissions(text: &str) -> Option<u16> {
    let bits = text.chars().map(|letter| match letter {
        'r' => Some(4),
        'w' => Some(2),
        'x' => Some(1),
        '-' => Some(0),
        _ => None,
    });
    bits.sum::<Option<u16>>().filter(|bits| *bits <= 7 && text.len() == 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_without_its_list_gives_nobody_more() {
        let table = [
            ("user::rw-,user:1000:rw-,group::---,mask::rw-,other::---", 0o660, 0o600),
            ("user::rwx,user:lisa:r-x:502,group::r-x,mask::rwx,other::---", 0o4770, 0o4750),
            // A denied user is one of the others, or of the group.
            ("user::rw-,user:9:---,group::r--,mask::r--,other::r--", 0o644, 0o600),
            // A denied group's members are others.
            ("u::rw-\ng::r--\ng:5:---\nm::r--\no::r--\n", 0o644, 0o640),
            ("user::rw-,group::rw-,mask:r--,other:r--", 0o666, 0o644),
        ];
        for (text, mode, want) in table {
            let value = from_text(text.as_bytes()).unwrap();
            assert_eq!(narrowed(ACCESS, &value, mode), want, "{text}");
        }
        // Lists that cannot be read.
        for value in [&b""[..], b"\x02\0\0\0", b"\x03\0\0\0", b"\x02\0\0\0\x01\0\x08\0\0\0\0\0"] {
            assert_eq!(narrowed(ACCESS, value, 0o4764), 0o4744);
        }
        for bad in ["user:lisa:rw-", "user::rwxr", "mask:1:rwx", "user", "default:user::rwx"] {
            assert_eq!(from_text(bad.as_bytes()), None, "{bad}");
        }
    }
}
