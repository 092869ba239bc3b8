//! A container's cgroup as a unit of systemd: a transient scope (or slice), created and stopped
//! over D-Bus.
//!
//! ```text
//! Place     which unit, and its slice              from cgroupsPath, pure
//! Property  the unit's properties                  from limits (after `fit`) and annotations, pure
//! Scope     the unit, as the record keeps it      Manager → Connection → message → Value
//! ```
//! systemd creates a scope around existing processes, so the container's process is created first
//! and waits; the scope is started with it inside, and is never empty. systemd stops a scope by
//! itself when its last process has ended.

mod annotations;
mod bus;
mod file_value;
mod fit;
mod gvariant;
mod manager;
pub mod message;
mod place;
mod properties;
mod unit;
pub mod value;

pub use annotations::{properties as annotated_properties, subgroup};
pub use properties::Property;
pub use unit::{Ended, FormerProperties, Scope};
