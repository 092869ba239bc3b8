//! emergence-runc: an OCI container runtime for Linux, as a library; the program of the same name
//! is ten lines on top of it.
//!
//! One data flow, one type per stage: `Spec` (the configuration as parsed) → `Plan` (the steps) →
//! `Opened` (the open descriptors) → a process. docs/architecture.md draws the modules;
//! `tests/rooms/main.rs` has the table of permitted dependencies.

pub mod cgroup;
pub mod checkpoint;
pub mod cli;
pub mod container;
#[cfg(feature = "emergence")]
pub mod emergence;
pub mod error;
pub mod init;
pub mod net;
pub mod plan;
pub mod rootfs;
pub mod security;
pub mod spec;
pub mod supervisor;
pub mod sys;
