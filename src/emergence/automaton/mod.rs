//! Automatons: artifacts with a declaration, an entry point, ports and constraints.
//!
//! ```text
//! document     what is declared, strictly typed; fields takes JSON apart
//! parameters   what is given when it is started
//! declaration  what it was made from; recipe holds it against the derivation, where that is
//! digests      D, O, I and A; jcs is how documents are written for them
//! layer        store objects as the layer of an image
//! carried      how an automaton is written into a layout, and must be
//! carrier      an automaton in a layout, opened, proved and unpacked: layers by layers, objects by check
//! entry        entry points, followed to a file
//! forms        both forms of one automaton, in one index
//! pack         an automaton made of a document (spec) and objects (sources); machine tells what it runs on
//! sign         a signature, put to what is in a layout
//! stored       an automaton in a store
//! ```

mod carried;
mod carrier;
mod check;
mod declaration;
mod digests;
mod document;
mod entry;
mod fields;
mod forms;
mod jcs;
mod layer;
mod layers;
mod machine;
mod pack;
mod parameters;
mod recipe;
mod sign;
mod sources;
mod spec;
mod stored;

pub use carried::{ARTIFACT_TYPE, CONFIG_MEMBER};
pub use carrier::{Automaton, is_automaton};
pub use declaration::{Declaration, DeclarationKind, Input};
pub use digests::output_digest;
pub use document::{
    CpuMax, Document, Init, Member, Port, PortNumber, Protocol, Resources, Restart, Strategy,
};
pub use jcs::canonical;
pub use layer::{LayerReader, LayerWriter, ObjectWriter};
pub use pack::{Form, Packed, Packing, pack};
pub use parameters::{Bound, BoundPort, Parameter, ParameterKind, Text, bind};
pub use recipe::{Recipes, check_recipe};
pub use sign::sign;
pub use sources::Tree;
pub use stored::StoredAutomaton;
pub(super) use stored::keep;
