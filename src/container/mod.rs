//! The runtime's side of a container: on disk and in the kernel, one file per family of commands.

pub mod foreground;
mod id;
pub mod request;

pub use id::ContainerId;

mod api_todo;
pub use api_todo::*;
