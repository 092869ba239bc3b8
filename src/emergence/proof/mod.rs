//! Proofs of artifacts: the terms of a verification, the interface of closures, and the checks of
//! one object.
//!
//! ```text
//! trust      keys, pins, and the proof of each store path
//! terms      everything that the caller demands of an artifact
//! closure    the traits `Closure` and `Receive`, and the report of a verification
//! hashes     the hashes that prove one object, compared with its declaration
//! verify     one object in a file, checked against its declaration
//! check      one object out of a layer, checked against its declaration
//! progress   progress and limits, counted while bytes are read
//! policy     limits on what a command line may demand
//! ```

pub(crate) mod check;
pub(crate) mod closure;
mod hashes;
pub(crate) mod policy;
pub(crate) mod progress;
pub(crate) mod terms;
pub(crate) mod trust;
pub(crate) mod verify;
