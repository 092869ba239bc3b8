//! Runs classic BPF over a `struct seccomp_data` as the kernel would, counting steps.

use emergence_runc::security::seccomp::SockFilter;

/// `AUDIT_ARCH_X86_64`, which x32 has too.
pub(crate) const X86_64: u32 = 0xc000_003e;
/// `AUDIT_ARCH_I386`.
pub(crate) const X86: u32 = 0x4000_0003;
/// What x32's call numbers carry.
pub(crate) const X32: u32 = 0x4000_0000;

/// One call as a filter sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub audit: u32,
    pub number: u32,
    pub args: [u64; 6],
    pub big_endian: bool,
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.audit,
            16..64 if offset.is_multiple_of(4) => {
                let arg = self.args[(offset as usize - 16) / 8];
                let first = offset.is_multiple_of(8);
                if first == self.big_endian { (arg >> 32) as u32 } else { arg as u32 }
            }
            _ => panic!("load of offset {offset}"),
        }
    }
}

/// The answer and how many instructions it took. Panics where the kernel would refuse the program.
pub(crate) fn run(program: &[SockFilter], call: &Call) -> (u32, usize) {
    let (mut accumulator, mut at) = (0u32, 0usize);
    for step in 1.. {
        let SockFilter { code, jt, jf, k } = program[at];
        let jump = |yes: bool| usize::from(if yes { jt } else { jf });
        at += 1 + match code {
            0x20 => {
                accumulator = call.word(k);
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
            0x06 => return (k, step),
            _ => panic!("instruction {code:#x} at {at}"),
        };
    }
    unreachable!()
}

/// The constants the program compares with: where its answers can change.
pub(crate) fn constants(program: &[SockFilter]) -> impl Iterator<Item = u32> {
    program.iter().filter(|instruction| instruction.code & 7 == 5).map(|instruction| instruction.k)
}
