//! The runtime's side of a container: on disk and in the kernel, one file per family of commands.

mod binary;
mod check;
mod control;
mod conversation;
mod create;
mod destroy;
mod events;
mod exec;
mod existing;
mod facts;
mod foreground;
mod hold;
mod hooks;
mod id;
mod idmap;
mod mounts;
mod notify;
mod open;
mod pid;
mod record;
pub mod request;
mod run;
mod state;
mod update;

pub use binary::run_read_only;
pub use check::{check, support};
pub use control::{delete, kill, list, pause, processes, resume, start, state};
pub use create::create;
pub use events::events;
pub use exec::exec;
pub use id::ContainerId;
pub use mounts::{add_mounts, remove_mounts};
pub use run::run;
pub use state::{OCI_VERSION, State, Status};
pub use update::update;
