//! Automatons: artifacts with a declaration, an entry point, ports and constraints.
//!
//! ```text
//! document     what is declared, strictly typed; fields takes JSON apart
//! parameters   what is given when it is started
//! declaration  what it was made from
//! digests      D, O, I and A; jcs is how documents are written for them
//! ```

mod declaration;
mod digests;
mod document;
mod fields;
mod jcs;
mod parameters;

pub use declaration::{Declaration, DeclarationKind, Input};
pub use digests::output_digest;
pub use document::{
    CpuMax, Document, Init, Member, Port, PortNumber, Protocol, Resources, Restart, Strategy,
};
pub use jcs::canonical;
pub use parameters::{Bound, BoundPort, Parameter, ParameterKind, Text, bind};
