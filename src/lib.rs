//! emergence-runc: an OCI container runtime for Linux, as a library; the program of the same name is ten lines on top of it.
//!
//! Data takes one way, one value a stage: `Spec` (what they wrote) → `Plan` (what we will do) → `Opened` (what is open) → a process.
//! docs/architecture.md draws the rooms; `tests/rooms/main.rs` holds the table of who may name whom.

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
