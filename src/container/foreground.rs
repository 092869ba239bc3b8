//! temporary
use std::os::fd::{BorrowedFd, OwnedFd};
pub struct Foreground;
impl Foreground {
    pub fn prepare() -> std::io::Result<Self> {
        Ok(Self)
    }
    pub fn wait(
        self,
        pidfd: BorrowedFd<'_>,
        _pid: i32,
        _terminal: Option<OwnedFd>,
        _fixed: bool,
    ) -> crate::error::Result<i32> {
        Ok(crate::sys::process::wait(pidfd)?.status())
    }
}
