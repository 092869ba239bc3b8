//! From a verified artifact to a bundle: config.json, and a root file system that shows its closure and nothing else of the store.
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

/// What a bundle is made of, when it is made of store objects.
pub struct Parts {
    /// Everything that the container shows, each behind what it refers to.
    pub objects: Vec<Object>,
    /// What is declared of it, when it is an automaton.
    pub document: Option<Document>,
    /// Its digests, when it is an automaton.
    pub digests: Option<Digests>,
    /// A signature of the automaton, as its manifest has it.
    pub signature: Option<String>,
    /// What it is started with.
    pub bound: Option<Bound>,
}

/// How the root file system comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rootfs {
    /// What is in the store is bound, read-only.
    Bind,
    /// What is in the store lies below a layer that can be written to.
    Overlay,
    /// A copy of its own.
    Copy,
}

/// The network of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// One of its own, with nothing but `lo`.
    Private,
    /// The host's.
    Host,
    /// The network namespace of this file.
    At(PathBuf),
}

/// What the caller wants of a container.
#[derive(Clone, Debug)]
pub struct Shape {
    /// See [`Rootfs`].
    pub rootfs: Rootfs,
    /// See [`Network`].
    pub network: Network,
    /// A program, by its absolute path, that connects the container when it is created.
    pub relay_hook: Option<PathBuf>,
    /// Arguments in place of those that the artifact has.
    pub args: Option<Vec<String>>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// What its constraints give it.
    pub granted: Granted,
}
