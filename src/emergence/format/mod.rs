//! The documents of automata: the declaration of one, its parameters, its constraints, and the
//! facts of a machine.
//!
//! ```text
//! document      the document, strictly typed; fields takes JSON apart
//! parameters    declarations of values that the caller gives at the start
//! binding       the document with these values
//! declaration   how the automaton was built
//! digests       the digests D, O, I and A
//! constraint    requirements on a machine
//! node          facts of a machine
//! ```

pub(crate) mod binding;
pub(crate) mod constraint;
pub(crate) mod declaration;
pub(crate) mod digests;
pub(crate) mod document;
pub(crate) mod fields;
pub(crate) mod node;
pub(crate) mod parameters;
