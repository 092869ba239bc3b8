//! The config.json that `spec` writes.

use super::Spec;

/// A container that runs as it is: `sh` in a folder named rootfs.
pub fn spec() -> Spec {
    Spec::default()
}
