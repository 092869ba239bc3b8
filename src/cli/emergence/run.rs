//! `emergence run`: from a REF to a running container, in one process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::mount::{MountFlags, MountPropagationFlags};

use super::common::CommonOptions;
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

/// Runs the container, and exits with the status of its program.
pub(super) fn run(args: &LaunchArgs, options: &CommonOptions, settings: &Settings) -> Result<ExitCode> {
    let id: ContainerId = args.id.parse()?;
    let is_root = rustix::process::geteuid().is_root();
    let purpose = Purpose::Run { private: is_root, terminal: args.passed.console_socket.is_some() };
    let prepared = prepared(&args.reference, &args.shape, &args.args, purpose, options)?;
    let name = lease_name(settings, &id);
    let lease = prepared.store().lease_for(&name, process::own_pid(), &prepared.contents_to_keep())?;
    let bundle =
        if is_root { private(prepared.store().directory())? } else { prepared.store().bundle_for(&name)? };
    let mut kept = Kept { name, prepared: Some(prepared), lease: Some(lease) };
    let status = kept.fill(&bundle, &options.terms).and_then(|()| {
        let create = args.passed.create(id, bundle.clone(), None);
        // As root, only we see the bundle, and it ends with us. Otherwise it is deleted with the
        // container; before the container has its state directory, only we know of it.
        let request = args.stay.run(Create { bundle_goes: !is_root, ..create });
        Ok(container::run_then(settings, &request, &mut |pid| kept.hand_over(pid))?)
    });
    // If the container exists, `delete` removes the bundle.
    let stays = is_root || status.is_ok() && (args.stay.detach || args.stay.keep);
    let cleaned =
        if stays { Ok(0) } else { remove(&bundle).doing(|| format!("remove {}", bundle.display())) };
    // Released last: without the lease, gc may delete the bundle.
    let released = if args.stay.detach && status.is_ok() { kept.leave() } else { kept.release() };
    let status = status?;
    cleaned?;
    released?;
    // As for exit(3): only the low eight bits reach the parent.
    Ok(ExitCode::from(status.to_le_bytes()[0]))
}

/// A container's ID is unique only in its state directory and may be longer than a file name, and
/// another run may use the same ID.
fn lease_name(settings: &Settings, id: &ContainerId) -> String {
    let place = std::path::absolute(&settings.root).unwrap_or_else(|_| settings.root.clone());
    let name = Hash::sha256(format!("{}\0{}", place.display(), id.as_ref()).as_bytes()).hex();
    format!("{name}-{}", process::own_pid())
}

/// Keeps the content in the store: for this process until the container exists, then for the
/// container. From then on the store is unlocked.
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

    /// Hands the lease over. The container exists; its program has not started.
    fn hand_over(&mut self, pid: i32) {
        let Some(prepared) = self.prepared.take() else { return };
        // If the process has ended, it needs no lease.
        if let Ok(lease) = prepared.store().lease_for(&self.name, pid, &prepared.contents_to_keep())
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

/// The place for the bundle of a root container: in memory, visible only to this process and the
/// container, and gone when both have ended. It is in a new mount namespace of this process, over a
/// directory of the store that is empty for all other processes.
fn private(store: &Path) -> Result<PathBuf> {
    let path = store.join("bundle");
    std::fs::create_dir_all(&path).doing(|| format!("create {}", path.display()))?;
    process::unshare(Namespace::Mount).doing(|| "create a mount namespace")?;
    // Later mounts of the host propagate here, and so to the container, but not back.
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave)
        .doing(|| "separate the mounts of this process from the host's")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let mounted = rustix::mount::mount("emergence", &path, "tmpfs", flags, c"mode=755");
    mounted.doing(|| format!("mount a tmpfs on {}", path.display()))?;
    Ok(path.join("bundle"))
}
