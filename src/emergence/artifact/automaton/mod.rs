//! Automata as artifacts.
//!
//! ```text
//! carried   the representation of an automaton in a layout
//! carrier   an automaton in a layout: opened, proved, unpacked
//! layers    its layers, several at a time
//! layer     store objects as the layer of an image
//! forms     both forms of one automaton in one index
//! entry     entry points, followed to a file
//! recipe    the derivation that a declaration names
//! stored    an automaton in a store
//! ```

pub(crate) mod carried;
pub(crate) mod carrier;
pub(crate) mod entry;
pub(crate) mod forms;
pub(crate) mod layer;
pub(crate) mod layers;
pub(crate) mod recipe;
pub(crate) mod stored;
