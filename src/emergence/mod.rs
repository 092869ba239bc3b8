//! Content-addressed artifacts: their names, and the proof that their content matches. Never starts
//! a program.
//!
//! Each line may use the lines before it:
//!
//! ```text
//! base        hashes, JSON, files, streams, refusals
//! nix         store paths, archives, derivations, caches, signatures
//! format      documents of automata, constraints, facts of a machine
//! proof       verification terms and reports, closure traits, checks of one object
//! oci         layouts and archives of OCI images
//! store       verified objects on disk
//! artifact    the artifact that a REF names: opened, and imported into the store
//! pack        automata, created and signed
//! admission   the check of a root file system at create, for the runtime
//! launch      bundles made of verified artifacts
//! ```

#![forbid(unsafe_code)]

pub mod admission;
mod artifact;
mod base;
mod format;
pub mod launch;
mod nix;
pub mod oci;
mod pack;
mod proof;
mod store;

pub use artifact::blob_closure::{BlobClosure, BlobSource, FileReader};
pub use artifact::blob_files::Files;
pub use artifact::cache_closure::CacheClosure;
pub use artifact::import::{ImportedImage, import, verify_and_import, verify_and_import_image};
pub use artifact::nar_file::{Declared, NarFile};
pub use artifact::open::{Artifact, OpenOptions, lost_automaton, open_artifact, open_closure};
pub use artifact::reference::{ImageRef, Reference, decompressed};
pub use artifact::stack::ImageForm;
pub use artifact::store_closure::StoreClosure;
pub use base::bounded::read_document;
pub use base::compress::{Compression, Compressor, Memory};
pub use base::files::{made_whole, vacant};
pub use base::limits::Limits;
pub use base::refusal::{Code, Fault, Refusal, Result, Within, shown};
pub use base::{hash, json, stream};
pub use format::constraint::{Constraints, Granted};
pub use format::digests::Digests;
pub use format::node::{Gpu, Node};
pub use nix::cache::Cache;
pub use nix::keys::{PublicKey, SecretKey, Signature};
pub use nix::modulo::ModuloHasher;
pub use nix::narinfo::NarInfo;
pub use nix::object::{Object, Stored};
pub use nix::scan::{Scanner, Searched, check_found};
pub use nix::store_path::{
    ContentAddress, Method, Name, References, StoreDir, StorePath, USUAL_STORE, fixed_out, output_name,
};
pub use nix::{drv, nar};
pub use proof::closure::{ArtifactKind, Closure, LayerReport, Receive, Report, check_complete};
pub use proof::policy::{Allow, Policy, Provable};
pub use proof::terms::{Destination, Evidence, Holdings, Terms, Twin, Unwatched, Watch};
pub use proof::trust::{Demand, Proof, Trust};
pub use proof::verify::{Bytes, Seen, read_object, read_verified};
pub use store::{
    Added, Checked, Collected, Export, Exported, GcRoot, Held, Lease, Meta, Named, Store, StoreLocation,
    StoreTarget, Sync, going_to, unpack_to_new_directory,
};

/// Automata: documents, digests, parameters, layers, packing and signing.
pub mod automaton {
    pub use super::artifact::automaton::carried::{ARTIFACT_TYPE, CONFIG_MEMBER};
    pub use super::artifact::automaton::carrier::{Automaton, is_automaton};
    pub use super::artifact::automaton::layer::{LayerReader, LayerWriter, ObjectWriter};
    pub use super::artifact::automaton::recipe::{Recipes, check_recipe};
    pub use super::artifact::automaton::stored::StoredAutomaton;
    pub use super::base::jcs::canonical;
    pub use super::format::binding::{Bound, BoundPort, bind};
    pub use super::format::declaration::{Declaration, DeclarationKind, Input};
    pub use super::format::digests::output_digest;
    pub use super::format::document::{
        CpuMax, Document, Init, Member, Port, PortNumber, Protocol, Resources, Restart, Strategy,
    };
    pub use super::format::parameters::{Parameter, ParameterKind, Text};
    pub use super::pack::sign::sign;
    pub use super::pack::sources::Tree;
    pub use super::pack::write::{Form, Packed, Packing, pack};
}
