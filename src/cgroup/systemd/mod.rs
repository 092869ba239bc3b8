//! A container's cgroup as a unit of systemd: a transient scope (or slice), made and ended over D-Bus.
//!
//! ```text
//! Place     which unit, and where it lives        from cgroupsPath, pure
//! Property  what systemd should know of it        from limits (after `fit`) and annotations, pure
//! Scope     the unit, as the record keeps it      Manager → Connection → message → Value: the way of a call
//! ```
//! systemd makes a scope around processes that are there, so the container's process is made first and waits; the scope is
//! started with it inside, and it never is without. systemd ends a scope by itself when its last process has ended.

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
