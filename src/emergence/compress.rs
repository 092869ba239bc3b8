//! What NARs and layers are compressed with.

use std::io::{self, BufReader, Read};

/// A way to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// xz(1), of one or several streams.
    Xz,
    /// zstd(1), of one or several frames.
    Zstd,
    /// gzip(1), of one or several members.
    Gzip,
    /// bzip2(1), of one or several streams.
    Bzip2,
    /// Brotli, which has no mark to be known by.
    Brotli,
}

/// Memory for the dictionary of xz at most.
const XZ_MEMORY: u64 = 512 << 20;

/// Memory for the window of zstd at most, as a power of two: 128 MiB.
const ZSTD_WINDOW: u32 = 27;

/// Bytes read at once.
const ROOM: usize = 64 * 1024;

impl Compression {
    /// All, by name; the one for none first.
    const NAMES: [(Self, &'static str, &'static str); 6] = [
        (Self::None, "none", ""),
        (Self::Xz, "xz", ".xz"),
        (Self::Zstd, "zstd", ".zst"),
        (Self::Gzip, "gzip", ".gz"),
        (Self::Bzip2, "bzip2", ".bz2"),
        (Self::Brotli, "br", ".br"),
    ];

    /// The one that a narinfo calls so.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known, _)| *known == name).map(|(one, ..)| *one)
    }

    /// What a narinfo calls it.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(one, ..)| *one == self).map_or("none", |(_, name, _)| name)
    }

    /// What stands at the end of a file's name.
    pub fn suffix(self) -> &'static str {
        Self::NAMES.iter().find(|(one, ..)| *one == self).map_or("", |(.., suffix)| suffix)
    }

    /// The one that a file begins as; `None` for what is none of them, which may be Brotli.
    pub fn recognised(first: &[u8]) -> Self {
        const MARKS: [(&[u8], Compression); 4] = [
            (b"\xfd7zXZ\0", Compression::Xz),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
            (b"\x1f\x8b", Compression::Gzip),
            (b"BZh", Compression::Bzip2),
        ];
        MARKS.iter().find(|(mark, _)| first.starts_with(mark)).map_or(Self::None, |(_, one)| *one)
    }

    /// Reads what was compressed so, to its very end: bytes behind it are an error, as is its lack of an end.
    pub fn reader<'a>(self, input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        let buffered = |input| BufReader::with_capacity(ROOM, input);
        Ok(match self {
            Self::None => Box::new(input),
            Self::Xz => {
                let decoder =
                    liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(buffered(input), decoder))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered(input))?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Box::new(decoder)
            }
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered(input))),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered(input))),
            Self::Brotli => Box::new(brotli_decompressor::Decompressor::new(input, ROOM)),
        })
    }
}
