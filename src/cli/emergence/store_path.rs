//! `emergence store-path`.

use std::path::Path;

use serde_json::json;

use super::common::{CommonOptions, last_part};
use super::hash::of_path;
use crate::cli::args::{ReferenceArgs, StorePathKind};
use crate::emergence::hash::{Algorithm, Hash};
use crate::emergence::{ContentAddress, Fault, Method, Name, References, Result, StorePath, nar};

pub(super) fn store_path(kind: StorePathKind, options: &CommonOptions) -> Result<()> {
    let dir = options.dir();
    let path = match kind {
        StorePathKind::Source { path, name, references, itself } => {
            source(&path, name.as_deref(), references, itself, options)?
        }
        StorePathKind::Fixed { path, hash, method, algo, name } => {
            let name = named(name.as_deref(), path.as_deref())?;
            let method = method.given().unwrap_or(Method::Flat);
            let hash = match (&hash, &path) {
                (Some(hash), _) => Hash::parse(hash, algo)?,
                (None, Some(path)) => of_path(path, method, algo.unwrap_or(Algorithm::Sha256), options)?,
                (None, None) => return Err(Fault::usage("name a path or a --hash")),
            };
            ContentAddress::Fixed(method, hash).path(dir, name, &References::default())?
        }
        StorePathKind::Text { file, name, references } => {
            let hash = of_path(&file, Method::Flat, Algorithm::Sha256, options)?;
            let references = parse_references(references, false, options)?;
            ContentAddress::Text(hash).path(dir, Name::new(&name)?, &references)?
        }
        StorePathKind::Output { drv_hash, output, name } => {
            let hash = Hash::parse(&drv_hash, Some(Algorithm::Sha256))?;
            StorePath::output(dir, &hash, &output, &Name::new(&name)?)?
        }
        StorePathKind::Ca { ca, name, references, itself } => {
            let references = parse_references(references, itself, options)?;
            ContentAddress::parse(&ca)?.path(dir, Name::new(&name)?, &references)?
        }
    };
    let path = dir.path(&path);
    options.answer(&path, || json!({ "path": path }))
}

fn named(name: Option<&str>, path: Option<&Path>) -> Result<Name> {
    match (name, path) {
        (Some(name), _) => Name::new(name),
        (None, Some(path)) => Name::new(last_part(path)?),
        (None, None) => Err(Fault::usage("give a --name")),
    }
}

fn parse_references(references: ReferenceArgs, itself: bool, options: &CommonOptions) -> Result<References> {
    let others = references.references.iter().map(|path| options.dir().parse(path)).collect::<Result<_>>()?;
    Ok(References { others, itself })
}

fn source(
    path: &Path,
    name: Option<&str>,
    references: ReferenceArgs,
    itself: bool,
    options: &CommonOptions,
) -> Result<StorePath> {
    let references = parse_references(references, itself, options)?;
    let (hash, usual) = if itself {
        let own = StorePath::parse(last_part(path)?).map_err(|_| {
            Fault::usage(format!("{}: with --self, the tree is named DIGEST-NAME", path.display()))
        })?;
        (nar::hash_modulo(path, options.terms.limits.depth, own.digits().as_bytes())?, own.name().clone())
    } else {
        // Checked before the work.
        let name = named(name, Some(path))?;
        (of_path(path, Method::Nar, Algorithm::Sha256, options)?, name)
    };
    let name = name.map_or(Ok(usual), Name::new)?;
    ContentAddress::Fixed(Method::Nar, hash).path(options.dir(), name, &references)
}
