//! The machine as an older kernel has it: `EMERGENCE_TEST_KERNEL=5.4` puts a filter of system calls
//! before every program that a test starts. It answers what Linux 5.4 would, as far as a filter can
//! see what is asked; containers inherit it.

use std::io;

use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD};
use libc::{BPF_MEM, BPF_RET, BPF_ST, BPF_SUB, BPF_W, BPF_X};
use libc::{sock_filter, sock_fprog};

/// BPF_TAX and BPF_MISC, linux/filter.h.
const COPY_TO_X: u32 = 0x07;

/// The first call newer than Linux 5.4: close_range(2). Numbers are the same on all architectures
/// from 424 on.
const FIRST_UNKNOWN: i64 = 436;

/// Size of clone_args up to 5.4, clone(2).
const CLONE_ARGS: u32 = 64;

/// Offset of an argument's lower half in seccomp_data, seccomp(2).
const fn argument(number: u32) -> u32 {
    16 + 8 * number + if cfg!(target_endian = "big") { 4 } else { 0 }
}

/// What a machine can look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Older {
    /// Linux 5.4.
    Linux5_4,
    /// Linux 5.4 in a container of an engine whose filter knows no clone3 and refuses what it does
    /// not know with EPERM.
    InOldEngine,
}

/// What `EMERGENCE_TEST_KERNEL` asks for.
pub(crate) fn wanted() -> Option<Older> {
    let kernel = std::env::var("EMERGENCE_TEST_KERNEL").ok()?;
    assert_eq!(kernel, "5.4", "EMERGENCE_TEST_KERNEL knows no other kernel");
    Some(Older::Linux5_4)
}

/// Whether this machine's kernel is older than `version`, such as `5.12`.
pub(crate) fn is_before(version: &str) -> bool {
    let numbers = |text: &str| -> (u32, u32) {
        let mut parts = text.split(['.', '-']).map(|part| part.parse().expect("a version is numbers"));
        (parts.next().expect("a version"), parts.next().expect("a version has two numbers"))
    };
    numbers(rustix::system::uname().release().to_str().expect("a release is text")) < numbers(version)
}

const fn step(code: u32, yes: u8, no: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: yes, jf: no, k }
}

const fn load(offset: u32) -> sock_filter {
    step(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)
}

const fn answer(errno: i32) -> sock_filter {
    step(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32)
}

const ALLOW: sock_filter = step(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW);

/// Continues with the next step if the number is `call`, otherwise after the next `length` steps.
const fn only(call: i64, length: u8) -> sock_filter {
    step(BPF_JMP | BPF_JEQ | BPF_K, 0, length, call as u32)
}

/// The answers: to a call that is too new, and to clone3 with arguments up to the size of 5.4's.
const fn filter(unknown: sock_filter, clone3: sock_filter) -> [sock_filter; 29] {
    [
        load(0),
        // Here EPERM has a meaning of its own, so that no caller tries the fallback.
        only(libc::SYS_mount_setattr, 1),
        answer(libc::ENOSYS),
        step(BPF_JMP | BPF_JGE | BPF_K, 0, 1, FIRST_UNKNOWN as u32),
        unknown,
        // 5.4 answers without the mount's number and the mark of its root: what a filter cannot do.
        only(libc::SYS_statx, 1),
        answer(libc::ENOSYS),
        // Longer clone_args are CLONE_INTO_CGROUP's. glibc gives them always, and knows what to do
        // without the call.
        only(libc::SYS_clone3, 4),
        load(argument(1)),
        step(BPF_JMP | BPF_JGT | BPF_K, 0, 1, CLONE_ARGS),
        answer(libc::ENOSYS),
        clone3,
        only(libc::SYS_unshare, 4),
        load(argument(0)),
        step(BPF_JMP | BPF_JSET | BPF_K, 0, 1, libc::CLONE_NEWTIME as u32),
        answer(libc::EINVAL),
        ALLOW,
        // Several kinds at once are a pidfd's: x & (x - 1).
        only(libc::SYS_setns, 10),
        load(argument(1)),
        step(BPF_JMP | BPF_JSET | BPF_K, 6, 0, libc::CLONE_NEWTIME as u32),
        step(BPF_ST, 0, 0, 0),
        step(BPF_ALU | BPF_SUB | BPF_K, 0, 0, 1),
        step(COPY_TO_X, 0, 0, 0),
        step(BPF_LD | BPF_MEM, 0, 0, 0),
        step(BPF_ALU | BPF_AND | BPF_X, 0, 0, 0),
        step(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 0),
        answer(libc::EINVAL),
        ALLOW,
        ALLOW,
    ]
}

impl Older {
    /// In a child, as root: from here on the machine looks like this. System calls only.
    pub(crate) fn pretend(self) -> io::Result<()> {
        const LINUX_5_4: [sock_filter; 29] = filter(answer(libc::ENOSYS), ALLOW);
        const IN_OLD_ENGINE: [sock_filter; 29] = filter(answer(libc::EPERM), answer(libc::ENOSYS));
        let steps = match self {
            Older::Linux5_4 => &LINUX_5_4,
            Older::InOldEngine => &IN_OLD_ENGINE,
        };
        let program = sock_fprog { len: steps.len() as u16, filter: steps.as_ptr().cast_mut() };
        // SAFETY: the kernel reads the program and its `len` steps, a constant; it writes nothing
        // to them.
        let done =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
