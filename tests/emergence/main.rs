//! `emergence` against the answers that Nix gave: `vectors/` says how each was made.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod asked;
mod automatons;
mod caches;
mod carried_automatons;
mod codes;
mod corrupt_automatons;
mod corrupt_stores;
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
mod left_out;
mod library;
mod links;
mod media_types;
mod nars;
mod nix;
mod one_verdict;
mod paths;
mod policies;
mod recipes;
mod reuse;
mod room;
mod shared_stores;
mod signed_automatons;
mod stacks;
mod store_layers;
mod stores;
mod support;
