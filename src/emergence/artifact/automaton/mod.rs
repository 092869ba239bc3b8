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

pub mod carried;
pub mod carrier;
pub mod entry;
pub mod forms;
pub mod layer;
pub mod layers;
pub mod recipe;
pub mod stored;
