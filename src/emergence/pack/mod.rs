//! Automata, created and signed.
//!
//! ```text
//! spec      the document that the caller wrote, completed
//! sources   the trees and artifacts that objects come from
//! machine   the architecture that an object's programs are built for
//! write     objects and documents into a layout
//! sign      a signature, added to an automaton in a layout
//! ```

mod machine;
pub(crate) mod sign;
pub(crate) mod sources;
pub(crate) mod spec;
pub(crate) mod write;
