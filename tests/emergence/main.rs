//! `emergence` against the answers that Nix gave: `vectors/` says how each was made.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod asked;
mod automatons;
mod caches;
mod codes;
mod documents;
mod drvs;
mod ended;
mod forms;
mod hashes;
mod help;
mod images;
mod kept_images;
mod layers;
mod layouts;
mod library;
mod links;
mod nars;
mod nix;
mod paths;
mod policies;
mod recipes;
mod reuse;
mod room;
mod stacks;
mod store_layers;
mod stores;
mod support;
