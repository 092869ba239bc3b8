//! Parses one header: its checksum and numbers, and the member described by it and the headers
//! before it.

use tar::{EntryType, Header};

use super::pax::{self, Records};
use super::{Member, MemberKind};

/// Maximum length of a path, PATH_MAX without its NUL.
const LONGEST_PATH: usize = 4095;

/// Checks any header and returns its size field.
pub(super) fn check(header: &Header) -> Result<u64, String> {
    let bytes = header.as_bytes();
    let field = bytes.get(148..156).unwrap_or_default();
    let declared = number(field).ok_or("its checksum is not a number")?;
    let (mut sum, mut signed) = (0i64, 0i64);
    for (at, byte) in bytes.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        sum += i64::from(byte);
        // Some programs summed signed bytes.
        signed += i64::from(byte as i8);
    }
    if declared != sum && declared != signed {
        return Err("is not a tar header: its checksum is wrong".into());
    }
    let size = number(&header.as_old().size).ok_or("its size is not a number")?;
    u64::try_from(size).map_err(|_| "its size is negative".into())
}

/// The bytes of a field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn is_ustar(bytes: &[u8; 512]) -> bool {
    bytes.get(257..263) == Some(b"ustar\0")
}

fn is_gnu(bytes: &[u8; 512]) -> bool {
    bytes.get(257..265) == Some(b"ustar  \0")
}

/// The path in the header itself. In ustar, and in the similar format of star, a prefix may be
/// stored separately. Go before 1.8 also wrote it into GNU headers, where times belong, which then
/// are not numbers.
fn path(bytes: &[u8; 512]) -> Vec<u8> {
    let field = |from, to| bytes.get(from..to).unwrap_or_default();
    let is_number = |from| number(field(from, from + 12)).is_some();
    let directories = if is_ustar(bytes) {
        text(field(345, if field(508, 512) == b"tar\0" { 476 } else { 500 }))
    } else if is_gnu(bytes) && !(is_number(345) && is_number(357)) {
        Some(text(field(345, 500))).filter(|directories| directories.is_ascii()).unwrap_or_default()
    } else {
        b""
    };
    let name = text(field(0, 100));
    if directories.is_empty() { name.to_vec() } else { [directories, name].join(&b'/') }
}

/// A number in octal digits, or in base 256 if the first bit is set; an empty field is 0. Leading
/// blanks and NULs are ignored: some programs write them if a field is too short.
fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Two's complement; the first bit is only the marker.
        let start = i64::from(((first << 1) as i8) >> 1);
        return rest
            .iter()
            .try_fold(start, |sum, byte| sum.checked_mul(256).map(|sum| sum | i64::from(*byte)));
    }
    let start = field.iter().position(|byte| !b" \0".contains(byte)).unwrap_or(field.len());
    let digits = text(field.get(start..).unwrap_or_default()).trim_ascii();
    digits.iter().try_fold(0i64, |sum, digit| match digit {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Data from the headers before a member's own header.
#[derive(Default)]
pub(super) struct Kept {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Option<Records>,
}

impl Kept {
    pub(super) fn is_empty(&self) -> bool {
        self.path.is_none() && self.link.is_none() && self.records.is_none()
    }

    /// Whether the map of a sparse file precedes its data.
    pub(super) fn has_map_before_data(&self) -> bool {
        self.records.as_ref().is_some_and(|records| records.map_before_data)
    }

    pub(super) fn keep(&mut self, kind: EntryType, bytes: Vec<u8>) -> Result<(), String> {
        let twice = || Err("a member has two long names".into());
        // Long names end in a NUL.
        let name = |bytes: &[u8]| text(bytes).to_vec();
        if kind.is_gnu_longname() {
            return self.path.replace(name(&bytes)).map_or(Ok(()), |_| twice());
        }
        if kind.is_gnu_longlink() {
            return self.link.replace(name(&bytes)).map_or(Ok(()), |_| twice());
        }
        if self.records.is_some() {
            return Err("a member has two pax headers".into());
        }
        self.records = Some(pax::read(&bytes)?);
        Ok(())
    }

    /// The member, and the number of its bytes in the tar.
    pub(super) fn member(&self, header: &Header, size: u64) -> Result<(Member, u64), String> {
        let nothing = Records::default();
        let records = self.records.as_ref().unwrap_or(&nothing);
        let fields = header.as_old();
        let longer = |long: &Option<Vec<u8>>, pax: &Option<Vec<u8>>| long.clone().or_else(|| pax.clone());
        let path = longer(&self.path, &records.path).unwrap_or_else(|| self::path(header.as_bytes()));
        let link = longer(&self.link, &records.link);
        let link = link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        if path.len() > LONGEST_PATH || link.len() > LONGEST_PATH {
            return Err(format!("a name is longer than {LONGEST_PATH} bytes"));
        }
        if path.contains(&0) || link.contains(&0) {
            return Err("a name has a NUL byte".into());
        }
        let kind = kind(header, &path)?;
        // All readers ignore the size field of a hard link or a directory.
        let stored = match header.entry_type() {
            EntryType::Link | EntryType::Directory => 0,
            _ => records.size.unwrap_or(size),
        };
        if kind != MemberKind::File && stored != 0 {
            return Err("has content, although it is not a file".into());
        }
        let of = |record: Option<u64>, field: &[u8], what: &str| -> Result<u32, String> {
            let found = record.map_or_else(|| number(field), |found| i64::try_from(found).ok());
            found.and_then(|found| u32::try_from(found).ok()).ok_or_else(|| format!("its {what} is invalid"))
        };
        let bytes = header.as_bytes();
        let device = |at| of(None, bytes.get(at..at + 8).unwrap_or_default(), "device");
        let device = match kind {
            MemberKind::Character | MemberKind::Block if is_ustar(bytes) || is_gnu(bytes) => {
                (device(329)?, device(337)?)
            }
            _ => (0, 0),
        };
        let mtime = match records.mtime {
            Some(mtime) => mtime,
            None => (number(&fields.mtime).ok_or("its time is not a number")?, 0),
        };
        let real = header.as_gnu().filter(|_| header.entry_type().is_gnu_sparse());
        let real = real.map(|gnu| number(&gnu.realsize).and_then(|size| u64::try_from(size).ok()));
        let real = real.map(|size| size.ok_or("its size is not a number")).transpose()?;
        let member = Member {
            kind,
            link,
            mode: of(None, &fields.mode, "mode")? & 0o7777,
            uid: owner(of(records.uid, &fields.uid, "owner")?, "owner")?,
            gid: owner(of(records.gid, &fields.gid, "group")?, "group")?,
            mtime,
            device,
            xattrs: records.xattrs.clone(),
            size: real.or(records.real_size).unwrap_or(stored),
            sparse: records.sparse.clone(),
            path,
        };
        Ok((member, stored))
    }
}

/// Refuses the number that chown(2) takes as "unchanged".
fn owner(id: u32, what: &str) -> Result<u32, String> {
    if id == u32::MAX { Err(format!("its {what} is {id}, which is no valid id")) } else { Ok(id) }
}

fn kind(header: &Header, path: &[u8]) -> Result<MemberKind, String> {
    Ok(match header.entry_type() {
        // Tars without types mark a directory by a slash. With the type of a file, engines create a
        // file.
        EntryType::Regular if path.ends_with(b"/") && header.as_old().linkflag == [0] => {
            MemberKind::Directory
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => MemberKind::File,
        EntryType::Link => MemberKind::HardLink,
        EntryType::Symlink => MemberKind::Symlink,
        EntryType::Char => MemberKind::Character,
        EntryType::Block => MemberKind::Block,
        EntryType::Directory => MemberKind::Directory,
        EntryType::Fifo => MemberKind::Fifo,
        other => {
            return Err(format!("{} is of unknown type {:?}", path.escape_ascii(), other.as_byte() as char));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_kinds() {
        let table: [(&[u8], Option<i64>); 12] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"\0\x000644\0", Some(0o644)),
            (b"12\x0034\0", Some(0o12)),
            (b"0000648\0", None),
            (b"-000001\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"777777777777", Some(0o777_777_777_777)),
        ];
        for (field, want) in table {
            assert_eq!(number(field), want, "{}", field.escape_ascii());
        }
    }
}
