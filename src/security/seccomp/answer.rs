//! Simulates a filter, for the system calls that the runtime itself makes after loading it.

use super::{Arch, Filter, SockFilter};

/// A system call's number and its first two arguments.
pub type Call = (i64, [u64; 2]);

/// `SECCOMP_RET_ALLOW` and `SECCOMP_RET_LOG`, linux/seccomp.h.
const LETS_THROUGH: [u32; 2] = [0x7fff_0000, 0x7ffc_0000];

impl Filter {
    /// Whether all `calls` of the native architecture are allowed. False also for a program with
    /// instructions that our filters do not use.
    pub fn lets_through(&self, calls: &[Call]) -> bool {
        let Some(native) = Arch::native() else { return false };
        let passes = |call| {
            answer(&self.program, native.audit(), call).is_some_and(|answer| LETS_THROUGH.contains(&answer))
        };
        calls.iter().all(passes)
    }
}

/// Runs the program. Source: linux/filter.h, and `struct seccomp_data` of seccomp(2).
fn answer(program: &[SockFilter], audit: u32, call: &Call) -> Option<u32> {
    let (mut accumulator, mut at) = (0_u32, 0_usize);
    loop {
        let SockFilter { code, jt, jf, k } = *program.get(at)?;
        let jump = |yes: bool| usize::from(if yes { jt } else { jf });
        at += 1 + match code {
            0x20 => {
                accumulator = word(audit, call, k)?;
                0
            }
            0x54 => {
                accumulator &= k;
                0
            }
            0x05 => k as usize,
            0x15 => jump(accumulator == k),
            0x25 => jump(accumulator > k),
            0x35 => jump(accumulator >= k),
            0x45 => jump(accumulator & k != 0),
            0x06 => return Some(k),
            _ => return None,
        };
    }
}

fn word(audit: u32, (number, arguments): &Call, offset: u32) -> Option<u32> {
    match offset {
        0 => u32::try_from(*number).ok(),
        4 => Some(audit),
        16..32 if offset.is_multiple_of(4) => {
            let argument = arguments.get((offset as usize - 16) / 8)?;
            let high = offset.is_multiple_of(8) == cfg!(target_endian = "big");
            Some(if high { (argument >> 32) as u32 } else { *argument as u32 })
        }
        16..64 if offset.is_multiple_of(4) => Some(0),
        _ => None,
    }
}
