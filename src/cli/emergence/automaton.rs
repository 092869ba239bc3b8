//! `emergence pack`, `sign`, `same`, and `inspect` for artifacts with store objects.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use super::common::{CommonOptions, missing, open};
use super::destination::{existing_store, open_store};
use super::key::secret;
use super::opened::opened;
use crate::cli::args::{ArtifactArgs, PackArgs, SameArgs, SignArgs};
use crate::emergence::automaton::{self, Packing, Recipes, Tree};
use crate::emergence::oci::LayoutTarget;
use crate::emergence::{
    Artifact, Cache, Closure, Declared, Demand, Digests, Fault, Name, Reference, Result, StorePath, Terms,
    Trust, Within, json as strict, open_closure, read_document,
};

pub(super) fn pack(args: PackArgs, options: &CommonOptions) -> Result<()> {
    let subject = args.spec.display().to_string();
    let spec = strict::parse(&read_document(open(&args.spec)?, &subject)?, &subject)?;
    let beside = args.spec.parent().filter(|directory| !directory.as_os_str().is_empty());
    let (target, tag) = target(&args.output)?;
    let key = args.sign.as_deref().map(secret).transpose()?;
    let packing = Packing {
        spec,
        directory: beside.unwrap_or(Path::new(".")),
        trees: args.trees.iter().map(|text| tree(text)).collect::<Result<_>>()?,
        closures: closures(&args, options)?,
        recipes: recipes(&args.from, options)?,
        form: args.form.into(),
        compression: args.compress.into(),
        key: key.as_ref(),
        pin: args.pin,
    };
    let packed = automaton::pack(packing, target, tag.as_deref(), &options.terms)?;
    options.answer(&packed.digest.to_string(), || {
        let mut answer = shown(&packed.digests);
        if let Some(members) = answer.as_object_mut() {
            members.insert("ok".to_owned(), json!(true));
            members.insert("digest".to_owned(), json!(packed.digest.to_string()));
        }
        answer
    })
}

/// Parses `oci:DIRECTORY[:TAG]` or `oci-archive:FILE[:TAG]`.
fn target(text: &str) -> Result<(LayoutTarget, Option<String>)> {
    let wrong =
        || Fault::usage(format!("--output {text}: must be oci:DIRECTORY[:TAG] or oci-archive:FILE[:TAG]"));
    let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    // The syntax of the image specification, so that the tag can be used in a REF.
    let plain = |tag: &str| {
        let middle = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+".contains(&byte);
        !tag.is_empty() && tag.len() <= 128 && tag.bytes().all(middle)
    };
    if path.is_empty() || tag.is_some_and(|tag| !plain(tag)) {
        return Err(wrong());
    }
    let target = match kind {
        "oci" => LayoutTarget::Directory(path.into()),
        "oci-archive" => LayoutTarget::Archive(path.into()),
        _ => return Err(wrong()),
    };
    Ok((target, tag.map(str::to_owned)))
}

fn tree(text: &str) -> Result<Tree> {
    let (name, path) = text
        .split_once('=')
        .filter(|(_, path)| !path.is_empty())
        .ok_or_else(|| Fault::usage(format!("--tree {text}: must be NAME=PATH")))?;
    let path = PathBuf::from(path);
    std::fs::symlink_metadata(&path).map_err(|error| missing(&path, error))?;
    Ok(Tree { name: Name::new(name)?, path })
}

fn closures(args: &PackArgs, options: &CommonOptions) -> Result<Vec<Box<dyn Closure>>> {
    if args.paths.is_empty() {
        return Ok(Vec::new());
    }
    let store = match args.from.as_str() {
        "store:" => Some(open_store(options)?),
        _ => None,
    };
    let one = |text: &String| {
        let path = if text.starts_with('/') { options.dir().parse(text)? } else { StorePath::parse(text)? };
        let reference = match args.from.strip_prefix("cache:") {
            Some(_) => Reference::parse(&format!("{}#{path}", args.from), options.dir())?,
            None if store.is_some() => Reference::Store(path),
            None => {
                return Err(Fault::usage(format!("--from {}: must be cache:DIRECTORY or store:", args.from)));
            }
        };
        open_closure(&reference, &Declared::default(), store.as_ref(), &options.terms).within(|| text)
    };
    args.paths.iter().map(one).collect()
}

/// Additional sources for the derivation of the packed automaton.
fn recipes(from: &str, options: &CommonOptions) -> Result<Recipes> {
    match from.strip_prefix("cache:") {
        Some(directory) => {
            let directory = directory.strip_prefix("file://").unwrap_or(directory);
            Ok(Recipes::Cache(Arc::new(Cache::open(
                Path::new(directory),
                options.dir(),
                &options.terms.limits,
            )?)))
        }
        None => Ok(existing_store(options)?.map_or(Recipes::Nowhere, Recipes::Store)),
    }
}

pub(super) fn sign(args: &SignArgs, options: &CommonOptions) -> Result<()> {
    let key = secret(&args.key)?;
    let image = match Reference::parse(&args.reference, options.dir())? {
        Reference::Oci(image) | Reference::OciArchive(image) if image.digest.is_none() => image,
        _ => {
            return Err(Fault::usage("only oci:DIRECTORY[:TAG] and oci-archive:FILE[:TAG] can be signed"));
        }
    };
    // The signer states its own trust, so no proof is needed.
    let trust = Trust { demand: Demand::None, ..options.terms.trust.clone() };
    let terms = Terms { trust, ..options.terms.clone() };
    let (signature, digest) = automaton::sign(&image.path, image.tag.as_deref(), &key, &terms)?;
    options.answer(
        &signature.to_string(),
        || json!({ "ok": true, "signature": signature.to_string(), "digest": digest.to_string() }),
    )
}

pub(super) fn compare(args: &SameArgs, options: &CommonOptions) -> Result<ExitCode> {
    let (one, other) = (digests(&args.one, options)?, digests(&args.other, options)?);
    let parts = [
        ("declaration", one.declaration == other.declaration),
        ("output", one.output == other.output),
        ("interface", one.interface == other.interface),
        ("automaton", one.automaton == other.automaton),
    ];
    let line = |(name, same): &(&str, bool)| format!("{name} {}", if *same { "same" } else { "differs" });
    let lines: Vec<String> = parts.iter().map(line).collect();
    options.answer(&lines.join("\n"), || {
        let agree: serde_json::Map<String, Value> =
            parts.iter().map(|(name, same)| ((*name).to_owned(), json!(same))).collect();
        json!({ "ok": one.output == other.output, "same": agree, "one": shown(&one), "other": shown(&other) })
    })?;
    Ok(if one.output == other.output { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The digests of an automaton, computed from its content. Whether its paths are proved is not
/// checked.
fn digests(reference: &str, options: &CommonOptions) -> Result<Digests> {
    let trust = Trust { demand: Demand::None, expect: None, ..options.terms.trust.clone() };
    let terms = Terms { trust, ..options.terms.clone() };
    let opened = opened(reference, &ArtifactArgs::default(), options)?;
    let digests = match opened {
        Artifact::Closure(closure) => closure.verify(&terms).within(|| reference)?.digests,
        Artifact::Image(_) => None,
    };
    digests.ok_or_else(|| Fault::usage(format!("{reference}: is not an automaton")))
}

fn shown(digests: &Digests) -> Value {
    json!({
        "automaton": digests.automaton.to_string(),
        "declaration": digests.declaration.map(|hash| hash.to_string()),
        "output": digests.output.to_string(),
        "interface": digests.interface.to_string(),
    })
}
