//! Content-addressed artifacts: what names them, and the proof that they are what their names say. Never starts anything.
//!
//! ```text
//! hash, nix32        hashes and how they are written
//! store_path         names of store objects, and what they follow from
//! nar                one file tree as one stream of bytes, and back
//! keys, trust        signatures, and what proves a path
//! object             what is declared of an object
//! narinfo, cache     binary caches of Nix in a folder
//! automaton          documents of automatons, their digests and parameters
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
//! node, constraint   what a machine has, and what an artifact needs of it
//! glob               names with stars
//! launch             bundles of what was verified
//! admission          a root file system held against its closure, for the runtime
//! policy             bounds on what a command line may ask for
//! strict             small documents of ours
//! files              made beside their place, taken away whole
//! stream             bytes from one thread to another
//! watched            how far work has come, and how far it may
//! work               many pieces of work, a few at a time
//! refusal            why something is not taken
//! ```

#![forbid(unsafe_code)]

pub mod admission;
mod artifact;
pub mod automaton;
mod cache;
mod closure;
mod compress;
mod constraint;
mod document;
pub mod drv;
mod files;
mod glob;
pub mod hash;
pub mod json;
mod keys;
pub mod launch;
mod modulo;
pub mod nar;
mod narinfo;
mod nix32;
mod node;
mod object;
pub mod oci;
mod pieces;
mod policy;
mod reference;
mod refusal;
mod scan;
mod store;
mod store_path;
pub mod stream;
mod strict;
mod terms;
mod trust;
mod verify;
mod watched;
mod work;

pub use artifact::{Artifact, Said, lost_automaton, open_artifact};
pub use cache::Cache;
pub use closure::{
    Blobs, CacheClosure, Closure, Declared, Digests, Files, From, Kind, LayerReport, NarFile, Receive,
    Report, Source, StoreClosure, check_complete, open_closure,
};
pub use compress::{Compression, Compressor, Memory};
pub use constraint::{Constraints, Granted};
pub use document::read_document;
pub use files::{made_whole, vacant};
pub use keys::{PublicKey, SecretKey, Signature};
pub use modulo::ModuloHasher;
pub use narinfo::NarInfo;
pub use node::{Gpu, Node};
pub use object::{Object, Stored};
pub use policy::{Allow, Policy, Provable};
pub use reference::{Image, Reference, decompressed};
pub use refusal::{Code, Fault, Refusal, Result, Within, shown};
pub use scan::{Scanner, Searched, check_found};
pub use store::{
    Added, Checked, Collected, Export, Exported, Held, Lease, Meta, Named, Root, Store, Sync, unpack_apart,
};
pub use store_path::{
    ContentAddress, Method, Name, References, StoreDir, StorePath, USUAL_STORE, fixed_out, output_name,
};
pub use terms::{Destination, Limits, Terms, Unwatched, Watch};
pub use trust::{Demand, Proof, Trust};
pub use verify::{Bytes, Seen, read_again, read_object};
