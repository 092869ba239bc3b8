//! Verifies the root file system against its closure before anything is made, if an annotation or
//! the machine's owner requests it.

use std::path::Path;

#[cfg(feature = "emergence")]
use crate::emergence::admission::{Mounted, wanted};
use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::spec::Spec;

#[cfg(feature = "emergence")]
/// Refuses a container whose root file system does not match its annotations. The first
/// `given_mounts` mounts are config.json's; the runtime's own mounts expose nothing of the host.
pub(super) fn admit(spec: &Spec, plan: &Plan, bundle: &Path, given_mounts: usize) -> Result<()> {
    let refused = |error: &dyn std::fmt::Display| {
        Error::new(Kind::Invalid, format!("verify the root file system: {error}"))
    };
    let Some(wanted) = wanted(&spec.annotations).map_err(|fault| refused(&fault))? else { return Ok(()) };
    use std::os::unix::ffi::OsStrExt as _;
    let rootfs = Path::new(std::ffi::OsStr::from_bytes(plan.rootfs.path.to_bytes()));
    let mounts: Vec<_> =
        spec.mounts.iter().take(given_mounts).map(|mount| Mounted::of(mount, bundle)).collect();
    wanted.check(rootfs, &mounts, &spec.annotations).map_err(|fault| refused(&fault))
}

/// Refuses a container whose root file system must be verified: this build cannot do it.
#[cfg(not(feature = "emergence"))]
pub(super) fn admit(spec: &Spec, _plan: &Plan, _bundle: &Path, _given_mounts: usize) -> Result<()> {
    use crate::spec::verification::{MACHINE, demanded};
    let by_machine = match std::fs::symlink_metadata(MACHINE) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        _ => Some(MACHINE.to_owned()),
    };
    match demanded(&spec.annotations).map(|name| format!("annotations[{name:?}]")).or(by_machine) {
        None => Ok(()),
        Some(what) => {
            let words = "demands it, but this program was built without the feature \"emergence\"";
            Err(Error::new(Kind::Invalid, format!("verify the root file system: {what} {words}")))
        }
    }
}

#[cfg(all(test, not(feature = "emergence")))]
mod tests {
    use crate::spec::verification::{DEMANDS, PREFIX, demanded};

    #[test]
    fn annotations_that_demand_a_verification_are_seen() {
        let annotations = |name: &str| [(format!("{PREFIX}{name}"), String::new())].into();
        for name in DEMANDS {
            assert_eq!(demanded(&annotations(name)), Some(format!("{PREFIX}{name}")));
        }
        assert_eq!(demanded(&annotations("store")), None);
    }
}
