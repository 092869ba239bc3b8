//! pax records: `LENGTH KEY=VALUE\n`, before the member that they describe. A value may be any
//! bytes.

use super::super::acl;
use super::{Extent, sparse};

/// The records that are used.
#[derive(Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Size of a sparse file when unpacked, in bytes.
    pub(super) real_size: Option<u64>,
    /// The map of a sparse file of version 0.
    pub(super) sparse: Option<Vec<Extent>>,
    /// Whether it is a sparse file of version 1.0.
    pub(super) map_before_data: bool,
}

/// Data of a sparse file, collected while the records are read.
#[derive(Default)]
struct Sparse {
    numbers: Vec<u64>,
    name: Option<Vec<u8>>,
    is_one: bool,
    major: Option<u64>,
    minor: Option<u64>,
}

/// Splits off one record: key, value, and the rest.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(bytes.get(..space)?).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, rest))
}

/// Calls `one` for each record.
fn each(bytes: &[u8], mut one: impl FnMut(&[u8], &[u8]) -> Result<(), String>) -> Result<(), String> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (key, value, after) = record(rest).ok_or("a pax record is malformed")?;
        one(key, value)?;
        rest = after;
    }
    Ok(())
}

fn decimal(value: &[u8]) -> Result<u64, String> {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("{} in a pax record is not a number", value.escape_ascii()))
}

/// Parses `SECONDS[.FRACTION]`, rounded down to nanoseconds.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    // -1.25 is a quarter before -1.
    if whole.starts_with('-') && nanos > 0 {
        Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos))
    } else {
        Some((seconds, nanos))
    }
}

pub(super) fn read(bytes: &[u8]) -> Result<Records, String> {
    let mut records = Records::default();
    let mut sparse = Sparse::default();
    each(bytes, |key, value| {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if name.is_empty() || name.contains(&0) {
                return Err("an extended attribute has an invalid name".into());
            }
            records.xattrs.retain(|(known, _)| known != name);
            records.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        if let Some(kind) = key.strip_prefix(b"SCHILY.acl.") {
            records.take_acl(kind, value);
            return Ok(());
        }
        if let Some(rest) = key.strip_prefix(b"GNU.sparse.") {
            return sparse.take(rest, value, &mut records);
        }
        // An empty value cancels an earlier one.
        let given = Some(value).filter(|value| !value.is_empty());
        match key {
            b"path" => records.path = given.map(<[u8]>::to_vec),
            b"linkpath" => records.link = given.map(<[u8]>::to_vec),
            b"size" => records.size = given.map(decimal).transpose()?,
            b"uid" => records.uid = given.map(decimal).transpose()?,
            b"gid" => records.gid = given.map(decimal).transpose()?,
            b"mtime" => {
                let read = |value| time(value).ok_or("a time in a pax record is invalid");
                records.mtime = given.map(read).transpose()?;
            }
            // Other times, owner names, character sets, comments: not part of a tree.
            _ => {}
        }
        Ok(())
    })?;
    sparse.finish(&mut records)?;
    Ok(records)
}

impl Records {
    /// An access list in text becomes its attribute, which is empty if the text cannot be
    /// interpreted.
    fn take_acl(&mut self, kind: &[u8], text: &[u8]) {
        let name = match kind {
            b"access" => acl::ACCESS,
            b"default" => acl::DEFAULT,
            _ => b"system.nfs4_acl",
        };
        // The attribute itself is more exact.
        if !text.is_empty() && !self.xattrs.iter().any(|(known, _)| known == name) {
            self.xattrs.push((name.to_vec(), acl::from_text(text).unwrap_or_default()));
        }
    }
}

impl Sparse {
    fn take(&mut self, key: &[u8], value: &[u8], records: &mut Records) -> Result<(), String> {
        self.is_one = true;
        match key {
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => records.real_size = Some(decimal(value)?),
            // Version 0.0: one record for each number, alternating.
            b"offset" | b"numbytes" => {
                if (key == b"offset") != self.numbers.len().is_multiple_of(2) {
                    return Err("the map of a sparse file is out of order".into());
                }
                self.numbers.push(decimal(value)?);
            }
            // Version 0.1: all numbers in one record.
            b"map" => {
                let numbers = value.split(|byte| *byte == b',').filter(|text| !text.is_empty());
                self.numbers = numbers.map(decimal).collect::<Result<_, _>>()?;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self, records: &mut Records) -> Result<(), String> {
        if !self.is_one {
            return Ok(());
        }
        if let Some(name) = self.name {
            records.path = Some(name);
        }
        match (self.major, self.minor) {
            (Some(1), Some(0)) => records.map_before_data = true,
            (None | Some(0), _) => records.sparse = Some(sparse::pairs(&self.numbers)?),
            _ => return Err("is a sparse file of an unknown version".into()),
        }
        match records.real_size {
            Some(_) => Ok(()),
            None => Err("is a sparse file without a size".into()),
        }
    }
}

/// Checks global records, for all members that follow. Those that do not affect a tree, such as a
/// comment or an owner's name, are ignored. Others are refused, because readers disagree about
/// them. A continued file of another volume is not an archive by itself.
pub(super) fn check_global(bytes: &[u8]) -> Result<(), String> {
    let shown = |key: &[u8]| {
        let whole: [&[u8]; 6] = [b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"];
        let begun: [&[u8]; 6] = [
            b"SCHILY.xattr.",
            b"SCHILY.acl.",
            b"LIBARCHIVE.xattr.",
            b"SCHILY.filetype",
            b"GNU.sparse.",
            b"GNU.volume.filename",
        ];
        whole.contains(&key) || begun.iter().any(|start| key.starts_with(start))
    };
    each(bytes, |key, _| {
        if shown(key) {
            Err(format!("a global pax record is for all members: {}", key.escape_ascii()))
        } else {
            Ok(())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_have_newlines() {
        let records = read(b"30 SCHILY.xattr.user.a=1\n2\n3 \n12 path=a=b\n").unwrap();
        assert_eq!(records.xattrs, [(b"user.a".to_vec(), b"1\n2\n3 ".to_vec())]);
        assert_eq!(records.path.unwrap(), b"a=b");
        for bad in [
            "12 path=a=b",
            "13 path=a=b\n",
            "path=a\n",
            "9 path\n\n",
            "0 a=b\n",
            "11 uid=-12\n",
            "12 size=1x\n",
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_to_the_nanosecond() {
        let table: [(&str, Option<(i64, u32)>); 7] = [
            ("12", Some((12, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("12.0000000019", Some((12, 1))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-1", Some((-1, 0))),
            ("1.x", None),
            ("", None),
        ];
        for (text, want) in table {
            assert_eq!(time(text.as_bytes()), want, "{text}");
        }
    }
}
