//! stand-in until the room's own is merged
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Driver;
use crate::error::{Doing, Result};

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Group {
    pub path: PathBuf,
}
pub enum Layout {
    Unified { root: PathBuf },
    None,
}
pub fn layout() -> Result<Layout> {
    Ok(Layout::Unified { root: "/sys/fs/cgroup".into() })
}
pub struct Made {
    fd: OwnedFd,
}
impl Made {
    pub fn dir_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }
}
impl Group {
    pub fn place(layout: &Layout, driver: Driver, path: &str, id: &str) -> Result<Option<Self>> {
        if driver == Driver::Disabled {
            return Ok(None);
        }
        let Layout::Unified { root } = layout else { return Ok(None) };
        let path = if path.is_empty() { id } else { path };
        Ok(Some(Group { path: root.join(path.trim_start_matches('/')) }))
    }
    pub fn create(&self, tolerate: bool) -> Result<Option<Made>> {
        if let Err(e) = std::fs::create_dir_all(&self.path) {
            if tolerate {
                return Ok(None);
            }
            return Err(e).doing(|| format!("make {}", self.path.display()));
        }
        let fd = rustix::fs::open(
            &self.path,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .doing(|| "open cgroup")?;
        Ok(Some(Made { fd }))
    }
    pub fn join(&self, pid: i32) -> Result<()> {
        std::fs::write(self.path.join("cgroup.procs"), pid.to_string()).doing(|| "join")
    }
    pub fn kill(&self) -> Result<()> {
        let _ = std::fs::write(self.path.join("cgroup.kill"), "1");
        Ok(())
    }
    pub fn pids(&self) -> Result<Vec<i32>> {
        Ok(std::fs::read_to_string(self.path.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
            .filter_map(|l| l.parse().ok())
            .collect())
    }
    pub fn remove(&self) -> Result<()> {
        for _ in 0..200 {
            match std::fs::remove_dir(&self.path) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(_) => {
                    self.kill()?;
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            }
        }
        Ok(())
    }
}
