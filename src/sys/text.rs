//! Strings on the stack, for code that must not use the heap: paths, numbers.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::{ptr, slice};

use rustix::io::{Errno, Result};

/// Up to `SIZE` - 1 bytes, always NUL-terminated.
pub struct Text<const SIZE: usize> {
    /// The first `len` bytes and a NUL are initialized. What is never used takes no page of the
    /// stack.
    bytes: [MaybeUninit<u8>; SIZE],
    len: usize,
}

impl<const SIZE: usize> Text<SIZE> {
    /// An empty one. (`new` takes the stack of two, as its result is moved.)
    pub fn empty() -> Self {
        let mut text = Self { bytes: [const { MaybeUninit::uninit() }; SIZE], len: 0 };
        text.end();
        text
    }

    /// Copies `bytes`. ENAMETOOLONG: they do not fit.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        let mut text = Self::empty();
        text.push(bytes)?;
        Ok(text)
    }

    /// Replaces the content; bytes that do not fit are cut.
    pub fn clear_to(&mut self, bytes: &[u8]) {
        self.cut(0);
        let _ = self.push(bytes);
    }

    /// Appends bytes.
    pub fn push(&mut self, more: &[u8]) -> Result<()> {
        let end = self.len + more.len();
        // One byte is for the NUL.
        if end >= SIZE {
            return Err(Errno::NAMETOOLONG);
        }
        let place = self.bytes.get_mut(self.len..end).ok_or(Errno::NAMETOOLONG)?;
        // SAFETY: `place` has as many bytes as `more`, which cannot overlap it.
        unsafe { ptr::copy_nonoverlapping(more.as_ptr(), place.as_mut_ptr().cast(), more.len()) };
        self.len = end;
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        if let Some(last) = self.bytes.get_mut(self.len) {
            last.write(0);
        }
    }

    /// Appends the decimal digits of a non-negative number.
    pub fn push_number(&mut self, number: i32) -> Result<()> {
        self.push(decimal(number, &mut [0; 12]))
    }

    /// Appends the octal digits of a number, without a leading zero.
    pub fn push_octal(&mut self, number: u32) -> Result<()> {
        let digits = number.checked_ilog2().map_or(1, |highest| highest / 3 + 1);
        (0..digits).rev().try_for_each(|place| self.push(&[b'0' + (number >> (3 * place) & 7) as u8]))
    }

    /// Truncates to `len` bytes.
    pub fn cut(&mut self, len: usize) {
        if len < self.len {
            self.len = len;
            self.end();
        }
    }

    /// The bytes without the final NUL.
    pub fn bytes(&self) -> &[u8] {
        self.first(self.len)
    }

    /// The text as a C string; EINVAL if it contains a NUL.
    pub fn as_cstr(&self) -> Result<&CStr> {
        CStr::from_bytes_with_nul(self.first(self.len + 1)).map_err(|_| Errno::INVAL)
    }

    /// `count`: at most `len` + 1.
    fn first(&self, count: usize) -> &[u8] {
        let bytes = self.bytes.get(..count.min(self.len + 1)).unwrap_or_default();
        // SAFETY: the first `len` bytes and the NUL are initialized.
        unsafe { slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
    }
}

/// The decimal digits of a number, without its sign.
pub fn decimal(number: i32, room: &mut [u8; 12]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut start = room.len();
    for place in room.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
        start -= 1;
        if rest == 0 {
            break;
        }
    }
    room.get(start..).unwrap_or_default()
}

/// Parses decimal digits.
pub fn parse(digits: &[u8]) -> Option<i32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits() {
        for number in [0, 1, 10, 4_194_304, i32::MAX] {
            assert_eq!(decimal(number, &mut [0; 12]), number.to_string().as_bytes());
            assert_eq!(parse(number.to_string().as_bytes()), Some(number));
        }
        assert_eq!(parse(b"1x"), None);
    }

    #[test]
    fn octal_digits() {
        for number in [0, 7, 8, 0o755, 0o1777, 0o7777, u32::MAX] {
            let mut text = Text::<16>::new(b"").unwrap();
            text.push_octal(number).unwrap();
            assert_eq!(text.bytes(), format!("{number:o}").as_bytes());
        }
    }

    #[test]
    fn a_text_has_an_end() {
        let mut text = Text::<8>::new(b"fd/").unwrap();
        text.push_number(1234).unwrap();
        assert_eq!(text.as_cstr(), Ok(c"fd/1234"));
        assert_eq!(text.push(b"5"), Err(Errno::NAMETOOLONG));
        text.cut(3);
        assert_eq!(text.as_cstr(), Ok(c"fd/"));
        text.push(b"a\0b").unwrap();
        assert_eq!(text.as_cstr(), Err(Errno::INVAL));
        assert!(Text::<8>::new(&[b'a'; 8]).is_err());
    }
}
