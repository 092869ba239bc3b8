//! Opens the artifact of a REF on the command line, if the policy allows it.

use std::sync::Arc;

use super::common::CommonOptions;
use super::destination::open_store;
use crate::cli::args::{ArtifactArgs, DeclaredArgs};
use crate::emergence::hash::{Algorithm, Hash};
use crate::emergence::oci::Platform;
use crate::emergence::{
    Artifact, Closure, ContentAddress, Declared, Fault, OpenOptions, Reference, Result, Signature, Store,
    StoreTarget, lost_automaton, open_artifact,
};

/// Opens the artifact of a REF with its options.
pub(super) fn opened(reference: &str, args: &ArtifactArgs, options: &CommonOptions) -> Result<Artifact> {
    opened_with(reference, args, options, &|| open_store(options))
}

/// As [`opened`], for an artifact that goes to the store `target`.
pub(super) fn opened_for(
    target: &StoreTarget,
    reference: &str,
    args: &ArtifactArgs,
    options: &CommonOptions,
) -> Result<Artifact> {
    let store = || target.existing().map_or_else(|| target.place().open(), |store| Ok(Arc::clone(store)));
    opened_with(reference, args, options, &store)
}

fn opened_with(
    reference: &str,
    args: &ArtifactArgs,
    options: &CommonOptions,
    store: &dyn Fn() -> Result<Arc<Store>>,
) -> Result<Artifact> {
    let reference = Reference::parse(reference, options.dir())?;
    let store = match &reference {
        Reference::Store(_) | Reference::Automaton(_) => Some(store()?),
        _ => None,
    };
    let platform = args.platform.platform.clone().unwrap_or_else(Platform::here);
    let declared = declaration(&args.declared, options)?;
    let said = OpenOptions { declared: &declared, platform: &platform, store: store.as_ref() };
    let artifact = open_artifact(&reference, &said, &options.terms)?;
    artifact.admit(&reference, &options.allow, &options.terms)?;
    if let Artifact::Image(image) = &artifact
        && let Some(words) = lost_automaton(image)
    {
        options.note(&format!("warning: {words}"));
    }
    Ok(artifact)
}

/// The store objects of an artifact. A usage error for a plain image, which has none.
pub(super) fn closure_of(artifact: Artifact) -> Result<Box<dyn Closure>> {
    match artifact {
        Artifact::Closure(closure) => Ok(closure),
        Artifact::Image(_) => {
            Err(Fault::usage("a plain image has no store objects; \"emergence unpack\" takes it"))
        }
    }
}

/// The declaration of a NAR from the options.
pub(super) fn declaration(args: &DeclaredArgs, options: &CommonOptions) -> Result<Declared> {
    let signature = |text: &String| {
        Signature::parse(text).ok_or_else(|| Fault::usage(format!("--sig {text}: must be NAME:BASE64")))
    };
    let hash = |hash: &String| Hash::parse(hash, Some(Algorithm::Sha256));
    Ok(Declared {
        path: args.store_path.as_ref().map(|path| options.dir().parse(path)).transpose()?,
        nar_hash: args.nar_hash.as_ref().map(hash).transpose()?,
        nar_size: args.nar_size,
        references: args.references.iter().map(|path| options.dir().parse(path)).collect::<Result<_>>()?,
        ca: args.ca.as_ref().map(|ca| ContentAddress::parse(ca)).transpose()?,
        signatures: args.signatures.iter().map(signature).collect::<Result<_>>()?,
        compression: args.compression,
        narinfo: args.narinfo.clone(),
    })
}
