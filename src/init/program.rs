//! The program: working directory, HOME, search in PATH, execve. Child side, no heap.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Never, Opened};
use crate::plan::{At, Plan, ProcessPlan, Step, StepError};
use crate::rootfs::inroot::InRoot;
use crate::rootfs::path::{self, PathBuffer};
use crate::sys::process;

/// Creates the working directory if the image lacks it. We are in the container's root already, so
/// paths suffice.
pub(crate) fn make_cwd(plan: &Plan) -> Result<(), StepError> {
    let Some(process) = &plan.process else { return Ok(()) };
    let bytes = process.cwd.to_bytes_with_nul();
    let start = bytes.iter().position(|byte| *byte != b'/').unwrap_or_default();
    let path = bytes.get(start..).and_then(|rest| CStr::from_bytes_with_nul(rest).ok()).unwrap_or(c"");
    if path.is_empty() {
        return Ok(());
    }
    let root = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(Step::MakeCwd, 0)?;
    match InRoot(root.as_fd()).directory(path) {
        // A read-only file system: entering the directory shows whether it exists.
        Ok(_) | Err(Errno::ROFS | Errno::ACCESS) => Ok(()),
        Err(error) => Err(error).at(Step::MakeCwd, 0),
    }
}

/// Changes to the working directory.
pub(crate) fn enter_cwd(process: &ProcessPlan) -> Result<(), StepError> {
    rustix::process::chdir(&process.cwd).at(Step::Cwd, 0)
}

/// Refuses a working directory outside the root (CVE-2024-21626): the kernel then returns
/// `(unreachable)…` or ENOENT.
pub(crate) fn check_cwd() -> Result<(), StepError> {
    let mut room = [0u8; 4096];
    // SAFETY: the kernel writes at most `room.len()` bytes there.
    let done = unsafe { libc::syscall(libc::SYS_getcwd, room.as_mut_ptr(), room.len()) };
    match (done, room.first()) {
        (1.., Some(b'/')) => Ok(()),
        // A path longer than the buffer is not outside.
        _ if done < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ERANGE) => Ok(()),
        _ => Err(StepError::new(Step::CwdOutside, 0, libc::ENOENT)),
    }
}

/// Searches the candidates for the first that may be executed, so that `create` fails where `start`
/// would, and returns its index. `outside`: /proc shows the pid namespace of a successor and not
/// ours, so we have no /proc/self.
pub(crate) fn look_up(process: &ProcessPlan, outside: bool) -> Result<usize, StepError> {
    let mut denied = false;
    for (index, path) in process.candidates.iter().enumerate() {
        match executable(path) {
            Ok(()) => return Ok(index),
            Err(Errno::ISDIR) if process.has_path() => {
                return Err(StepError::new(Step::LookUpDirectory, index, libc::EISDIR));
            }
            Err(Errno::ACCESS | Errno::PERM) => denied = true,
            Err(Errno::NOENT) if outside && (is_own(path) || is_link(path)) => return Ok(index),
            Err(error) if process.has_path() => return Err(error).at(Step::LookUpStat, index),
            Err(_) => {}
        }
    }
    let step = if denied { Step::LookUpDenied } else { Step::LookUpMissing };
    Err(StepError::new(step, 0, if denied { libc::EACCES } else { libc::ENOENT }))
}

/// Whether the path depends on the calling process (/proc/self …).
fn is_own(path: &CStr) -> bool {
    [&b"/proc/self/"[..], b"/proc/thread-self/", b"/dev/fd/"]
        .iter()
        .any(|start| path.to_bytes().starts_with(start))
}

/// Whether it is a symbolic link, which may lead to such a path; execve reports a dangling one.
fn is_link(path: &CStr) -> bool {
    rustix::fs::lstat(path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

fn executable(path: &CStr) -> rustix::io::Result<()> {
    let stat = rustix::fs::stat(path)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => return Err(Errno::ISDIR),
        FileType::RegularFile => {}
        _ => return Err(Errno::ACCESS),
    }
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // faccessat2(2) never returns EPERM; an engine's old filter that does not know it (Linux
        // 5.8) does. Our real and effective IDs are equal by now.
        Err(Errno::PERM) => rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()),
        other => other,
    }
}

/// Becomes the program that was found. If it is gone, searches again: as with execvp(3), the search
/// continues if a directory of PATH lacks the file or denies executing it.
pub(super) fn exec(plan: &Plan, opened: &mut Opened) -> Result<Never, StepError> {
    let Some(process) = &plan.process else {
        return Err(StepError::new(Step::Exec, 0, libc::ENOEXEC));
    };
    let mut first = None;
    let candidates = process.candidates.iter().enumerate();
    for (index, path) in candidates.clone().skip(opened.program).take(1).chain(candidates) {
        // SAFETY: the strings of both lists belong to the plan (HOME to the stack of `run`'s
        // caller), which outlive the call.
        let error = unsafe { process::execve(path, &opened.argv, &opened.envp) };
        let fault = StepError::of(Step::Exec, index, &error);
        match fault.errno {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => first = first.or(Some(fault)),
            _ => return Err(fault),
        }
        // Report a file that `look_up` found but that cannot start (a missing interpreter).
        if executable(path).is_ok() {
            first = first.or(Some(fault));
        }
    }
    Err(first.unwrap_or(StepError::new(Step::Exec, opened.program, libc::ENOENT)))
}

/// Sets HOME from the user's line of the container's /etc/passwd; `/` without such a line.
pub(crate) fn find_home(process: &ProcessPlan, opened: &mut Opened) -> Result<(), StepError> {
    if !process.needs_home {
        return Ok(());
    }
    let home = &mut opened.home;
    home.clear_to(b"HOME=");
    if from_passwd(process.uid, home).is_err() || home.bytes().len() == b"HOME=".len() {
        home.clear_to(b"HOME=/");
    }
    if let Ok(entry) = home.as_cstr() {
        opened.envp.push(entry);
    }
    Ok(())
}

/// Sets LISTEN_PID, which the program compares with its own PID, sd_listen_fds(3). Called again, it
/// updates the PID.
pub(crate) fn name_listener(process: &ProcessPlan, opened: &mut Opened) {
    if !process.listens {
        return;
    }
    let entry = &mut opened.listen_pid;
    let first = entry.bytes().is_empty();
    entry.clear_to(b"LISTEN_PID=");
    // The buffer is large enough for every PID.
    let _ = entry.push_number(process::own_pid());
    if let (true, Ok(entry)) = (first, entry.as_cstr()) {
        opened.envp.push(entry);
    }
}

/// Maximum read from a passwd file, in bytes: an image's may be a sparse file of terabytes.
const MOST_PASSWD: usize = 4 << 20;

fn from_passwd(uid: u32, home: &mut PathBuffer) -> rustix::io::Result<()> {
    // The image controls the file: never block on a fifo.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(c"/etc/passwd", flags, Mode::empty())?;
    if path::kind(&file)? != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    read_home(file.as_fd(), uid, home)
}

/// Appends the home directory of `uid` to `home`, from a file in the format of passwd(5).
///
/// Reads line by line into a buffer on the stack; longer lines are skipped. ENOENT: the user has no
/// line; EFBIG: none in the first 4 MiB; ENAMETOOLONG: the entry does not fit.
pub fn read_home(file: BorrowedFd<'_>, uid: u32, home: &mut PathBuffer) -> rustix::io::Result<()> {
    let mut room = [0u8; 4096];
    let (mut held, mut whole) = (0, 0);
    let mut too_long = false;
    while whole < MOST_PASSWD {
        let read = rustix::io::read(file, room.get_mut(held..).unwrap_or_default())?;
        whole += read;
        let full = room.get(..held + read).unwrap_or_default();
        let mut rest = full;
        while let Some(end) = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .or((read == 0 && !rest.is_empty()).then_some(rest.len()))
        {
            match rest.get(..end).and_then(|line| home_of(line, uid)) {
                Some(found) if !too_long => return home.push(found),
                // The rest of a line that did not fit is not a line.
                _ => too_long = false,
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        if read == 0 {
            return Err(Errno::NOENT);
        }
        let start = full.len() - rest.len();
        too_long |= rest.len() == room.len();
        held = if rest.len() == room.len() { 0 } else { rest.len() };
        room.copy_within(start..start + held, 0);
    }
    Err(Errno::FBIG)
}

/// `name:password:uid:gid:gecos:home:shell`, passwd(5).
fn home_of(line: &[u8], uid: u32) -> Option<&[u8]> {
    let mut fields = line.split(|byte| *byte == b':');
    let id = std::str::from_utf8(fields.nth(2)?).ok()?;
    let home = fields.nth(2)?;
    (id.parse() == Ok(uid)).then_some(home)
}

#[cfg(test)]
mod tests {
    use super::home_of;

    #[test]
    fn homes() {
        assert_eq!(home_of(b"root:x:0:0:root:/root:/bin/sh", 0), Some(&b"/root"[..]));
        assert_eq!(home_of(b"root:x:0:0:root:/root", 0), Some(&b"/root"[..]));
        assert_eq!(home_of(b"a:x:1:1:::", 1), Some(&b""[..]));
        for line in [&b"a:x:10:1:::"[..], b"a:x", b"", b"\xff:\xff:\xff:0:0:/"] {
            assert_eq!(home_of(line, 1), None);
        }
    }
}
