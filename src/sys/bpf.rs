//! bpf(2), limited to the operations for a cgroup's device program.

use std::ffi::{CStr, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_GET_FD_BY_ID: i32 = 13;
const PROG_QUERY: i32 = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;

/// The verifier's final message is at the end; this holds its complete output for our programs.
const LOG_BYTES: usize = 64 * 1024;

/// Maximum number of programs of one cgroup: the kernel's own limit (BPF_CGROUP_MAX_PROGS).
const MOST_PROGRAMS: usize = 64;

/// How often a program is loaded until no signal interrupts the verifier.
const MOST_LOADS: usize = 16;

/// One eBPF instruction, `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Class, operation and source.
    pub code: u8,
    regs: u8,
    /// Jump distance, or offset in memory.
    pub off: i16,
    /// Constant operand.
    pub imm: i32,
}

impl Insn {
    /// An instruction on the registers `dst` and `src` (0 to 10).
    pub const fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        let (low, high) = if cfg!(target_endian = "little") { (dst, src) } else { (src, dst) };
        Self { code, regs: (low & 15) | (high << 4), off, imm }
    }

    /// The destination register.
    pub const fn dst(self) -> u8 {
        if cfg!(target_endian = "little") { self.regs & 15 } else { self.regs >> 4 }
    }

    /// The source register.
    pub const fn src(self) -> u8 {
        if cfg!(target_endian = "little") { self.regs >> 4 } else { self.regs & 15 }
    }
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

#[repr(C)]
struct IdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Loads a program of type BPF_PROG_TYPE_CGROUP_DEVICE. bpf(2), Linux 4.15.
///
/// `EPERM`: no CAP_BPF (or CAP_SYS_ADMIN) in the initial user namespace. If the verifier rejects
/// the program, its last message is in the error.
pub fn load_device_program(insns: &[Insn], name: &CStr) -> io::Result<OwnedFd> {
    match load(insns, name, &mut []) {
        // A log is requested only after a failure: it makes the verifier slower.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EACCES)) => {
            let mut log = vec![0; LOG_BYTES];
            load(insns, name, &mut log).map_err(|error| with_log(error, &log))
        }
        done => done,
    }
}

fn load(insns: &[Insn], name: &CStr, log: &mut [u8]) -> io::Result<OwnedFd> {
    const LICENSE: &CStr = c"Apache-2.0";
    let mut attr = LoadAttr {
        prog_type: TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(insns.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        insns: insns.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        ..LoadAttr::default()
    };
    if !log.is_empty() {
        attr.log_level = 1;
        attr.log_size = log.len() as u32;
        attr.log_buf = log.as_mut_ptr() as u64;
    }
    // The last byte stays 0: the kernel wants a terminated name.
    for (to, from) in attr.prog_name.iter_mut().take(15).zip(name.to_bytes()) {
        *to = *from;
    }
    let mut load = || {
        // SAFETY: the attribute is PROG_LOAD's; `insns` points to `insn_cnt` instructions and
        // `license` to a NUL-terminated string, both only read; `log_buf` is null, or writable for
        // `log_size` bytes and borrowed mutably for the closure.
        unsafe { bpf(PROG_LOAD, &mut attr) }
    };
    let mut loaded = load();
    // The verifier gives up when a signal is pending (also a freezer's), and is not restarted.
    for _ in 1..MOST_LOADS {
        match &loaded {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => loaded = load(),
            _ => break,
        }
    }
    let fd = loaded?;
    // SAFETY: PROG_LOAD returned a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn with_log(error: io::Error, log: &[u8]) -> io::Error {
    let text = String::from_utf8_lossy(log);
    let said: Vec<&str> =
        text.trim_end_matches('\0').lines().filter(|line| !line.trim().is_empty()).collect();
    let last = said.iter().rev().take(3).rev().copied().collect::<Vec<_>>().join("; ");
    io::Error::new(error.kind(), format!("the kernel's verifier refuses the program: {last}"))
}

/// Attaches a device program to the cgroup, in addition to existing ones (BPF_F_ALLOW_MULTI): all
/// must allow an access. bpf(2), Linux 4.15.
///
/// The cgroup keeps the program; the descriptor may be closed. `cgroup` may be an O_PATH
/// descriptor.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    attach(PROG_ATTACH, cgroup, program, ALLOW_MULTI, None)
}

/// Atomically replaces `old` by `program` (BPF_F_REPLACE). bpf(2), Linux 5.6; before, `EINVAL`.
pub fn replace_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    old: BorrowedFd<'_>,
) -> io::Result<()> {
    attach(PROG_ATTACH, cgroup, program, ALLOW_MULTI | REPLACE, Some(old))
}

/// Detaches a device program from the cgroup. bpf(2), Linux 4.15.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    attach(PROG_DETACH, cgroup, program, 0, None)
}

fn attach(
    command: i32,
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    flags: u32,
    old: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attr = AttachAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: flags,
        replace_bpf_fd: old.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    // SAFETY: the attribute is PROG_ATTACH's and PROG_DETACH's; it holds no pointer, and its
    // descriptors are borrowed for the call.
    unsafe { bpf(command, &mut attr) }.map(drop)
}

/// The device programs attached to the cgroup itself, not to its ancestors, in their order. bpf(2),
/// Linux 4.15.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; MOST_PROGRAMS];
    let mut attr = QueryAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        padding: 0,
    };
    // SAFETY: the attribute is PROG_QUERY's; `prog_ids` is writable for `prog_cnt` numbers and
    // lives on this stack for the call.
    unsafe { bpf(PROG_QUERY, &mut attr) }?;
    ids.iter().take(attr.prog_cnt as usize).map(|id| program_by_id(*id)).collect()
}

fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = IdAttr { prog_id: id, next_id: 0, open_flags: 0 };
    // SAFETY: the attribute is PROG_GET_FD_BY_ID's and holds numbers only.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr) }?;
    // SAFETY: PROG_GET_FD_BY_ID returned a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// int bpf(int cmd, union bpf_attr *attr, unsigned int size).
///
/// # Safety
/// `A` must be the beginning of `union bpf_attr` as `command` uses it, and each pointer in it valid
/// for that use.
unsafe fn bpf<A>(command: i32, attr: &mut A) -> io::Result<c_long> {
    // SAFETY: `attr` is borrowed for the call and `size` is its own size; the kernel assumes zeros
    // after it and writes only within `size`. The caller guarantees what `attr` points to.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
}
