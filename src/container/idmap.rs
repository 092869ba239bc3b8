//! Maps of user namespaces: written for the container, and made for idmapped mounts. Runtime side.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use crate::error::{Doing, Error, Kind, Result};
use crate::plan::ids::{IdMaps, lines};
use crate::plan::namespaces::MapsBy;
use crate::spec::IdMapping;
use crate::sys::process::{self, Cloned};

/// Writes both maps of the user namespace of process `pid`.
pub fn write(pid: i32, maps: &IdMaps, by: MapsBy) -> Result<()> {
    match by {
        MapsBy::Us => {
            put(pid, "gid_map", &lines(&maps.gid), "linux.gidMappings")?;
            put(pid, "uid_map", &lines(&maps.uid), "linux.uidMappings")
        }
        MapsBy::SelfOnly => {
            // The kernel's price for a map without privilege, user_namespaces(7).
            put(pid, "setgroups", "deny", "linux.gidMappings")?;
            put(pid, "gid_map", &lines(&maps.gid), "linux.gidMappings")?;
            put(pid, "uid_map", &lines(&maps.uid), "linux.uidMappings")
        }
        MapsBy::Helpers => {
            help(pid, "newgidmap", &maps.gid, "linux.gidMappings")?;
            help(pid, "newuidmap", &maps.uid, "linux.uidMappings")
        }
    }
}

fn put(pid: i32, file: &str, text: &str, field: &str) -> Result<()> {
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
                "{field}: {program} is not installed (package uidmap); without it an ordinary user may map only its own id"
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

/// A user namespace with these maps and nobody in it, for an idmapped mount, mount_setattr(2).
pub fn namespace(maps: &IdMaps) -> Result<OwnedFd> {
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).doing(|| "make a pipe")?;
    // SAFETY: no memory is shared; the new process only reads a pipe before _exit.
    match unsafe { process::clone3(libc::CLONE_NEWUSER as u64, None) }
        .doing(|| "make a user namespace for an idmapped mount")?
    {
        Cloned::Child => {
            // Lives only until the runtime has opened its namespace, or is gone. Its own copy of the other end must go first.
            drop(writer);
            let _ = rustix::io::read(&reader, &mut [0u8; 1]);
            process::exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => {
            let made = write(pid, maps, MapsBy::Us).and_then(|()| of_process(pid));
            drop(writer);
            let waited = process::wait(pidfd.as_fd());
            let made = made?;
            waited.doing(|| "wait for the maker of a user namespace")?;
            Ok(made)
        }
    }
}

/// The user namespace of a process.
pub fn of_process(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/user");
    let file: io::Result<fs::File> = fs::File::open(&path);
    file.map(OwnedFd::from).doing(|| format!("open {path}"))
}
