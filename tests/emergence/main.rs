//! `emergence` against the answers that Nix gave: `vectors/` says how each was made.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod automatons;
mod caches;
mod documents;
mod drvs;
mod forms;
mod hashes;
mod help;
mod images;
mod layers;
mod layouts;
mod nars;
mod nix;
mod paths;
mod policies;
mod recipes;
mod store_layers;
mod stores;
mod support;
