//! OCI image layouts, in a directory or in a tar: their documents and images.
//!
//! ```text
//! documents      descriptors, indexes, manifests, configurations
//! blobs          blobs by their digest; archive: those in a tar
//! layout         from a tag to a manifest
//! platform       which manifest is for which machine
//! image          an image, verified, and unpacked in a second reading
//! layer          one layer: read, hashed, decompressed, split into members
//! tar, entry     the members of an archive, and their meaning in a layer
//! check          checks of a layer before it is unpacked
//! acl, adorn, xattrs  owners, modes, access lists and other attributes of new files
//! apply, inside  layers applied to one tree, without leaving it
//! write          writes a layout, or a tag of one
//! ```

mod acl;
mod adorn;
mod apply;
mod archive;
mod blobs;
mod check;
mod documents;
mod entry;
mod image;
mod inherited;
mod inside;
mod layer;
mod layout;
mod platform;
mod tar;
mod write;
mod xattrs;

pub use apply::Skipped;
pub(super) use apply::Tree;
pub use blobs::{Blob, Blobs};
pub use documents::{Descriptor, Execution, ImageConfig, Index, Manifest, Platform, RootFs, media};
pub use image::{Image, Unpacked, Verified};
pub use layout::{Accept, Layout, Resolved};
pub use tar::{Extent, Input, Member, MemberKind, Members, Streamed};
pub use write::{LayoutTarget, LayoutWriter};

pub(super) use write::HashedWriter;
