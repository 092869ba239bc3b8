//! CRIU, the program that dumps processes into images and restores processes from images, and its
//! RPC.
//!
//! One SEQPACKET socket pair, one protobuf message per packet; `criu swrk N` is started for one
//! request and ends after it:
//!
//! ```text
//! we   ── Request: kind, options ──────────────▶ criu
//!      ◀─ Response NOTIFY: script, pid (+ fd) ──       for each event that it reports;
//!      ── Request NOTIFY: notify_success ──────▶       it waits for each answer
//!      ◀─ Response of the request's kind ───────
//! ```
//!
//! Sources: criu's `images/rpc.proto`, criu.org "RPC", criu(8). Does not depend on containers.

mod criu;
mod log;
pub mod message;
mod new_root;

pub use criu::{Criu, Purpose, Version, features, version};
pub use new_root::{NewRoot, with_root};
