//! The architectures that a filter distinguishes: their names, audit numbers, word order and system
//! call numbers.

use super::syscalls::{self, Column};

/// An application binary interface that a process can make system calls through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the documentation
pub enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
    Ppc64le,
    S390x,
    Loongarch64,
}

/// Added to the number of every call made through x32.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// First number of 32-bit ARM's private calls (`__ARM_NR_BASE`). These do not count as newer than
/// the rest.
const ARM_PRIVATE: u32 = 0x000f_0000;

/// Architectures that filters can be compiled for.
const COMPILED: [(&str, Arch); 9] = [
    ("SCMP_ARCH_X86_64", Arch::X86_64),
    ("SCMP_ARCH_X86", Arch::X86),
    ("SCMP_ARCH_X32", Arch::X32),
    ("SCMP_ARCH_AARCH64", Arch::Aarch64),
    ("SCMP_ARCH_ARM", Arch::Arm),
    ("SCMP_ARCH_RISCV64", Arch::Riscv64),
    ("SCMP_ARCH_PPC64LE", Arch::Ppc64le),
    ("SCMP_ARCH_S390X", Arch::S390x),
    ("SCMP_ARCH_LOONGARCH64", Arch::Loongarch64),
];

/// The names in `architectures` that filters can be compiled for.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    COMPILED.iter().map(|(word, _)| *word)
}

/// Names in the specification without a call table here. A profile may list them; calls through
/// them are killed.
const FOREIGN: [&str; 14] = [
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

/// The meaning of a name in `architectures`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedArch {
    /// The native architecture.
    Native,
    /// An architecture with a call table.
    Compiled(Arch),
    /// An architecture of the specification without a call table.
    Foreign,
}

/// Looks up a name in `architectures`; `None` if the specification does not have it.
pub(super) fn find(text: &str) -> Option<NamedArch> {
    if text == "SCMP_ARCH_NATIVE" {
        return Some(NamedArch::Native);
    }
    match COMPILED.iter().find(|(name, _)| *name == text) {
        Some((_, arch)) => Some(NamedArch::Compiled(*arch)),
        None => FOREIGN.contains(&text).then_some(NamedArch::Foreign),
    }
}

impl Arch {
    /// The architecture that this program was built for; `None` if it has no call table.
    pub const fn native() -> Option<Self> {
        if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "x86_64") {
            Some(Self::X32)
        } else if cfg!(target_arch = "x86") {
            Some(Self::X86)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else if cfg!(target_arch = "arm") {
            Some(Self::Arm)
        } else if cfg!(target_arch = "riscv64") {
            Some(Self::Riscv64)
        } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
            Some(Self::Ppc64le)
        } else if cfg!(target_arch = "s390x") {
            Some(Self::S390x)
        } else if cfg!(target_arch = "loongarch64") {
            Some(Self::Loongarch64)
        } else {
            None
        }
    }

    /// Whether a kernel of architecture `native` can run processes of this one. A filter omits the
    /// others, because their calls never reach it.
    pub(super) fn runs_on(self, native: Self) -> bool {
        let x86 = [Self::X86_64, Self::X86, Self::X32];
        let arm = [Self::Aarch64, Self::Arm];
        self == native
            || (x86.contains(&self) && x86.contains(&native))
            || (arm.contains(&self) && arm.contains(&native))
    }

    /// `AUDIT_ARCH_…` of linux/audit.h, as in `struct seccomp_data`; x32 shares x86_64's.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
            Self::Ppc64le => 0xc000_0015,
            Self::S390x => 0x8000_0016,
            Self::Loongarch64 => 0xc000_0102,
        }
    }

    /// Whether both words of an argument are compared. x32's registers are wide, but its kernel
    /// entry points read only the low words of pointers and longs, so only these are compared, as
    /// in libseccomp.
    pub(super) const fn wide(self) -> bool {
        !matches!(self, Self::X86 | Self::X32 | Self::Arm)
    }

    /// Offsets of the low and the high word of argument `index` in `struct seccomp_data`,
    /// seccomp(2).
    pub(super) const fn argument(self, index: u32) -> (u32, u32) {
        let at = 16 + 8 * index;
        match self {
            Self::S390x => (at + 4, at),
            _ => (at, at + 4),
        }
    }

    /// The number of a call; `None` if this architecture does not have it.
    pub(super) fn number(self, name: syscalls::Name) -> Option<u32> {
        match self {
            Self::X86_64 => name.number(Column::X86_64),
            Self::X86 => name.number(Column::X86),
            Self::X32 => name.number(Column::X32).map(|number| number | X32_BIT),
            Self::Aarch64 => name.number(Column::Aarch64),
            Self::Arm => name.number(Column::Arm).or_else(|| name.arm_private(ARM_PRIVATE)),
            Self::Riscv64 => name.number(Column::Riscv64),
            Self::Ppc64le => name.number(Column::Powerpc64),
            Self::S390x => name.number(Column::S390x),
            Self::Loongarch64 => name.number(Column::Loongarch64),
        }
    }

    /// Whether a number counts when the newest call of a profile is determined.
    pub(super) fn counts_as_newest(self, number: u32) -> bool {
        self != Self::Arm || number < ARM_PRIVATE
    }

    /// The multiplexer of the call `name`, socketcall(2) or ipc(2), and the value of its first
    /// argument.
    pub(super) fn carrier(self, name: syscalls::Name) -> Option<(u32, u64)> {
        if !matches!(self, Self::X86 | Self::Ppc64le | Self::S390x) {
            return None;
        }
        let (carrier, inner) = name.carried()?;
        Some((self.number(syscalls::Name::find(carrier)?)?, inner))
    }
}
