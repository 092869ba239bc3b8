//! The runtime's side of a container: on disk and in the kernel, one file per family of commands.

mod binary;
mod check;
mod checkpoint;
mod control;
mod conversation;
mod create;
mod destroy;
mod existing;
mod external;
mod facts;
mod foreground;
mod hold;
mod hooks;
mod id;
mod idmap;
mod images;
mod mountinfo;
mod notify;
mod open;
mod pid;
mod record;
pub mod request;
mod restore;
mod run;
mod state;

pub use crate::checkpoint::message::CgroupMode;
pub use binary::run_read_only;
pub use check::{check, support};
pub use checkpoint::{Checkpoint, checkpoint};
pub use control::{delete, kill, list, start, state};
pub use create::create;
pub use id::ContainerId;
pub use images::Images;
pub use restore::{Restore, restore};
pub use run::run;
pub use state::{OCI_VERSION, State, Status};
