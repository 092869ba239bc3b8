//! The headers of an entry as bytes. A reader generates them again from the parsed entry and
//! compares.

use super::BLOCK;

/// Size of the name field of a header, in bytes.
const NAME: usize = 100;

/// Smallest file size that does not fit into a header.
const LARGE: u64 = 1 << 33;

/// Modification time of all entries, in seconds.
const TIME: u64 = 1;

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Link,
    Directory,
}

impl EntryKind {
    /// The type flag in a header.
    pub(crate) fn flag(self) -> u8 {
        match self {
            EntryKind::File => b'0',
            EntryKind::Link => b'2',
            EntryKind::Directory => b'5',
        }
    }

    pub(super) fn of_flag(flag: u8) -> Option<Self> {
        [EntryKind::File, EntryKind::Link, EntryKind::Directory].into_iter().find(|kind| kind.flag() == flag)
    }
}

/// The type flag of a pax header, whose records apply to the next header.
pub(super) const PAX: u8 = b'x';

/// The contents of an entry's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub kind: EntryKind,
    pub mode: u32,
    /// Size of a file in bytes.
    pub size: u64,
    /// Without a leading slash; a directory has a trailing one.
    pub name: Vec<u8>,
    /// The target of a symbolic link.
    pub target: Vec<u8>,
}

impl Entry {
    /// Its header, preceded by a pax header if it needs one.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK);
        let records = self.records();
        if !records.is_empty() {
            bytes.extend(block(b"pax", 0o644, records.len() as u64, PAX, b""));
            bytes.extend(&records);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        let size = if self.size < LARGE { self.size } else { 0 };
        bytes.extend(block(&self.name, self.mode, size, self.kind.flag(), &self.target));
        bytes
    }

    /// The pax records, by key, for values that do not fit into the header.
    fn records(&self) -> Vec<u8> {
        let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        let fits = |bytes: &[u8]| bytes.len() <= NAME && is_text(bytes);
        let mut records = Vec::new();
        if !is_text(&self.name) || !is_text(&self.target) {
            record("hdrcharset", b"BINARY", &mut records);
        }
        if !fits(&self.target) {
            record("linkpath", &self.target, &mut records);
        }
        if !fits(&self.name) {
            record("path", &self.name, &mut records);
        }
        if self.size >= LARGE {
            record("size", self.size.to_string().as_bytes(), &mut records);
        }
        records
    }
}

/// `LENGTH KEY=VALUE\n`. LENGTH includes its own digits.
fn record(key: &str, value: &[u8], to: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let digits = |length: usize| length.to_string().len();
    let mut length = rest + digits(rest);
    length = rest + digits(length);
    to.extend(format!("{length} {key}=").as_bytes());
    to.extend(value);
    to.push(b'\n');
}

/// Splits pax records. `None`: they are malformed.
pub(super) fn split_records(mut bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let digits = bytes.get(..space).filter(|digits| digits.len() <= 6)?;
        let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        records.push((record.get(..equals)?, record.get(equals + 1..)?));
        bytes = bytes.get(length..)?;
    }
    Some(records)
}

fn block(name: &[u8], mode: u32, size: u64, flag: u8, target: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK);
    field(name, &mut bytes);
    // Mode, owner, group.
    bytes.extend(format!("{mode:07o}\0{:07o}\0{:07o}\0", 0, 0).as_bytes());
    bytes.extend(format!("{size:011o}\0{TIME:011o}\0").as_bytes());
    // The checksum counts its own field as blanks.
    bytes.extend(b"        ");
    bytes.push(flag);
    field(target, &mut bytes);
    bytes.extend(b"ustar\x0000");
    // Names of owner and group; device numbers.
    bytes.resize(bytes.len() + 64, 0);
    bytes.extend(b"0000000\x000000000\0");
    bytes.resize(BLOCK, 0);
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    bytes.iter_mut().skip(148).zip(sum.as_bytes()).for_each(|(to, from)| *to = *from);
    bytes
}

/// Writes as much as fits. If a pax record has the full value, non-ASCII bytes become `?`.
fn field(text: &[u8], to: &mut Vec<u8>) {
    let end = to.len() + NAME;
    let plain = text.len() <= NAME && std::str::from_utf8(text).is_ok();
    let shown = |byte: &u8| if plain || byte.is_ascii() { *byte } else { b'?' };
    to.extend(text.iter().take(NAME).map(shown));
    to.resize(end, 0);
}

/// The number in a field of octal digits terminated by NUL.
pub(crate) fn octal(field: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(field.strip_suffix(b"\0")?).ok()?;
    u64::from_str_radix(digits, 8).ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pax_record_length_includes_its_digits() {
        for length in [1, 80, 90, 91, 92, 93, 94, 95, 96, 980, 988, 989, 990, 991, 992, 5000] {
            let value = vec![b'v'; length];
            let mut records = Vec::new();
            record("path", &value, &mut records);
            record("size", b"8", &mut records);
            let split = split_records(&records).unwrap();
            assert_eq!(split, [(&b"path"[..], &value[..]), (&b"size"[..], &b"8"[..])], "{length}");
        }
        for bad in ["x", "5 a=", "7 path=\n", "9 path=ab\n", "99999999999 a=b\n", "6 aaaa\n", "6 a=b \n"] {
            assert_eq!(split_records(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn large_values_have_a_separate_size() {
        let entry = |size| Entry {
            kind: EntryKind::File,
            mode: 0o444,
            size,
            name: b"a".to_vec(),
            target: Vec::new(),
        };
        assert_eq!(entry(LARGE - 1).bytes().len(), BLOCK);
        let large = entry(LARGE).bytes();
        assert_eq!(large.len(), 3 * BLOCK);
        assert!(large[BLOCK..].starts_with(b"19 size=8589934592\n"));
    }
}
