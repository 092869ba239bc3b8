//! The architecture of an object's programs: that of the first executable ELF file in it.

use crate::emergence::base::refusal::Result;
use crate::emergence::nix::nar::Visitor;

/// Bytes of an ELF header up to and including the machine field.
const HEADER: usize = 20;

/// ELF machines and their OCI names: little-endian and 64-bit, unless noted otherwise.
const MACHINES: [(u16, &str); 7] = [
    (62, "amd64"),
    (183, "arm64"),
    (243, "riscv64"),
    (21, "ppc64le"),
    (258, "loong64"),
    (3, "386"),
    (40, "arm"),
];

/// Finds the architecture while a tree is read.
#[derive(Default)]
pub(crate) struct ArchitectureFinder {
    /// The first bytes of the current file, while it may be an ELF file.
    header: Option<Vec<u8>>,
    found: Option<&'static str>,
}

impl ArchitectureFinder {
    /// The architecture that was found.
    pub(crate) fn found(&self) -> Option<&'static str> {
        self.found
    }
}

impl Visitor for ArchitectureFinder {
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
    fn the_first_program_decides() {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        elf.extend([2, 0, 183, 0, 1]);
        let mut machine = ArchitectureFinder::default();
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
