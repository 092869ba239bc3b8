//! Files and directories for any purpose: created under temporary names, linked or copied.
//!
//! ```text
//! staging    temporary directories whose content is renamed into place once it is complete
//! copy       copies of trees, linked or copied
//! crew       threads that create files
//! overlay    overlayfs mounts
//! space      checks of free space
//! ```

mod copy;
mod crew;
mod overlay;
mod space;
mod staging;

pub(crate) use copy::{TIMES, copy_tree, set_time};
pub(crate) use crew::{Crew, SMALL, Task, with_crew};
pub(crate) use overlay::{
    overlay_directories, overlay_in_private_namespace, overlay_on, overlay_shows, overlay_takes,
    overlay_works,
};
pub(crate) use space::{check_space, reserve};
pub(crate) use staging::{
    Staging, open_directory, random_name, remove_stale, remove_stale_beside, rename_new,
};
pub use staging::{made_whole, vacant};
