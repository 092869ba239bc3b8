//! Files and folders, whatever they are for: made before they have their names, linked or copied.
//!
//! ```text
//! staging    what is made beside its place, and renamed when it is whole
//! again      trees linked or copied
//! crew       threads that make files
//! overlay    folders one over another
//! space      whether there is room for what is to be written
//! ```

mod again;
mod crew;
mod overlay;
mod space;
mod staging;

pub use again::{TIMES, again, set_time};
pub use crew::{Crew, SMALL, Task, with_crew};
pub use overlay::{overlay_apart, overlay_folders, overlay_on, overlay_shows, overlay_takes, overlay_works};
pub use space::{check_space, reserve};
pub use staging::{
    Staging, made_whole, open_folder, random_name, remove_stale, remove_stale_beside, rename_new, vacant,
};
