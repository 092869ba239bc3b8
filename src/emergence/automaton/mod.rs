//! Automatons: artifacts with a declaration, an entry point, ports and constraints.
//!
//! ```text
//! document     what is declared, strictly typed; fields takes JSON apart
//! parameters   what is given when it is started
//! declaration  what it was made from
//! digests      D, O, I and A; jcs is how documents are written for them
//! layer        store objects as the layer of an image
//! ```

mod declaration;
mod digests;
mod document;
mod fields;
mod jcs;
mod layer;
mod parameters;

pub use declaration::{Declaration, DeclarationKind, Input};
pub use digests::output_digest;
pub use document::{
    CpuMax, Document, Init, Member, Port, PortNumber, Protocol, Resources, Restart, Strategy,
};
pub use jcs::canonical;
pub use layer::{LayerReader, LayerWriter, ObjectWriter};
pub use parameters::{Bound, BoundPort, Parameter, ParameterKind, Text, bind};
