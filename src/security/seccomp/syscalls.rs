//! Names and numbers of system calls, laid out at compile time: a sorted list of names, and a
//! column of numbers for each architecture.
//!
//! Names are stored in one string with 16-bit offsets. The table holds no pointers, so nothing is
//! relocated at program start, and only the pages that a search touches are read.

// All indexing below happens at compile time, where an index out of range is a build error.
#![allow(clippy::indexing_slicing, long_running_const_eval)]

/// The architectures with a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    X86_64,
    X86,
    Aarch64,
    Arm,
    Riscv64,
    Powerpc64,
    S390x,
    Loongarch64,
    /// Without x32's bit.
    X32,
}

/// Number of columns of the `syscalls` crate; x32's is derived from x86_64's.
const COLUMNS: usize = 8;
/// More than any architecture's highest number, less than [`NONE`].
const HIGHEST: usize = 1024;
/// Capacity for the names while they are collected.
const ROOM: usize = 1024;
const NONE: u16 = u16::MAX;

/// Calls of 32-bit ARM above `__ARM_NR_BASE`, arch/arm/include/uapi/asm/unistd.h.
const ARM_PRIVATE: [(&str, u32); 6] =
    [("breakpoint", 1), ("cacheflush", 2), ("usr26", 3), ("usr32", 4), ("set_tls", 5), ("get_tls", 6)];

/// Calls with x32's own numbers, arch/x86/entry/syscalls/syscall_64.tbl, "x32".
const X32: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];
const X32_FIRST: u16 = 512;

/// Calls of x86_64 that x32 lacks; the same table, "64".
const NOT_X32: [&str; 14] = [
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "vserver",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "uretprobe",
    "uprobe",
    "map_shadow_stack",
];

/// The calls that socketcall(2) multiplexes, linux/net.h `SYS_…`, from 1.
const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// The calls that ipc(2) multiplexes, linux/ipc.h.
const IPC: [(&str, u8); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// A call name of at least one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name(usize);

impl Name {
    /// Looks up a name; `None` if no architecture has such a call.
    pub(super) fn find(name: &str) -> Option<Self> {
        let (mut low, mut high) = (0, COUNT);
        while low < high {
            let middle = low.midpoint(high);
            match Self(middle).as_bytes().cmp(name.as_bytes()) {
                std::cmp::Ordering::Equal => return Some(Self(middle)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Every name, for tests and tables.
    #[cfg(test)]
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..COUNT).map(Self)
    }

    fn as_bytes(self) -> &'static [u8] {
        let bound = |at: usize| OFFSETS.get(at).map_or(0, |offset| usize::from(*offset));
        LETTERS.get(bound(self.0)..bound(self.0 + 1)).unwrap_or(&[])
    }

    /// The name as written.
    pub(super) fn as_str(self) -> &'static str {
        std::str::from_utf8(self.as_bytes()).unwrap_or("")
    }

    /// The call's number in a column.
    pub(super) fn number(self, column: Column) -> Option<u32> {
        let number = *NUMBERS.get(column as usize)?.get(self.0)?;
        (number != NONE).then_some(u32::from(number))
    }

    /// The call's number among 32-bit ARM's private calls.
    pub(super) fn arm_private(self, base: u32) -> Option<u32> {
        let name = self.as_str();
        ARM_PRIVATE.iter().find(|(own, _)| *own == name).map(|(_, number)| base + number)
    }

    /// The multiplexer of this call on architectures that have one, and the number of this call
    /// there.
    pub(super) fn carried(self) -> Option<(&'static str, u64)> {
        match CARRIED.get(self.0)? {
            0 => None,
            number if *number < IPC_MARK => Some(("socketcall", u64::from(*number))),
            number => Some(("ipc", u64::from(number - IPC_MARK))),
        }
    }
}

/// Looks up names that are mostly sorted, as in the usual profiles: the next one is tried near the
/// last one.
#[derive(Default)]
pub(super) struct Finder {
    /// The position after the last name.
    next: usize,
}

impl Finder {
    /// As [`Name::find`].
    pub(super) fn find(&mut self, name: &str) -> Option<Name> {
        const NEAR: usize = 4;
        let near = (self.next..COUNT.min(self.next + NEAR)).map(Name);
        let found = near.into_iter().find(|near| near.as_bytes() == name.as_bytes());
        let found = found.or_else(|| Name::find(name))?;
        self.next = found.0 + 1;
        Some(found)
    }
}

/// The name of a number in the `syscalls` crate, with corrections for aarch64 and loongarch64
/// (0.8.1): 79 is `newfstatat` on 64-bit machines, and 403 to 423 are the 64-bit time calls of
/// 32-bit machines, scripts/syscall.tbl.
const fn name_of(column: usize, number: usize) -> Option<&'static [u8]> {
    if column == Column::Aarch64 as usize || column == Column::Loongarch64 as usize {
        match number {
            79 => return Some(b"newfstatat"),
            403..=423 => return None,
            _ => {}
        }
    }
    macro_rules! look_up {
        ($arch:ident) => {
            match ::syscalls::$arch::Sysno::new(number) {
                Some(call) => call.name(),
                None => return None,
            }
        };
    }
    let name = match column {
        0 => look_up!(x86_64),
        1 => look_up!(x86),
        2 => look_up!(aarch64),
        3 => look_up!(arm),
        4 => look_up!(riscv64),
        5 => look_up!(powerpc64),
        6 => look_up!(s390x),
        _ => look_up!(loongarch64),
    };
    Some(unquoted(name.as_bytes()))
}

/// `break` is a keyword: the crate spells it `r#break`.
const fn unquoted(name: &'static [u8]) -> &'static [u8] {
    match name {
        [b'r', b'#', rest @ ..] => rest,
        _ => name,
    }
}

/// Negative, 0 or positive as `a` sorts before, with or after `b`.
const fn order(a: &[u8], b: &[u8]) -> isize {
    let mut at = 0;
    while at < a.len() && at < b.len() {
        if a[at] != b[at] {
            return a[at] as isize - b[at] as isize;
        }
        at += 1;
    }
    a.len() as isize - b.len() as isize
}

/// Names while they are collected, sorted.
struct Names {
    list: [&'static [u8]; ROOM],
    count: usize,
}

impl Names {
    /// The position of `name`, or where to insert it.
    const fn search(&self, name: &[u8]) -> (bool, usize) {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            match order(self.list[middle], name) {
                0 => return (true, middle),
                ..0 => low = middle + 1,
                1.. => high = middle,
            }
        }
        (false, low)
    }

    const fn add(&mut self, name: &'static [u8]) {
        let (found, place) = self.search(name);
        if found {
            return;
        }
        let mut at = self.count;
        while at > place {
            self.list[at] = self.list[at - 1];
            at -= 1;
        }
        self.list[place] = name;
        self.count += 1;
    }
}

const GATHERED: Names = {
    let mut names = Names { list: [&[]; ROOM], count: 0 };
    let mut column = 0;
    while column < COLUMNS {
        let mut number = 0;
        while number < HIGHEST {
            if let Some(name) = name_of(column, number) {
                names.add(name);
            }
            number += 1;
        }
        column += 1;
    }
    let mut at = 0;
    while at < SOCKETCALL.len() {
        names.add(SOCKETCALL[at].as_bytes());
        at += 1;
    }
    at = 0;
    while at < IPC.len() {
        names.add(IPC[at].0.as_bytes());
        at += 1;
    }
    at = 0;
    while at < ARM_PRIVATE.len() {
        names.add(ARM_PRIVATE[at].0.as_bytes());
        at += 1;
    }
    names
};

const COUNT: usize = GATHERED.count;

const LENGTH: usize = {
    let (mut length, mut at) = (0, 0);
    while at < COUNT {
        length += GATHERED.list[at].len();
        at += 1;
    }
    length
};

static LETTERS: [u8; LENGTH] = {
    let names = GATHERED;
    let mut letters = [0; LENGTH];
    let (mut end, mut name) = (0, 0);
    while name < COUNT {
        let mut at = 0;
        while at < names.list[name].len() {
            letters[end] = names.list[name][at];
            end += 1;
            at += 1;
        }
        name += 1;
    }
    letters
};

static OFFSETS: [u16; COUNT + 1] = {
    let names = GATHERED;
    let mut offsets = [0; COUNT + 1];
    let mut name = 0;
    while name < COUNT {
        offsets[name + 1] = offsets[name] + names.list[name].len() as u16;
        name += 1;
    }
    offsets
};

static NUMBERS: [[u16; COUNT]; COLUMNS + 1] = {
    let names = GATHERED;
    let mut numbers = [[NONE; COUNT]; COLUMNS + 1];
    let mut column = 0;
    while column < COLUMNS {
        let mut number = 0;
        while number < HIGHEST {
            if let Some(name) = name_of(column, number) {
                let (_, row) = names.search(name);
                numbers[column][row] = number as u16;
            }
            number += 1;
        }
        column += 1;
    }
    let x32 = Column::X32 as usize;
    numbers[x32] = numbers[Column::X86_64 as usize];
    let mut at = 0;
    while at < X32.len() {
        let (_, row) = names.search(X32[at].as_bytes());
        numbers[x32][row] = X32_FIRST + at as u16;
        at += 1;
    }
    at = 0;
    while at < NOT_X32.len() {
        let (_, row) = names.search(NOT_X32[at].as_bytes());
        numbers[x32][row] = NONE;
        at += 1;
    }
    numbers
};

/// Added to the numbers of ipc(2) in [`CARRIED`]; greater than all numbers of socketcall(2).
const IPC_MARK: u8 = 100;

/// The number of each call in socketcall(2) or ipc(2), 0 for none.
static CARRIED: [u8; COUNT] = {
    let names = GATHERED;
    let mut carried = [0; COUNT];
    let mut at = 0;
    while at < SOCKETCALL.len() {
        let (_, row) = names.search(SOCKETCALL[at].as_bytes());
        carried[row] = at as u8 + 1;
        at += 1;
    }
    at = 0;
    while at < IPC.len() {
        let (_, row) = names.search(IPC[at].0.as_bytes());
        carried[row] = IPC[at].1 + IPC_MARK;
        at += 1;
    }
    carried
};
