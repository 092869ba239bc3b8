//! End-to-end tests: the program against the kernel, from the OCI runtime specification and the
//! documented command line.
//!
//! `EMERGENCE_RUNC_BIN=/usr/bin/crun cargo test --test main` runs them against another runtime.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

mod attacks;
#[cfg(feature = "emergence")]
mod automata;
mod bundles;
mod calls;
mod check;
mod checkpoint;
mod crash;
mod debug;
mod deletion;
mod descriptors;
mod devices;
mod events;
mod exec;
mod fields;
mod filter;
mod handover;
mod hooks;
mod hostile;
mod identity;
mod interrupted;
mod kernels;
mod killed;
mod legacy;
mod lifecycle;
mod limits;
mod listener;
mod many;
mod messages;
mod mounts;
mod namespaces;
mod options;
mod pairs;
mod pause;
mod pid_files;
mod pods;
mod process;
mod ps;
mod remount;
mod rootless;
#[cfg(not(feature = "emergence"))]
mod runtime_alone;
mod sd_notify;
mod stock;
mod systemd;
mod terminal;
mod threads;
mod update;
mod usage;
mod users;
