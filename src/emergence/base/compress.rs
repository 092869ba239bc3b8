//! Compression formats of NARs and layers.

use std::io::{self, BufRead, BufReader, Read, Write};

use super::refusal::Fault;
use crate::error::Error;

/// A compression format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not compressed.
    None,
    /// xz(1), of one or several streams.
    Xz,
    /// zstd(1), of one or several frames.
    Zstd,
    /// gzip(1), of one or several members.
    Gzip,
    /// bzip2(1), of one or several streams.
    Bzip2,
    /// Brotli, which has no magic bytes.
    Brotli,
}

/// Memory limits of decompression, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// For the dictionary of xz.
    pub xz: u64,
    /// For the window of zstd. Its decoder takes powers of two only.
    pub zstd: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { xz: 512 << 20, zstd: 128 << 20 }
    }
}

/// Size of the read buffer, in bytes.
const ROOM: usize = 64 * 1024;

impl Compression {
    /// All formats with their names and file suffixes; [`Self::None`] first.
    const NAMES: [(Self, &'static str, &'static str); 6] = [
        (Self::None, "none", ""),
        (Self::Xz, "xz", ".xz"),
        (Self::Zstd, "zstd", ".zst"),
        (Self::Gzip, "gzip", ".gz"),
        (Self::Bzip2, "bzip2", ".bz2"),
        (Self::Brotli, "br", ".br"),
    ];

    /// The format that a narinfo calls `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known, _)| *known == name).map(|(one, ..)| *one)
    }

    /// Its name in a narinfo.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(one, ..)| *one == self).map_or("none", |(_, name, _)| name)
    }

    /// The suffix of file names.
    pub fn suffix(self) -> &'static str {
        Self::NAMES.iter().find(|(one, ..)| *one == self).map_or("", |(.., suffix)| suffix)
    }

    /// Detects the format by its magic bytes. [`Self::None`] if they are unknown; the format may
    /// still be Brotli.
    pub fn recognised(first: &[u8]) -> Self {
        const MARKS: [(&[u8], Compression); 4] = [
            (b"\xfd7zXZ\0", Compression::Xz),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
            (b"\x1f\x8b", Compression::Gzip),
            (b"BZh", Compression::Bzip2),
        ];
        MARKS.iter().find(|(mark, _)| first.starts_with(mark)).map_or(Self::None, |(_, one)| *one)
    }

    /// Decompresses all of `input`. Bytes after the end, or a missing end, are an error.
    pub fn reader<'a>(self, input: impl Read + 'a, memory: Memory) -> io::Result<Box<dyn Read + 'a>> {
        match self {
            Self::None => Ok(Box::new(input)),
            _ => self.buffered(BufReader::with_capacity(ROOM, input), memory),
        }
    }

    /// As [`Self::reader`], for input that is already buffered.
    pub fn buffered<'a>(self, input: impl BufRead + 'a, memory: Memory) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(input),
            Self::Xz => {
                let decoder =
                    liblzma::stream::Stream::new_stream_decoder(memory.xz, liblzma::stream::CONCATENATED)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(input, decoder))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(memory.zstd.max(1 << 10).ilog2().min(31))?;
                Box::new(decoder)
            }
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
            Self::Brotli => Box::new(Brotli(brotli_decompressor::Decompressor::new(input, ROOM))),
        })
    }
}

/// Brotli's decoder reports bytes after the end only on a further read, and only those that it has
/// in its buffer.
struct Brotli<R: Read>(brotli_decompressor::Decompressor<R>);

impl<R: Read> Read for Brotli<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(room)?;
        if count > 0 || room.is_empty() {
            return Ok(count);
        }
        let behind = self.0.read(room)? + self.0.get_mut().read(&mut [0])?;
        if behind == 0 { Ok(0) } else { Err(io::Error::other("trailing bytes after the end")) }
    }
}

/// Level of zstd: Nix's default.
const ZSTD_LEVEL: i32 = 3;

/// Level of xz and gzip: the default of the programs.
const USUAL_LEVEL: u32 = 6;

/// Compresses the bytes written into it and writes the result to `W`. The output is deterministic.
pub enum Compressor<W: Write> {
    /// Not compressed.
    None(W),
    /// See [`Compression::Xz`].
    Xz(liblzma::write::XzEncoder<W>),
    /// See [`Compression::Zstd`].
    Zstd(zstd::stream::write::Encoder<'static, W>),
    /// See [`Compression::Gzip`].
    Gzip(flate2::write::GzEncoder<W>),
    /// See [`Compression::Bzip2`].
    Bzip2(bzip2::write::BzEncoder<W>),
}

impl<W: Write> Compressor<W> {
    /// A compressor that writes to `out`. `ErrorKind::Unsupported`: Brotli cannot be written.
    pub fn new(compression: Compression, out: W) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(out),
            Compression::Xz => Self::Xz(liblzma::write::XzEncoder::new(out, USUAL_LEVEL)),
            Compression::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?),
            Compression::Gzip => {
                Self::Gzip(flate2::write::GzEncoder::new(out, flate2::Compression::new(USUAL_LEVEL)))
            }
            Compression::Bzip2 => Self::Bzip2(bzip2::write::BzEncoder::new(out, bzip2::Compression::best())),
            Compression::Brotli => return Err(io::ErrorKind::Unsupported.into()),
        })
    }

    /// Writes the end and returns the output.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::None(out) => Ok(out),
            Self::Xz(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Bzip2(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(out) => out.write(bytes),
            Self::Xz(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Bzip2(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Converts an error of reading compressed bytes: with an errno it is the system's, otherwise it is
/// the decoder's and `refused` makes the refusal.
pub(crate) fn unread(error: io::Error, what: &str, refused: impl FnOnce(String) -> Fault) -> Fault {
    match error.raw_os_error() {
        Some(_) => Error::from(error).within(format!("read {what}")).into(),
        None => refused(format!("cannot decompress: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_bytes_decompress_to_the_same() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|at| (at / 7 % 251) as u8).collect();
        let all =
            [Compression::None, Compression::Xz, Compression::Zstd, Compression::Gzip, Compression::Bzip2];
        for compression in all {
            let mut compressor = Compressor::new(compression, Vec::new()).unwrap();
            compressor.write_all(&bytes).unwrap();
            let compressed = compressor.finish().unwrap();
            assert_eq!(Compression::recognised(&compressed), compression);
            let mut out = Vec::new();
            compression.reader(&compressed[..], Memory::default()).unwrap().read_to_end(&mut out).unwrap();
            assert!(out == bytes, "{compression:?}");
        }
        assert!(Compressor::new(Compression::Brotli, Vec::new()).is_err());
    }
}
