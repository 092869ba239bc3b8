//! From a verified artifact to a bundle: config.json, and a root file system that shows only its
//! closure of the store.
//!
//! ```text
//! prepare    from an opened artifact to a bundle, step by step
//! config     config.json, from the document of an automaton or the configuration of an image
//! resources  limits and devices in it
//! user       names of users, looked up in the root file system
//! rootfs     root file systems of store objects
//! ```

mod config;
mod prepare;
mod resources;
mod rootfs;
mod user;

use std::path::PathBuf;

use crate::emergence::format::binding::Bound;
use crate::emergence::format::constraint::Granted;
use crate::emergence::format::digests::Digests;
use crate::emergence::format::document::Document;
use crate::emergence::nix::object::Object;

use config::{automaton, image};

pub use prepare::{Machine, Prepared, Request, test_constraints};

/// The parts of a bundle of store objects.
pub struct Parts {
    /// All objects that the container sees, dependencies first.
    pub objects: Vec<Object>,
    /// The document, for an automaton.
    pub document: Option<Document>,
    /// The digests, for an automaton.
    pub digests: Option<Digests>,
    /// The signature annotation of the automaton's manifest.
    pub signature: Option<String>,
    /// The bound parameters that it starts with.
    pub bound: Option<Bound>,
}

/// How the root file system is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rootfs {
    /// Bind mounts of the store, read-only.
    Bind,
    /// An overlay over the store, with a writable layer.
    Overlay,
    /// A copy.
    Copy,
}

/// The network of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// Its own, with only `lo`.
    Private,
    /// The host's.
    Host,
    /// The network namespace at this path.
    At(PathBuf),
}

/// The requested properties of a container.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How the root file system is created.
    pub rootfs: Rootfs,
    /// The network.
    pub network: Network,
    /// Absolute path of a program that connects the container when it is created.
    pub relay_hook: Option<PathBuf>,
    /// Arguments that replace those of the artifact.
    pub args: Option<Vec<String>>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Resources that its constraints grant.
    pub granted: Granted,
}
