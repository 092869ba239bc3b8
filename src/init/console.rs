//! The program's terminal: a pseudo-terminal from the container's /dev/pts. Its master is sent out.
//! Child side, no heap.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Opened;
use crate::plan::{At, Plan, Step, StepError};
use crate::rootfs::devices::{mount_point, own_ptmx};
use crate::rootfs::inroot::InRoot;
use crate::sys::mount::{Reach, attach, clone_mount};
use crate::sys::{fd, process, pty};

/// Name of the master in the message that carries it.
const NAME: &[u8] = b"/dev/ptmx";

/// Opens a terminal, sends its master to the console socket and mounts it on /dev/console. `None`:
/// no terminal was requested.
pub fn open(plan: &Plan, root: BorrowedFd<'_>, opened: &Opened) -> Result<Option<OwnedFd>, StepError> {
    let Some(size) = plan.process.as_ref().and_then(|process| process.terminal) else { return Ok(None) };
    let (master, slave) = pair(root).at(Step::ConsoleOpen, 0)?;
    if size.rows != 0 || size.columns != 0 {
        pty::set_size(&slave, pty::Size { rows: size.rows, cols: size.columns }).at(Step::ConsoleOpen, 0)?;
    }
    if let Some(socket) = &opened.console {
        fd::send_fd(socket.as_fd(), NAME, master.as_fd()).at(Step::ConsoleSend, 0)?;
    }
    if plan.rootfs.own_mounts && plan.rootfs.make_dev {
        mount(InRoot(root), &slave).at(Step::ConsoleMount, 0)?;
    }
    Ok(Some(slave))
}

fn pair(root: BorrowedFd<'_>) -> std::io::Result<(OwnedFd, OwnedFd)> {
    // Check the file before it is opened for I/O.
    let (_looked, stat) = own_ptmx(InRoot(root))?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let master = InRoot(root).open_with(c"dev/pts/ptmx", flags)?;
    let same = rustix::fs::fstat(&master)?;
    if (same.st_dev, same.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(Errno::NODEV.into());
    }
    pty::unlock(master.as_fd())?;
    // By descriptor, not by name: another process could put another file at /dev/pts/N in between.
    let slave = pty::open_peer(master.as_fd())?;
    Ok((master, slave))
}

fn mount(root: InRoot<'_>, slave: &OwnedFd) -> std::io::Result<()> {
    let dev = root.directory(c"dev")?;
    // An image may have a symbolic link of this name that leads elsewhere: the link itself is
    // mounted on.
    let console = mount_point(&dev, c"console", Mode::from_raw_mode(0o666))?;
    attach(clone_mount(slave, Reach::Mount)?, &console)
}

/// Makes the terminal standard input, output and error, and the controlling terminal if
/// `controlling`. Without a terminal, the runtime's standard files stay; Rust's start-up code
/// ensures that they are open.
pub fn attach_standard(slave: Option<OwnedFd>, controlling: bool) -> Result<(), StepError> {
    let Some(slave) = slave else { return Ok(()) };
    if controlling {
        pty::make_controlling(slave.as_fd()).at(Step::ConsoleAttach, 0)?;
    }
    for number in 0..3 {
        process::duplicate_to(slave.as_fd(), number).at(Step::ConsoleAttach, 0)?;
    }
    Ok(())
}
