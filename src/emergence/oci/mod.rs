//! OCI image layouts, in a folder or in a tar: their documents, and the images that they hold.
//!
//! ```text
//! documents    descriptors, indexes, manifests, configurations
//! blobs        bytes by their digest
//! layout       from a tag to a manifest
//! platform     which manifest is for which machine
//! image        an image verified, and unpacked by a second reading
//! stack        images in a store, layer over layer
//! layer        one layer read: hashed, decompressed, taken apart
//! tar, entry   the members of an archive, and what they mean in a layer
//! check        what can be known of a layer before it is unpacked
//! apply        layers made into one tree, always inside it
//! write        a layout, or a tag of one, written
//! ```

mod apply;
mod archive;
mod blobs;
mod check;
mod documents;
mod entry;
mod image;
mod inside;
mod layer;
mod layout;
mod platform;
mod tar;
mod write;

pub use apply::Skipped;
pub(super) use apply::Tree;
pub use blobs::{Blob, Blobs};
pub use documents::{Descriptor, Execution, ImageConfig, Index, Manifest, Platform, RootFs, media};
pub use image::{Image, Unpacked, Verified};
pub use layout::{Accept, Layout, Resolved};
pub use tar::{Extent, Input, Member, MemberKind, Members, Streamed};
pub use write::{LayoutWriter, Target};

pub(super) use write::HashedWriter;
