//! Opens the artifact that a REF names: one file for each type of artifact.
//!
//! ```text
//! reference       the syntax of a REF
//! open            from a REF to an artifact
//! admit           whether a policy allows it
//! blob_closure    a closure whose NARs are in blobs: the common part of the next three
//! nar_file        a NAR in a file
//! cache_closure   an object of a binary cache, with its references
//! store_closure   an object of a store, with its references
//! automaton/      an automaton in a layout, or in a store
//! stack           a plain image in a store, layer over layer
//! import          from an artifact into a store
//! ```

mod admit;
pub(crate) mod automaton;
pub(crate) mod blob_closure;
pub(crate) mod blob_files;
pub(crate) mod cache_closure;
pub(crate) mod import;
pub(crate) mod nar_file;
pub(crate) mod open;
pub(crate) mod reference;
pub(crate) mod stack;
pub(crate) mod store_closure;
