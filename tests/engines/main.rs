//! Container engines live their containers' lives on this runtime, and on crun as the control: what
//! fails on crun too is the test's fault, or the machine's.
//!
//! They run as root in the test machine only (`hack/vm/test`), which has the engines, systemd and
//! every cgroup controller; elsewhere each test says so and passes. Each test is named for what it
//! is about, and twice there: `::crun` and `::ours`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

#[cfg(feature = "emergence")]
mod automata;
mod containerd;
mod docker;
mod podman;
mod readme;
mod rootless;
