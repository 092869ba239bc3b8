//! The seccomp compiler against libseccomp, and its filters against the kernel.
//!
//! Needs Debian's python3-seccomp; without it a test says so and passes, unless
//! `EMERGENCE_TEST_NO_SKIP` is set.

// All of this is test code, also helpers that clippy does not recognize as such.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod differential;
mod machine;
mod many;
mod meaning;
mod newer;
mod paths;
mod process;
mod profiles;
mod quarrels;
mod reference;
mod tables;
