//! Maps of sparse files: the parts that are stored in the tar.

use super::Extent;

/// Maximum number of extents in a map.
const MOST: usize = 65_536;

/// One entry of GNU's map; an error if a field is not a number.
fn extent(entry: &tar::GnuSparseHeader) -> Result<Extent, String> {
    let wrong = |_| "the map of a sparse file has an invalid number".to_owned();
    Ok(Extent { offset: entry.offset().map_err(wrong)?, length: entry.length().map_err(wrong)? })
}

/// The extents in GNU's header.
pub(super) fn of_header(header: &tar::Header) -> Result<Vec<Extent>, String> {
    let Some(gnu) = header.as_gnu() else {
        return Err("is a sparse file, but the header is not GNU's".into());
    };
    gnu.sparse.iter().filter(|entry| !entry.is_empty()).map(extent).collect()
}

/// Adds the extents of a block after the header; returns whether another block follows.
pub(super) fn of_block(block: &tar::GnuExtSparseHeader, extents: &mut Vec<Extent>) -> Result<bool, String> {
    for entry in block.sparse.iter().filter(|entry| !entry.is_empty()) {
        extents.push(extent(entry)?);
    }
    if extents.len() > MOST {
        return Err(too_many());
    }
    Ok(block.is_extended())
}

fn too_many() -> String {
    format!("the map of a sparse file has more than {MOST} entries")
}

/// Extents from pairs of offset and length.
pub(super) fn pairs(numbers: &[u64]) -> Result<Vec<Extent>, String> {
    let pairs = numbers.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err("the map of a sparse file ends in the middle".into());
    }
    if numbers.len() / 2 > MOST {
        return Err(too_many());
    }
    Ok(pairs.filter_map(|pair| Some(Extent { offset: *pair.first()?, length: *pair.last()? })).collect())
}

/// Checks that extents ascend without overlap within the file, and that their sum is the number of
/// bytes in the tar.
pub(super) fn check(extents: &[Extent], size: u64, stored: u64) -> Result<(), String> {
    let (mut end, mut sum) = (0u64, 0u64);
    for extent in extents {
        let next = extent.offset.checked_add(extent.length).filter(|next| *next <= size);
        let Some(next) = next.filter(|_| extent.offset >= end) else {
            return Err("the map of a sparse file is out of order, or leads past its end".into());
        };
        end = next;
        sum = sum.saturating_add(extent.length);
    }
    if sum == stored {
        Ok(())
    } else {
        Err(format!("the map of a sparse file has {sum} bytes, the tar {stored}"))
    }
}

/// The map of version 1.0: the number of entries, then offset and length of each, one number per
/// line.
#[derive(Default)]
pub(super) struct Map {
    pub(super) extents: Vec<Extent>,
    count: Option<usize>,
    offset: Option<u64>,
    number: Option<u64>,
}

impl Map {
    pub(super) fn is_whole(&self) -> bool {
        self.count.is_some_and(|count| self.extents.len() == count)
    }

    /// Parses a block; bytes after the last number are padding.
    pub(super) fn take(&mut self, block: &[u8]) -> Result<(), String> {
        for byte in block {
            if self.is_whole() {
                break;
            }
            match (byte, self.number) {
                (b'0'..=b'9', number) => {
                    let number = number.unwrap_or(0).checked_mul(10);
                    let number = number.and_then(|number| number.checked_add(u64::from(byte - b'0')));
                    self.number = Some(number.ok_or("the map of a sparse file has too large a number")?);
                }
                (b'\n', Some(number)) => {
                    self.number = None;
                    self.line(number)?;
                }
                _ => return Err("the map of a sparse file has an invalid number".into()),
            }
        }
        Ok(())
    }

    fn line(&mut self, number: u64) -> Result<(), String> {
        match (self.count, self.offset.take()) {
            (None, _) => {
                let count = usize::try_from(number).ok().filter(|count| *count <= MOST);
                self.count = Some(count.ok_or_else(too_many)?);
            }
            (Some(_), None) => self.offset = Some(number),
            (Some(_), Some(offset)) => self.extents.push(Extent { offset, length: number }),
        }
        Ok(())
    }
}
