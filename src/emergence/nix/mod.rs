//! The formats of Nix: store paths, archives, derivations, binary caches and signatures. Decides
//! nothing about trust.
//!
//! ```text
//! store_path   names of store objects, and how they are computed
//! object       the declaration of one store object
//! nar          one file tree as one stream of bytes, and back
//! modulo       the hash of content that contains its own name
//! drv          derivations, and the paths of their outputs
//! keys         Ed25519 keys and signatures
//! narinfo      descriptions of objects in a binary cache
//! cache        a binary cache in a directory
//! scan         references found in the content of an object
//! ```

pub(crate) mod cache;
pub mod drv;
pub(crate) mod keys;
pub(crate) mod modulo;
pub mod nar;
pub(crate) mod narinfo;
pub(crate) mod object;
pub(crate) mod scan;
pub(crate) mod store_path;
