//! Whether the root file system is what its closure says, where an annotation or the machine's owner asks: before anything is made.

use std::path::Path;

use crate::emergence::admission::{Mounted, wanted};
use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::spec::Spec;

/// Refuses a container whose root file system is not what its annotations say.
pub(super) fn admit(spec: &Spec, plan: &Plan, bundle: &Path) -> Result<()> {
    let refused = |error: &dyn std::fmt::Display| {
        Error::new(Kind::Invalid, format!("verify the root file system: {error}"))
    };
    let Some(wanted) = wanted(&spec.annotations).map_err(|fault| refused(&fault))? else { return Ok(()) };
    let rootfs = Path::new(std::ffi::OsStr::new(plan.rootfs.path.to_str().unwrap_or_default()));
    let mounts: Vec<_> = spec.mounts.iter().map(|mount| Mounted::of(mount, bundle)).collect();
    wanted.check(rootfs, &mounts, &spec.annotations).map_err(|fault| refused(&fault))
}
