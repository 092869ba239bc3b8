//! Content-addressed artifacts: what names them, and the proof that they are what their names say. Never starts anything.
//!
//! ```text
//! hash, nix32        hashes and how they are written
//! store_path         names of store objects, and what they follow from
//! nar                one file tree as one stream of bytes, and back
//! modulo             the hash of what names itself
//! drv                recipes, and the paths of what they build
//! stream             bytes from one thread to another
//! refusal            why something is not taken
//! ```

mod document;
pub mod drv;
pub mod hash;
mod modulo;
pub mod nar;
mod nix32;
mod refusal;
mod store_path;
pub mod stream;

pub use document::read_document;
pub use modulo::ModuloHasher;
pub use refusal::{Code, Fault, Refusal, Result, Within, shown};
pub use store_path::{
    ContentAddress, Method, Name, References, StoreDir, StorePath, USUAL_STORE, fixed_out, output_name,
};
