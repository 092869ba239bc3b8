//! Which processor the programs of an object are for: the first ELF file in it that can be executed tells.

use crate::emergence::base::refusal::Result;
use crate::emergence::nix::nar::Visitor;

/// Bytes of an ELF header up to behind the machine.
const HEADER: usize = 20;

/// Machines of ELF, and what OCI calls them: little endian and of 64 bits, unless said otherwise.
const MACHINES: [(u16, &str); 7] = [
    (62, "amd64"),
    (183, "arm64"),
    (243, "riscv64"),
    (21, "ppc64le"),
    (258, "loong64"),
    (3, "386"),
    (40, "arm"),
];

/// Watches a tree.
#[derive(Default)]
pub(crate) struct Machine {
    /// The beginning of the file that is being read, while it may be one.
    header: Option<Vec<u8>>,
    found: Option<&'static str>,
}

impl Machine {
    /// What was found.
    pub(crate) fn found(&self) -> Option<&'static str> {
        self.found
    }
}

impl Visitor for Machine {
    fn file(&mut self, _name: &[u8], executable: bool, size: u64) -> Result<()> {
        let may_be = self.found.is_none() && executable && size >= HEADER as u64;
        self.header = may_be.then(Vec::new);
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(header) = &mut self.header else { return Ok(()) };
        header.extend(bytes.iter().take(HEADER - header.len()));
        if header.len() == HEADER {
            self.found = machine(header);
            self.header = None;
        }
        Ok(())
    }
}

fn machine(header: &[u8]) -> Option<&'static str> {
    const LITTLE_ENDIAN: u8 = 1;
    let number = u16::from_le_bytes([*header.get(18)?, *header.get(19)?]);
    let is_one = header.starts_with(b"\x7fELF") && header.get(5) == Some(&LITTLE_ENDIAN);
    MACHINES.iter().find(|(known, _)| is_one && *known == number).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_program_tells() {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        elf.extend([2, 0, 183, 0, 1]);
        let mut machine = Machine::default();
        let mut file = |executable, bytes: &[u8]| {
            machine.file(b"a", executable, bytes.len() as u64).unwrap();
            bytes.chunks(3).for_each(|bytes| machine.data(bytes).unwrap());
            machine.end_file().unwrap();
            machine.found()
        };
        assert_eq!(file(true, b"#!/bin/sh\necho hello world"), None);
        assert_eq!(file(false, &elf), None);
        assert_eq!(file(true, &elf[..10]), None);
        assert_eq!(file(true, &elf), Some("arm64"));
        elf[18] = 62;
        assert_eq!(file(true, &elf), Some("arm64"));
    }
}
