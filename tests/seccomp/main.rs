//! The seccomp compiler against libseccomp, and its filters against the kernel.
//!
//! Needs Debian's python3-seccomp and golang-github-containers-common; without them a test says so and passes, unless
//! `EMERGENCE_TEST_NO_SKIP` is set.

// All of this is test code, also the helpers that clippy cannot tell are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod differential;
mod machine;
mod meaning;
mod process;
mod profiles;
mod reference;
