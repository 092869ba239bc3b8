//! The program itself: working directory, HOME, the look through PATH, execve. Child side, no heap.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Never, Opened};
use crate::plan::{At, Fault, Plan, ProcessPlan, Step};
use crate::rootfs::inroot::InRoot;
use crate::rootfs::path::{self, PathBuffer};
use crate::sys::process;

/// Makes the working directory where the image lacks it. We are in the container's root already, so names suffice.
pub fn make_cwd(plan: &Plan) -> Result<(), Fault> {
    let Some(process) = &plan.process else { return Ok(()) };
    let root = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(Step::MakeCwd, 0)?;
    let bytes = process.cwd.to_bytes_with_nul();
    let start = bytes.iter().position(|byte| *byte != b'/').unwrap_or_default();
    let path = bytes.get(start..).and_then(|rest| CStr::from_bytes_with_nul(rest).ok()).unwrap_or(c"");
    match InRoot(root.as_fd()).folder(path) {
        // A read-only file system: whether it is there is then seen when it is entered.
        Ok(_) | Err(Errno::ROFS | Errno::ACCESS) => Ok(()),
        Err(error) => Err(error).at(Step::MakeCwd, 0),
    }
}

/// chdir to it.
pub fn enter_cwd(process: &ProcessPlan) -> Result<(), Fault> {
    rustix::process::chdir(&process.cwd).at(Step::Cwd, 0)
}

/// The kernel gives `(unreachable)…` or ENOENT for a folder outside the root (CVE-2024-21626).
pub fn check_cwd() -> Result<(), Fault> {
    let mut room = [0u8; 4096];
    // SAFETY: the kernel writes at most `room.len()` bytes there.
    let done = unsafe { libc::syscall(libc::SYS_getcwd, room.as_mut_ptr(), room.len()) };
    match (done, room.first()) {
        (1.., Some(b'/')) => Ok(()),
        // Longer than the buffer is not outside.
        _ if done < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ERANGE) => Ok(()),
        _ => Err(Fault::new(Step::CwdOutside, 0, libc::ENOENT)),
    }
}

/// Chooses among the candidates, so that `create` finds what `start` would: the first that may be executed. `outside`: a successor
/// will be in the pid namespace that /proc shows, we are not, and see no /proc/self.
pub fn look_up(process: &ProcessPlan, outside: bool) -> Result<(), Fault> {
    let mut denied = false;
    for (index, path) in process.candidates.iter().enumerate() {
        match executable(path) {
            Ok(()) => return Ok(()),
            Err(Errno::ISDIR) if process.has_path() => {
                return Err(Fault::new(Step::LookUpFolder, index, libc::EISDIR));
            }
            Err(Errno::ACCESS | Errno::PERM) => denied = true,
            Err(Errno::NOENT) if outside && (is_own(path) || is_link(path)) => return Ok(()),
            Err(error) if process.has_path() => return Err(error).at(Step::LookUpStat, index),
            Err(_) => {}
        }
    }
    let step = if denied { Step::LookUpDenied } else { Step::LookUpMissing };
    Err(Fault::new(step, 0, if denied { libc::EACCES } else { libc::ENOENT }))
}

/// Whether a path leads to something of whoever uses it.
fn is_own(path: &CStr) -> bool {
    [&b"/proc/self/"[..], b"/proc/thread-self/", b"/dev/fd/"]
        .iter()
        .any(|start| path.to_bytes().starts_with(start))
}

/// Whether it is a symbolic link, which may lead to such a thing; execve tells of one that leads nowhere.
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
        // No answer of faccessat2(2), but of an old engine's filter that does not know it (Linux 5.8). Our ids are alike by now.
        Err(Errno::PERM) => rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()),
        other => other,
    }
}

/// Becomes the program. Like execvp(3): what one folder of PATH does not have or may not run, the next may.
pub(super) fn exec(plan: &Plan, opened: &mut Opened) -> Result<Never, Fault> {
    let Some(process) = &plan.process else {
        return Err(Fault::new(Step::Exec, 0, libc::ENOEXEC));
    };
    let mut first = None;
    for (index, path) in process.candidates.iter().enumerate() {
        // SAFETY: the strings of both lists belong to the plan (and HOME to the stack of `run`'s caller), which live on.
        let error = unsafe { process::execve(path, &opened.argv, &opened.envp) };
        let fault = Fault::of(Step::Exec, index, &error);
        match fault.errno {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => first = first.or(Some(fault)),
            _ => return Err(fault),
        }
        // A file that was found by `look_up` but cannot start (a missing interpreter) is the one to name.
        if executable(path).is_ok() {
            first = first.or(Some(fault));
        }
    }
    Err(first.unwrap_or(Fault::new(Step::Exec, 0, libc::ENOENT)))
}

/// Puts HOME into the environment, from the user's line of the container's /etc/passwd; `/` where there is none.
pub fn find_home(process: &ProcessPlan, opened: &mut Opened) -> Result<(), Fault> {
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

/// Puts LISTEN_PID into the environment: the program looks there for its own number, sd_listen_fds(3). Called again, it changes
/// the number.
pub fn name_listener(process: &ProcessPlan, opened: &mut Opened) {
    if !process.listens {
        return;
    }
    let entry = &mut opened.listen_pid;
    let first = entry.bytes().is_empty();
    entry.clear_to(b"LISTEN_PID=");
    // It has room for every number.
    let _ = entry.push_number(process::own_pid());
    if let (true, Ok(entry)) = (first, entry.as_cstr()) {
        opened.envp.push(entry);
    }
}

/// How much of a passwd file is read: an image's may be a hole of terabytes.
const MOST_PASSWD: usize = 4 << 20;

fn from_passwd(uid: u32, home: &mut PathBuffer) -> rustix::io::Result<()> {
    // The image decides what is there: never wait on a fifo.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(c"/etc/passwd", flags, Mode::empty())?;
    if path::kind(&file)? != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    read_home(file.as_fd(), uid, home)
}

/// Adds the home folder of `uid` to `home`, from a file in the form of passwd(5).
///
/// Reads line by line in a buffer on the stack; a line longer than that belongs to nobody. ENOENT: no line is the user's; EFBIG: none
/// of the first 4 MiB; ENAMETOOLONG: what is in it does not fit.
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
                // The end of a line that did not fit is not a line.
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
