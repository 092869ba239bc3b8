//! Whether the root file system is what its closure says, where an annotation or the machine's owner asks: before anything is made.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::emergence::admission::{Mounted, wanted};
use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::spec::Spec;

/// Refuses a container whose root file system is not what its annotations say. The first `given_mounts` mounts are config.json's; the
/// runtime's own show nothing of the host.
pub(super) fn admit(spec: &Spec, plan: &Plan, bundle: &Path, given_mounts: usize) -> Result<()> {
    let refused = |error: &dyn std::fmt::Display| {
        Error::new(Kind::Invalid, format!("verify the root file system: {error}"))
    };
    let Some(wanted) = wanted(&spec.annotations).map_err(|fault| refused(&fault))? else { return Ok(()) };
    let rootfs = Path::new(OsStr::from_bytes(plan.rootfs.path.to_bytes()));
    let mounts: Vec<_> =
        spec.mounts.iter().take(given_mounts).map(|mount| Mounted::of(mount, bundle)).collect();
    wanted.check(rootfs, &mounts, &spec.annotations).map_err(|fault| refused(&fault))
}
