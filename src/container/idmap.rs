//! ID maps of user namespaces: written for the container, and created for idmapped mounts. Runtime
//! side.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;

use crate::error::{Doing, Error, Kind, Result};
use crate::plan::ids::{IdMaps, lines};
use crate::plan::namespaces::MapsBy;
use crate::spec::IdMapping;
use crate::sys::namespace::{Namespace, NamespaceSet};
use crate::sys::process::{self, Cloned, Exit};

/// Writes the UID and GID maps of the user namespace of process `pid`.
pub(crate) fn write(pid: i32, maps: &IdMaps, by: MapsBy) -> Result<()> {
    match by {
        MapsBy::Us => {
            write_mapping(pid, "gid_map", &lines(&maps.gid), "linux.gidMappings")?;
            write_mapping(pid, "uid_map", &lines(&maps.uid), "linux.uidMappings")
        }
        MapsBy::SelfOnly => {
            // The kernel requires this for an unprivileged map, user_namespaces(7).
            write_mapping(pid, "setgroups", "deny", "linux.gidMappings")?;
            write_mapping(pid, "gid_map", &lines(&maps.gid), "linux.gidMappings")?;
            write_mapping(pid, "uid_map", &lines(&maps.uid), "linux.uidMappings")
        }
        MapsBy::Helpers => {
            help(pid, "newgidmap", &maps.gid, "linux.gidMappings")?;
            help(pid, "newuidmap", &maps.uid, "linux.uidMappings")
        }
    }
}

fn write_mapping(pid: i32, file: &str, text: &str, field: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    fs::write(&path, text).doing(|| format!("write {:?} to {file} ({field})", text.trim_end()))
}

fn help(pid: i32, program: &str, maps: &[IdMapping], field: &str) -> Result<()> {
    let numbers = maps.iter().flat_map(|map| [map.container_id, map.host_id, map.size]);
    let output =
        Command::new(program).arg(pid.to_string()).args(numbers.map(|number| number.to_string())).output();
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let words = format!(
                "{field}: {program} is not installed (package uidmap); without it an unprivileged user may map only its own id"
            );
            return Err(Error::new(Kind::System, words));
        }
        other => other.doing(|| format!("run {program}"))?,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(
        Kind::System,
        format!("{field}: {program}: {} (see /etc/subuid and /etc/subgid)", said.trim()),
    ))
}

/// A user namespace with these maps and no process in it, for an idmapped mount, mount_setattr(2).
pub(crate) fn namespace(maps: &IdMaps) -> Result<OwnedFd> {
    let made = with_holder(Holder::New, |pid| {
        write(pid, maps, MapsBy::Us)?;
        of_process(pid)
    });
    made.map_err(|error| error.within("create a user namespace for an idmapped mount".to_owned()))
}

/// The maps of a user namespace, with the outside IDs as seen by this process.
pub(crate) fn of_namespace(namespace: BorrowedFd<'_>) -> Result<IdMaps> {
    with_holder(Holder::Joins(namespace), |pid| {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            let text = fs::read_to_string(&path).doing(|| format!("read {path}"))?;
            parse(&text).ok_or_else(|| Error::new(Kind::System, format!("{path} is not a list of id maps")))
        };
        Ok(IdMaps { uid: read("uid_map")?, gid: read("gid_map")? })
    })
}

/// Parses lines of /proc/PID/uid_map: first ID inside, first ID outside, count.
fn parse(text: &str) -> Option<Vec<IdMapping>> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(IdMapping { container_id: next()?, host_id: next()?, size: next()? })
    };
    text.lines().map(line).collect()
}

/// The user namespace of a process that only exists to be in it.
#[derive(Clone, Copy)]
enum Holder<'a> {
    /// A new one.
    New,
    /// The namespace of a file.
    Joins(BorrowedFd<'a>),
}

/// Runs `work` with a process in another user namespace. The process ends afterwards.
fn with_holder<T>(holder: Holder<'_>, work: impl FnOnce(i32) -> Result<T>) -> Result<T> {
    let new = match holder {
        Holder::New => NamespaceSet::from(Namespace::User),
        Holder::Joins(_) => NamespaceSet::EMPTY,
    };
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).doing(|| "create a pipe");
    let ((ready, there), (ends, end)) = (pipe()?, pipe()?);
    // SAFETY: no memory is shared; the new process only enters a namespace, closes and reads pipes
    // before _exit.
    match unsafe { process::clone3(new.flags() as u64, None) }
        .doing(|| "create a process for a user namespace")?
    {
        Cloned::Child => {
            // This process's copies of the runtime's ends must be closed first.
            drop((ready, end));
            let entered = match holder {
                Holder::New => Ok(()),
                Holder::Joins(namespace) => process::setns(namespace, Namespace::User),
            };
            drop(there);
            let _ = rustix::io::read(&ends, &mut [0u8; 1]);
            process::exit_now(entered.map_or_else(|error| error.raw_os_error().unwrap_or(libc::EIO), |()| 0))
        }
        Cloned::Parent { pid, pidfd } => {
            drop((there, ends));
            let waited = rustix::io::retry_on_intr(|| rustix::io::read(&ready, &mut [0u8; 1]));
            let done = work(pid);
            drop(end);
            let ended = process::wait(pidfd.as_fd()).doing(|| "wait for the process in a user namespace")?;
            waited.doing(|| "wait for a process to enter a user namespace")?;
            match ended {
                Exit::Code(0) => done,
                Exit::Code(errno) => {
                    Err(io::Error::from_raw_os_error(errno)).doing(|| "enter a user namespace")
                }
                Exit::Signal(signal) => {
                    let words = format!("the process in a user namespace was killed by signal {signal}");
                    Err(Error::new(Kind::System, words))
                }
            }
        }
    }
}

/// The user namespace of a process.
pub(crate) fn of_process(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/user");
    let file: io::Result<fs::File> = fs::File::open(&path);
    file.map(OwnedFd::from).doing(|| format!("open {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_as_the_kernel_writes_them() {
        let text = "         0     100000      65536\n     65536          0          1\n";
        let map = |container_id, host_id, size| IdMapping { container_id, host_id, size };
        assert_eq!(parse(text), Some(vec![map(0, 100_000, 65_536), map(65_536, 0, 1)]));
        assert_eq!(parse(""), Some(Vec::new()));
        assert_eq!(parse("0 1\n"), None);
    }
}
