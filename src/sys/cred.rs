//! Credentials and scheduling of a process: capabilities, IDs, keyring, priorities, memory policy,
//! personality.
//!
//! All calls go straight to the kernel: the C library's setuid family signals every thread and
//! takes locks.

use std::ffi::CStr;
use std::io;

use rustix::process::Resource;
use rustix::thread::{Gid, Uid};

use super::check;

/// Capabilities as bits, capability N at bit N.
pub type CapMask = u64;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// `capset` for this thread, capset(2). EPERM: a bit that is not in the permitted set.
pub fn set_capabilities(effective: CapMask, permitted: CapMask, inheritable: CapMask) -> io::Result<()> {
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let half = |shift: u32| CapData {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 makes the kernel read one header and two data records, as passed here.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// The permitted set of this thread, capget(2).
pub fn permitted_capabilities() -> io::Result<CapMask> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 makes the kernel write two data records, which fit into `data`.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let [low, high] = data;
    Ok(u64::from(low.permitted) | u64::from(high.permitted) << 32)
}

/// `prctl(PR_CAPBSET_DROP, N)` for every capability that `keep` lacks, up to the kernel's last.
pub fn limit_bounding_set(keep: CapMask) -> io::Result<()> {
    for number in 0..64 {
        if keep >> number & 1 == 1 {
            continue;
        }
        // SAFETY: prctl with this option reads one integer.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }.into()) {
            Ok(_) => {}
            // Past the kernel's last capability.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Replaces the ambient set, prctl(PR_CAP_AMBIENT). EPERM: a bit that is not permitted and
/// inheritable; its number is returned with the error.
pub fn set_ambient(set: CapMask) -> Result<(), (usize, io::Error)> {
    let call = |what: i32, number: i32| {
        // SAFETY: prctl with this option reads integers; unused ones must be 0.
        check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, what, number, 0, 0) }.into()).map(drop)
    };
    call(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0).map_err(|error| (0, error))?;
    (0..64).filter(|number| set >> number & 1 == 1).try_for_each(|number| {
        call(libc::PR_CAP_AMBIENT_RAISE, number).map_err(|error| (number as usize, error))
    })
}

/// `prctl(PR_SET_KEEPCAPS, keep)`: whether permitted capabilities survive a change from user 0 to
/// another.
pub fn keep_capabilities(keep: bool) -> io::Result<()> {
    Ok(rustix::thread::set_keep_capabilities(keep)?)
}

/// `prctl(PR_SET_NO_NEW_PRIVS, 1)`.
pub fn set_no_new_privs() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// `setgroups`, setgroups(2).
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the kernel reads `groups.len()` IDs from `groups`.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// `setresgid(gid, gid, gid)`, setresgid(2).
pub fn set_gid(gid: u32) -> io::Result<()> {
    let gid = Gid::from_raw(gid);
    Ok(rustix::thread::set_thread_res_gid(gid, gid, gid)?)
}

/// `setresuid(uid, uid, uid)`, setresuid(2).
pub fn set_uid(uid: u32) -> io::Result<()> {
    let uid = Uid::from_raw(uid);
    Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
}

/// Joins a new session keyring of this name, searchable by its user; keyctl(2),
/// KEYCTL_JOIN_SESSION_KEYRING and _SETPERM.
pub fn join_session_keyring(name: &CStr) -> io::Result<()> {
    const POSSESSOR_ALL_USER_VIEW_READ_SEARCH_LINK: u32 = 0x3f1b_0000;
    // SAFETY: `name` ends in NUL and is only read.
    let ring =
        check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })?;
    // SAFETY: integers only. An existing keyring of another user with this name keeps its
    // permissions; this is no error.
    unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, ring, POSSESSOR_ALL_USER_VIEW_READ_SEARCH_LINK)
    };
    Ok(())
}

/// sched_setattr(2)'s structure, its first version (48 bytes).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttr {
    /// Bytes of this structure.
    pub size: u32,
    /// `SCHED_…`.
    pub policy: u32,
    /// `SCHED_FLAG_…`.
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// `sched_setattr(0, attr, 0)`, sched_setattr(2).
pub fn set_scheduler(attr: &SchedAttr) -> io::Result<()> {
    // SAFETY: `attr.size` tells the kernel how much it may read of the structure, which lives
    // across the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(attr), 0) }).map(drop)
}

/// `ioprio_set(IOPRIO_WHO_PROCESS, 0, value)`, ioprio_set(2).
pub fn set_io_priority(value: i32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: three integers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) }).map(drop)
}

/// `sched_setaffinity(0, …)` for this thread, sched_setaffinity(2): processor N is bit N % 64 of
/// word N / 64. The kernel ignores processors that the machine or the cgroup's cpuset lacks.
/// EINVAL: none is left.
pub fn set_affinity(cpus: &[u64]) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as the second argument gives, which is the size of the
    // slice.
    let done =
        unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, std::mem::size_of_val(cpus), cpus.as_ptr()) };
    check(done).map(drop)
}

/// `set_mempolicy(mode, nodes, bits)`, set_mempolicy(2); `nodes` is a bit mask in words.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> io::Result<()> {
    // The kernel uses one bit less than it is given.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads `bits - 1` bits from `mask`, exactly the words of `nodes`, or
    // nothing.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// `personality(value)`, personality(2).
pub fn set_personality(value: u64) -> io::Result<()> {
    // SAFETY: one integer.
    check(unsafe { libc::personality(value) }.into()).map(drop)
}

/// `prlimit(pid, resource, {soft, hard}, NULL)`, prlimit(2); pid 0 is the caller.
pub fn set_limit(pid: i32, resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let none = std::ptr::null_mut::<libc::rlimit64>();
    // SAFETY: the kernel reads one rlimit64, and writes nothing through null.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource as u32, &raw const limit, none) })
        .map(drop)
}

/// `setdomainname(name)`, setdomainname(2).
pub fn set_domain_name(name: &[u8]) -> io::Result<()> {
    Ok(rustix::system::setdomainname(name)?)
}
