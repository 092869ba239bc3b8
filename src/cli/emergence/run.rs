//! `emergence run`: from a REF to a container, in one process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::mount::{MountFlags, MountPropagationFlags};

use super::asked::Asked;
use super::launch::{Purpose, prepared};
use crate::cli::args::LaunchArgs;
use crate::container::request::{Create, Settings};
use crate::container::{self, ContainerId};
use crate::emergence::hash::Hash;
use crate::emergence::launch::Prepared;
use crate::emergence::{Lease, Result, Terms};
use crate::error::Doing;
use crate::sys::namespace::Namespace;
use crate::sys::process;
use crate::sys::remove::remove;

/// Runs it, and ends as its program does.
pub(super) fn run(args: &LaunchArgs, asked: &Asked, settings: &Settings) -> Result<ExitCode> {
    let id: ContainerId = args.id.parse()?;
    let is_root = rustix::process::geteuid().is_root();
    let purpose = Purpose::Run { private: is_root, terminal: args.passed.console_socket.is_some() };
    let prepared = prepared(&args.reference, &args.shape, &args.args, purpose, asked)?;
    let name = lease_name(settings, &id);
    let lease = prepared.store().lease_for(&name, process::own_pid(), &prepared.held())?;
    let bundle =
        if is_root { private(prepared.store().folder())? } else { prepared.store().bundle_for(&name)? };
    let mut kept = Kept { name, prepared: Some(prepared), lease: Some(lease) };
    let status = kept.fill(&bundle, &asked.terms).and_then(|()| {
        let create = args.passed.create(id, bundle.clone(), None);
        // One that only we see goes with us; and until the container has its folder, only we know of the other.
        let request = args.stay.run(Create { bundle_goes: !is_root, ..create });
        Ok(container::run_then(settings, &request, &mut |pid| kept.hand_over(pid))?)
    });
    // Of a container that is there, `delete` takes it away.
    let stays = is_root || status.is_ok() && (args.stay.detach || args.stay.keep);
    let cleaned =
        if stays { Ok(0) } else { remove(&bundle).doing(|| format!("remove {}", bundle.display())) };
    // Not before: without the lease, anybody may take the bundle away.
    let released = if args.stay.detach && status.is_ok() { kept.leave() } else { kept.release() };
    let status = status?;
    cleaned?;
    released?;
    // As exit(3): the low eight bits are all that a parent sees.
    Ok(ExitCode::from(status.to_le_bytes()[0]))
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
    prepared: Option<Prepared>,
    lease: Option<Lease>,
}

impl Kept {
    fn fill(&self, bundle: &Path, terms: &Terms) -> Result<()> {
        let Some(prepared) = &self.prepared else { return Ok(()) };
        prepared.fill(bundle, bundle, terms)
    }

    /// There is a container, whose program has not begun.
    fn hand_over(&mut self, pid: i32) {
        let Some(prepared) = self.prepared.take() else { return };
        // A process that has ended by now needs nothing.
        if let Ok(lease) = prepared.store().lease_for(&self.name, pid, &prepared.held())
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

/// Where the bundle of a container lies that root runs: in memory, seen by this process and the container alone. Nothing is left of it
/// when both have ended, however they do. In a mount namespace of this process, over a folder of the store that is empty for everybody
/// else.
fn private(store: &Path) -> Result<PathBuf> {
    let path = store.join("bundle");
    std::fs::create_dir_all(&path).doing(|| format!("make {}", path.display()))?;
    process::unshare(Namespace::Mount).doing(|| "make a mount namespace")?;
    // What is mounted on the host later still comes here, and so to the container; not the other way.
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave).doing(|| "part the mounts of this process from the host's")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let mounted = rustix::mount::mount("emergence", &path, "tmpfs", flags, c"mode=755");
    mounted.doing(|| format!("mount a file system in memory on {}", path.display()))?;
    Ok(path.join("bundle"))
}
