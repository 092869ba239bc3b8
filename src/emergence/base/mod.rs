//! Modules that do not depend on artifacts: hashes, JSON, files, byte streams, refusals.
//!
//! ```text
//! refusal          why an artifact is refused, with its code
//! hash, nix32      hashes and their text forms
//! json, jcs        JSON, read strictly and written canonically
//! strict           strict reading of this program's own small documents
//! bounded          files and documents that are read whole, up to a limit
//! limits           limits on what an artifact may make this program read or write
//! compress         compression formats
//! stream, pieces   bytes passed from one thread to another
//! files            directories and files, made under temporary names and renamed
//! work             many pieces of work, a few at a time
//! glob             patterns with * and ?
//! ```

pub(crate) mod bounded;
pub(crate) mod compress;
pub(crate) mod files;
pub(crate) mod glob;
pub mod hash;
pub(crate) mod jcs;
pub mod json;
pub(crate) mod limits;
pub(crate) mod nix32;
pub(crate) mod read_ahead;
pub(crate) mod refusal;
pub mod stream;
pub(crate) mod strict;
pub(crate) mod work;
