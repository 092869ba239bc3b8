//! fs-verity: files that cannot be changed and that the kernel checks whenever it reads them. Linux
//! 5.4, Documentation/filesystems/fsverity.rst.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

/// `struct fsverity_enable_arg`.
#[repr(C)]
struct Enable {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved: u32,
    signature: u64,
    reserved_more: [u64; 11],
}

/// `struct fsverity_digest` with space for the longest digest.
#[repr(C)]
struct Digest {
    algorithm: u16,
    size: u16,
    bytes: [u8; 64],
}

/// The head of `struct fsverity_digest`, whose size is part of the ioctl number.
#[repr(C)]
struct DigestHead {
    algorithm: u16,
    size: u16,
}

/// FS_VERITY_HASH_ALG_SHA256.
const SHA256: u32 = 1;

const ENABLE: Opcode = opcode::write::<Enable>(b'f', 133);
const MEASURE: Opcode = opcode::read_write::<DigestHead>(b'f', 134);

/// `ioctl(file, FS_IOC_ENABLE_VERITY, …)`: makes the file immutable, by SHA-256 over blocks of 4096
/// bytes, without salt. The file must only be open for reading, in all processes. EEXIST: already
/// enabled. EOPNOTSUPP, ENOTTY: the file system does not support it.
pub fn enable(file: BorrowedFd<'_>) -> io::Result<()> {
    let ask = Enable {
        version: 1,
        hash_algorithm: SHA256,
        block_size: 4096,
        salt_size: 0,
        salt: 0,
        signature_size: 0,
        reserved: 0,
        signature: 0,
        reserved_more: [0; 11],
    };
    // SAFETY: the call reads one fsverity_enable_arg, whose layout `Enable` has; both of its
    // pointers are null, with sizes of 0.
    let done = unsafe { ioctl(file, Setter::<ENABLE, Enable>::new(ask)) };
    Ok(done?)
}

/// `ioctl(file, FS_IOC_MEASURE_VERITY, …)`: number of the algorithm, and the digest followed by
/// zeros. ENODATA: fs-verity is not enabled for the file. EOPNOTSUPP, ENOTTY: the file system does
/// not support it.
pub fn measure(file: BorrowedFd<'_>) -> io::Result<(u16, [u8; 64])> {
    let mut found = Digest { algorithm: 0, size: 64, bytes: [0; 64] };
    // SAFETY: the call reads `size`, the size of `bytes` after it, and writes the head and at most
    // that many bytes.
    unsafe { ioctl(file, Updater::<MEASURE, Digest>::new(&mut found)) }?;
    Ok((found.algorithm, found.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// Both calls work, or the file system does not support fs-verity.
    #[test]
    fn a_file_is_protected_or_the_file_system_cannot() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reader = std::fs::File::open(file.path()).unwrap();
        drop(file.into_file());
        match enable(reader.as_fd()) {
            Ok(()) => {
                let (algorithm, digest) = measure(reader.as_fd()).unwrap();
                assert_eq!((algorithm, digest[32..].iter().any(|byte| *byte != 0)), (1, false));
                assert_eq!(enable(reader.as_fd()).unwrap_err().raw_os_error(), Some(libc::EEXIST));
            }
            Err(error) => {
                let cannot = [libc::EOPNOTSUPP, libc::ENOTTY];
                assert!(cannot.contains(&error.raw_os_error().unwrap()), "{error}");
                assert!(cannot.contains(&measure(reader.as_fd()).unwrap_err().raw_os_error().unwrap()));
            }
        }
    }
}
