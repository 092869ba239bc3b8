//! `memory.checkBeforeUpdate`: refuses a limit below the present usage.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::Made;
use super::file::{open_dir, read_at};
use super::settings::Usage;
use crate::error::{Doing, Error, Kind, Result};

const FIELD: &str = "linux.resources.memory.checkBeforeUpdate";

/// The files with the memory in use, of cgroup v2 and v1.
const MEMORY: [&str; 2] = ["memory.current", "memory.usage_in_bytes"];
/// The files for swap: v2 counts it separately from memory, v1 counts their sum.
const SWAP: [&str; 2] = ["memory.swap.current", "memory.memsw.usage_in_bytes"];

impl Made {
    /// Errors if the group uses more than one of the limits.
    pub(super) fn check_usage(&self, most: Usage) -> Result<()> {
        if most == Usage::default() {
            return Ok(());
        }
        let [memory, swap] = match self.dir_fd().filter(|_| self.group().is_unified()) {
            Some(dir) => [MEMORY[0], SWAP[0]].map(|file| read(dir, file)),
            None => {
                let Some(dir) = self.group().legacy_dir("memory") else { return Ok(()) };
                let dir = open_dir(&dir.path()).doing(|| format!("{FIELD}: open the memory cgroup"))?;
                [MEMORY[1], SWAP[1]].map(|file| read(dir.as_fd(), file))
            }
        };
        let (Some(memory), swap) = (memory?, swap?) else { return Ok(()) };
        let sum = match swap {
            Some(swap) if self.group().is_unified() => memory.saturating_add(swap),
            Some(sum) => sum,
            None => memory,
        };
        for (limit, used, name) in
            [(most.memory, memory, "limit"), (most.sum, sum, "limit of memory and swap")]
        {
            if let Some(limit) = limit.filter(|limit| used > *limit) {
                let words = format!("the new {name} is {limit} bytes, but {used} are in use");
                return Err(Error::new(Kind::State, format!("{FIELD}: {words}")));
            }
        }
        Ok(())
    }
}

/// The number in the file; `None` if it does not exist: then writing the limit fails too, or
/// nothing is counted.
fn read(dir: std::os::fd::BorrowedFd<'_>, file: &str) -> Result<Option<u64>> {
    let doing = || format!("{FIELD}: read {file}");
    match read_at(dir, file) {
        Ok(text) => {
            let number = text.parse().map(Some);
            number.map_err(|_| Error::new(Kind::System, format!("{}: {text:?} is not a number", doing())))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error).doing(doing),
    }
}
