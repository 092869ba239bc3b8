//! System calls as they are, without a fallback for kernels that lack them.
//!
//! [`older`](super::older) makes its fallbacks from them; [`mount`](super::mount) and
//! [`process`](super::process) call the system call or its fallback, and export the rest.

pub(super) mod clone;
pub(super) mod mount;
pub(super) mod namespaces;
pub(super) mod process;
