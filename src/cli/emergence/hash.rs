//! `emergence hash`.

use std::path::Path;

use serde_json::json;

use super::common::{CommonOptions, missing, open};
use crate::cli::args::HashArgs;
use crate::emergence::hash::{Algorithm, Hash};
use crate::emergence::{Fault, Method, Result, nar, stream};
use crate::error::Doing;

pub(super) fn hash(args: &HashArgs, options: &CommonOptions) -> Result<()> {
    let hash = match (&args.convert, &args.path) {
        (Some(text), _) => Hash::parse(text, args.algo)?,
        (None, Some(path)) => {
            let method = match args.method.given() {
                Some(Method::Nar) if path == Path::new("-") => {
                    return Err(Fault::usage("standard input has no NAR; leave --nar out"));
                }
                Some(method) => method,
                None if path == Path::new("-") => Method::Flat,
                None => Method::Nar,
            };
            of_path(path, method, args.algo.unwrap_or(Algorithm::Sha256), options)?
        }
        (None, None) => return Err(Fault::usage("name a path")),
    };
    let written = hash.written(args.format.into());
    options.answer(&written, || json!({ "hash": written }))
}

/// The hash of the file or tree at `path`.
pub(super) fn of_path(
    path: &Path,
    method: Method,
    algorithm: Algorithm,
    options: &CommonOptions,
) -> Result<Hash> {
    match method {
        Method::Nar => {
            std::fs::symlink_metadata(path).map_err(|error| missing(path, error))?;
            Ok(nar::hash_tree(path, options.terms.limits.depth, algorithm)?.0)
        }
        Method::Flat => {
            let file = open(path)?;
            let hashed = stream::hash_file(file, algorithm).doing(|| format!("read {}", path.display()))?;
            Ok(hashed.0)
        }
    }
}
