//! Content-addressed artifacts: what names them, and the proof that they are what their names say. Never starts anything.
//!
//! ```text
//! hash, nix32        hashes and how they are written
//! store_path         names of store objects, and what they follow from
//! nar                one file tree as one stream of bytes, and back
//! keys, trust        signatures, and what proves a path
//! object             what is declared of an object
//! narinfo, cache     binary caches of Nix in a folder
//! compress           what files are compressed with
//! closure            objects and all that they refer to, verified and unpacked, whatever carries them
//! artifact           whatever a REF names, opened
//! scan               references that stand in the content of an object
//! store              objects that were imported, on disk
//! terms              what the caller asks of every artifact
//! verify             an object held against its declaration
//! oci                layouts and archives of OCI images
//! reference          how an artifact is named
//! json               documents, read strictly
//! modulo             the hash of what names itself
//! drv                recipes, and the paths of what they build
//! stream             bytes from one thread to another
//! work               many pieces of work, a few at a time
//! refusal            why something is not taken
//! ```

#![forbid(unsafe_code)]

mod artifact;
mod cache;
mod closure;
mod compress;
mod document;
pub mod drv;
pub mod hash;
pub mod json;
mod keys;
mod modulo;
pub mod nar;
mod narinfo;
mod nix32;
mod object;
pub mod oci;
mod reference;
mod refusal;
mod scan;
mod store;
mod store_path;
pub mod stream;
mod terms;
mod trust;
mod verify;
mod work;

pub use artifact::{Artifact, Said, open_artifact};
pub use cache::Cache;
pub use closure::{
    Blobs, CacheClosure, Closure, Declared, Digests, Files, From, Kind, LayerReport, NarFile, Receive,
    Report, Source, StoreClosure, check_complete, open_closure,
};
pub use compress::{Compression, Compressor};
pub use document::read_document;
pub use keys::{PublicKey, SecretKey, Signature};
pub use modulo::ModuloHasher;
pub use narinfo::NarInfo;
pub use object::{Object, Stored};
pub use reference::{Image, Reference, decompressed};
pub use refusal::{Code, Fault, Refusal, Result, Within, shown};
pub use scan::{Scanner, Searched, check_found};
pub use store::{
    Added, Checked, Collected, Export, Exported, Held, Lease, Meta, Root, Store, Sync, unpack_apart,
};
pub use store_path::{
    ContentAddress, Method, Name, References, StoreDir, StorePath, USUAL_STORE, fixed_out, output_name,
};
pub use terms::{Limits, Terms, Unwatched, Watch};
pub use trust::{Demand, Proof, Trust};
pub use verify::{Bytes, Seen, read_again, read_object};
