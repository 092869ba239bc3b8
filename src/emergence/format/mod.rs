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

pub mod binding;
pub mod constraint;
pub mod declaration;
pub mod digests;
pub mod document;
pub mod fields;
pub mod node;
pub mod parameters;
