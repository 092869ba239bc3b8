//! OCI image layouts, in a folder or in a tar: their documents, and the images that they hold.
//!
//! ```text
//! documents    descriptors, indexes, manifests, configurations
//! blobs        bytes by their digest
//! layout       from a tag to a manifest
//! write        a layout, or a tag of one, written
//! tar          the members of an archive, one after another
//! ```

mod archive;
mod blobs;
mod documents;
mod layout;
mod platform;
mod tar;
mod write;

pub use blobs::{Blob, Blobs};
pub use documents::{Descriptor, Execution, ImageConfig, Index, Manifest, Platform, RootFs, media};
pub use layout::{Accept, Layout, Resolved};
pub use tar::{Extent, Input, Member, MemberKind, Members, Streamed};
pub(super) use write::HashedWriter;
pub use write::{LayoutWriter, Target};
