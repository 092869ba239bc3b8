//! CRIU, the program that writes processes into images and makes processes of images, and its RPC.
//!
//! One SEQPACKET socket pair, one protobuf message a packet; `criu swrk N` is started for one request and ends after it:
//!
//! ```text
//! we   ── Request: kind, options ──────────────▶ criu
//!      ◀─ Response NOTIFY: script, pid (+ fd) ──       as often as it has to tell something;
//!      ── Request NOTIFY: notify_success ──────▶       it waits for each answer
//!      ◀─ Response of the request's kind ───────
//! ```
//!
//! Sources: criu's `images/rpc.proto`, criu.org "RPC", criu(8). Knows nothing of containers.

mod apart;
mod criu;
mod log;
pub mod message;

pub use apart::{NewRoot, apart};
pub use criu::{Criu, Purpose, Version, features, version};
