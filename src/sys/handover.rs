//! Memory that a process hands to another process that executes the same program: both have it at
//! the same address, so that pointers into it, and pointers to the program's own functions and
//! constants, are valid in both. That needs a program that is linked to fixed addresses.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::process::{Resource, getrlimit};

use super::memfd::{self, Content, SEALED};
use super::region::Region;

/// Where the memory is: below 2^38, the smallest address space of any 64-bit system, and above what
/// the kernel and the C library choose by themselves.
const START: usize = 0x10_0000_0000;

/// Its size. Pages that are never used take no memory.
pub(super) const SIZE: usize = 1 << 30;

/// The first bytes are a [`Header`]; blocks come after.
const FIRST_BLOCK: usize = 64;

/// The memory's blocks, while a [`Window`] is open.
pub(super) static WINDOW: Region = Region::closed(SIZE);

/// Whether the allocator had to take memory elsewhere.
static OVERFLOWN: AtomicBool = AtomicBool::new(false);

/// The start of the memory.
struct Header {
    /// The function that the other process continues with.
    run: unsafe fn(*mut ()) -> !,
    /// Its argument.
    data: *mut (),
}

/// Notes that a block does not fit.
pub(super) fn overflow() {
    OVERFLOWN.store(true, Ordering::Relaxed);
}

/// Where `block` lies in the memory, if it does.
pub(super) fn offset(block: *mut u8) -> Option<usize> {
    let offset = block.addr().wrapping_sub(START);
    (offset < SIZE).then_some(offset)
}

/// The block at `offset`.
pub(super) fn block(offset: usize) -> *mut u8 {
    ptr::with_exposed_provenance_mut(START + offset)
}

/// The memory, mapped in this process, which allocates from it once the window is open.
pub struct Window {
    file: OwnedFd,
}

impl Window {
    /// Maps the memory. An error: this process cannot have it (a limit of file sizes or of address
    /// space, a kernel without memfd_create(2), a program without fixed addresses).
    pub fn reserve() -> io::Result<Self> {
        if !has_fixed_addresses() {
            return Err(Errno::NOEXEC.into());
        }
        // Beyond that limit the kernel would send SIGXFSZ, setrlimit(2).
        if getrlimit(Resource::Fsize).current.is_some_and(|limit| limit < SIZE as u64) {
            return Err(Errno::FBIG.into());
        }
        let file = memfd::create(c"emergence-runc", Content::Data)?;
        rustix::fs::ftruncate(&file, SIZE as u64)?;
        // SAFETY: FIXED_NOREPLACE maps only where nothing is mapped. All later accesses are to
        // blocks that the allocator has handed out.
        unsafe { map(file.as_fd(), SIZE, MapFlags::SHARED | MapFlags::FIXED_NOREPLACE) }?;
        Ok(Self { file })
    }

    /// Lets this program's allocator take all memory from here, until [`Window::seal`].
    pub fn open(&self) {
        WINDOW.begin(FIRST_BLOCK);
    }

    /// Closes the window while `act` runs.
    pub fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        let used = WINDOW.end();
        let done = act();
        WINDOW.begin(used);
        done
    }

    /// Closes the window, makes this process's mapping private, so that later writes do not reach
    /// the file, and seals the file. Returns its length, in bytes. The process that [`receive`]s it
    /// runs `run(data)`.
    ///
    /// # Safety
    /// `data` points into the window, and it and everything that it refers to was allocated while
    /// the window was open, or is part of the program's file. `run` may only be given `data`.
    pub unsafe fn seal(&self, run: unsafe fn(*mut ()) -> !, data: *mut ()) -> io::Result<usize> {
        let length = WINDOW.end().next_multiple_of(4096);
        if length > SIZE || offset(data.cast()).is_none() || OVERFLOWN.load(Ordering::Relaxed) {
            return Err(Errno::NOMEM.into());
        }
        let header = ptr::with_exposed_provenance_mut::<Header>(START);
        // SAFETY: the header is mapped, aligned, and no block; nothing else refers to it.
        unsafe { header.write(Header { run, data }) };
        // SAFETY: no block lies in the rest. The remaining pages are replaced by the same content.
        unsafe {
            munmap(ptr::with_exposed_provenance_mut(START + length), SIZE - length)?;
            map(self.file.as_fd(), length, MapFlags::PRIVATE | MapFlags::FIXED)?;
        }
        rustix::fs::fcntl_add_seals(&self.file, SEALED)?;
        Ok(length)
    }

    /// The file to [`receive`].
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Maps `length` bytes of a window's file at its place.
///
/// # Safety
/// As for mmap(2): what is mapped there already must not be in use, or have the same content.
unsafe fn map(file: BorrowedFd<'_>, length: usize, flags: MapFlags) -> rustix::io::Result<()> {
    let place = ptr::with_exposed_provenance_mut(START);
    // SAFETY: the caller's guarantee.
    let mapped = unsafe {
        let flags = flags | MapFlags::NORESERVE;
        mmap(place, length, ProtFlags::READ | ProtFlags::WRITE, flags, file, 0)?
    };
    if mapped == place {
        return Ok(());
    }
    // A kernel before 4.17 takes the place for a hint.
    // SAFETY: it was mapped just now, and nothing refers to it.
    unsafe { munmap(mapped, length)? };
    Err(Errno::EXIST)
}

/// Whether this program runs at the addresses that it was linked to: ET_EXEC, elf(5). Other programs
/// (built without this package's flags for rustc) run at a random address each time.
fn has_fixed_addresses() -> bool {
    // SAFETY: linkers for ELF define this symbol, of this type, for every program.
    unsafe extern "C" {
        /// The start of the program's file in memory; the linker defines it.
        safe static __ehdr_start: libc::Elf64_Ehdr;
    }
    __ehdr_start.e_type == libc::ET_EXEC
}

/// Maps the memory that another process has sealed, and continues as it said. Returns only if that
/// fails.
///
/// # Safety
/// `file` and `length` are those of a window that a process of the same program has sealed.
pub unsafe fn receive(file: OwnedFd, length: usize) -> Errno {
    // SAFETY: nothing is mapped there; the content is as `seal` requires.
    let mapped = unsafe { map(file.as_fd(), length, MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE) };
    // In a debug build, dropping a descriptor that is not open aborts.
    let closed = ManuallyDrop::new(file);
    if let Err(error) = mapped {
        return error;
    }
    drop(ManuallyDrop::into_inner(closed));
    // SAFETY: `seal` has written a header there, which stays as it is.
    let header = unsafe { &*ptr::with_exposed_provenance::<Header>(START) };
    // SAFETY: this is the argument that `run` was given for.
    unsafe { (header.run)(header.data) }
}
