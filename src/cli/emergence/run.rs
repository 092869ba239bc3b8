//! `emergence run`: from a REF to a container, in one process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::mount::{MountFlags, MountPropagationFlags};

use super::Asked;
use super::launch::{Purpose, Ready};
use crate::cli::args::LaunchArgs;
use crate::container::request::{Create, Run, Settings};
use crate::container::{self, ContainerId};
use crate::emergence::hash::Hash;
use crate::emergence::{Fault, Lease, Result, made_whole, remove};
use crate::error::{Doing, Error, Kind};
use crate::sys::process;

/// Runs it, and ends as its program does.
pub(super) fn run(args: &LaunchArgs, asked: &Asked, settings: &Settings) -> Result<ExitCode> {
    let id: ContainerId = args.id.parse()?;
    let is_root = rustix::process::geteuid().is_root();
    if args.detach && !is_root {
        let words = "--detach needs root; make a bundle, and give it to the command run";
        return Err(Error::new(Kind::Unsupported, words).into());
    }
    let purpose = Purpose::Run { private: is_root, terminal: args.console_socket.is_some() };
    let ready = Ready::of(&args.reference, &args.shape, &args.args, purpose, asked)?;
    let name = lease_name(settings, &id);
    let lease = ready.store.lease_for(&name, process::own_pid(), &ready.held())?;
    let place = if is_root { Place::private(ready.store.folder())? } else { Place::beside(settings, &id) };
    place.fill(&ready, asked)?;
    let request = request(args, id, place.path().to_owned());
    let mut kept = Kept { name, ready: Some(ready), lease: Some(lease) };
    let status = container::run_then(settings, &request, &mut |pid| kept.hand_over(pid));
    let released = if args.detach && status.is_ok() { kept.leave() } else { kept.release() };
    let cleaned = place.clean();
    let status = status?;
    released?;
    cleaned?;
    // As exit(3): the low eight bits are all that a parent sees.
    Ok(ExitCode::from(status.to_le_bytes()[0]))
}

fn request(args: &LaunchArgs, id: ContainerId, bundle: PathBuf) -> Run {
    let create = Create {
        id,
        bundle,
        config: None,
        console_socket: args.console_socket.clone(),
        pid_file: args.pid_file.clone(),
        pidfd_socket: args.pidfd_socket.clone(),
        no_pivot: args.no_pivot,
        no_new_keyring: args.no_new_keyring,
        preserve_fds: args.preserve_fds,
    };
    Run { create, detach: args.detach, keep: args.keep, no_subreaper: args.no_subreaper }
}

/// A container's name is one of its state folder only, and longer than a file's may be; and another run may ask for the same.
fn lease_name(settings: &Settings, id: &ContainerId) -> String {
    let place = std::path::absolute(&settings.root).unwrap_or_else(|_| settings.root.clone());
    let name = Hash::sha256(format!("{}\0{}", place.display(), id.as_ref()).as_bytes()).hex();
    format!("{name}-{}", process::own_pid())
}

/// What is kept in the store: for this process until there is a container, then for that. The store itself is free again by then.
struct Kept {
    name: String,
    ready: Option<Ready>,
    lease: Option<Lease>,
}

impl Kept {
    /// There is a container, whose program has not begun.
    fn hand_over(&mut self, pid: i32) {
        let Some(ready) = self.ready.take() else { return };
        // A process that has ended by now needs nothing.
        if let Ok(lease) = ready.store.lease_for(&self.name, pid, &ready.held())
            && let Some(own) = self.lease.replace(lease)
        {
            own.keep();
        }
    }

    fn leave(mut self) -> Result<()> {
        if let Some(lease) = self.lease.take() {
            lease.keep();
        }
        Ok(())
    }

    fn release(mut self) -> Result<()> {
        self.lease.take().map_or(Ok(()), Lease::release)
    }
}

/// Where the bundle is while it is needed.
enum Place {
    /// A file system in memory that only this process and the container see: nothing is left of it when both have ended, however they do.
    Private(PathBuf),
    /// A folder, for an ordinary user.
    Folder(PathBuf),
}

impl Place {
    /// In a mount namespace of this process, over a folder of the store that is empty for everybody else.
    fn private(store: &Path) -> Result<Self> {
        let path = store.join("bundle");
        std::fs::create_dir_all(&path).doing(|| format!("make {}", path.display()))?;
        process::unshare(libc::CLONE_NEWNS).doing(|| "make a mount namespace")?;
        // What is mounted on the host later still comes here, and so to the container; not the other way.
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", slave)
            .doing(|| "part the mounts of this process from the host's")?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let mounted = rustix::mount::mount("emergence", &path, "tmpfs", flags, c"mode=755");
        mounted.doing(|| format!("mount a file system in memory on {}", path.display()))?;
        Ok(Self::Private(path.join("bundle")))
    }

    fn beside(settings: &Settings, id: &ContainerId) -> Self {
        let mut folder = settings.root.clone().into_os_string();
        folder.push("-bundles");
        Self::Folder(PathBuf::from(folder).join(id.as_ref()))
    }

    fn path(&self) -> &Path {
        let (Self::Private(path) | Self::Folder(path)) = self;
        path
    }

    fn fill(&self, ready: &Ready, asked: &Asked) -> Result<()> {
        if let (Self::Folder(path), Some(parent)) = (self, self.path().parent()) {
            std::fs::create_dir_all(parent).doing(|| format!("make {}", parent.display()))?;
            // Left by a process that was ended, or of a container that is there, which `run` will then say.
            if path.exists() && std::fs::symlink_metadata(path).is_ok() {
                return Err(Fault::usage(format!(
                    "{}: is there already; another run has it, or was ended",
                    path.display()
                )));
            }
        }
        made_whole(self.path(), |folder| ready.fill(folder, self.path(), asked))
    }

    fn clean(&self) -> Result<()> {
        match self {
            Self::Private(_) => Ok(()),
            Self::Folder(path) => remove(path).map(drop),
        }
    }
}
