//! Import into a store and export from it: `emergence import`, `unpack`, `export`, `need`.

use std::path::Path;

use serde_json::{Value, json};

use super::common::{CommonOptions, open};
use super::destination::{existing_store, open_store, target};
use super::image::{import_image, unpack_image_to};
use super::key::secret;
use super::node::test_for;
use super::opened::{closure_of, declaration, opened, opened_for};
use crate::cli::args::{ExportArgs, ImportArgs, NeedArgs, UnpackArgs};
use crate::emergence::hash::{Algorithm, Hash};
use crate::emergence::{
    Added, Artifact, Bytes, Closure, Evidence, Export, Fault, Holdings, Named, NarFile, Object, Reference,
    Result, StorePath, Within, going_to, read_document, unpack_to_new_directory, vacant, verify_and_import,
};

pub(super) fn import(args: &ImportArgs, options: &CommonOptions) -> Result<()> {
    if args.artifacts.len() > 1 && args.artifact.declared.given() {
        return Err(Fault::usage("options for a single NAR can be used with one artifact only"));
    }
    let (target, _) = target(options)?;
    let mut all = Vec::new();
    for reference in &args.artifacts {
        // The previous artifact may have created the store.
        let options = &options.with_terms(target.terms(&options.terms));
        let closure = opened_for(&target, reference, &args.artifact, options).and_then(closure_of);
        let imported = closure.and_then(|closure| {
            test_for(args.node.as_deref(), &*closure, options)?;
            verify_and_import(&*closure, &options.terms, &target)
        });
        all.push(imported.within(|| reference)?);
    }
    let shown: Vec<String> = all.iter().flat_map(|(roots, _)| lines(roots, options)).collect();
    options.answer(&shown.join("\n"), || {
        let imported = all.iter().map(|(roots, added)| added_document(roots, added, options));
        json!({ "ok": true, "imported": imported.collect::<Vec<_>>() })
    })
}

fn lines(roots: &[StorePath], options: &CommonOptions) -> Vec<String> {
    roots.iter().map(|path| options.dir().path(path)).collect()
}

fn added_document(roots: &[StorePath], added: &Added, options: &CommonOptions) -> Value {
    json!({
        "path": roots.last().map(|path| options.dir().path(path)),
        "paths": lines(roots, options),
        "new": lines(&added.new, options),
        "reused": lines(&added.reused, options),
        "bytes": { "read": added.bytes.read, "unpacked": added.bytes.unpacked },
    })
}

pub(super) fn unpack(args: &UnpackArgs, options: &CommonOptions) -> Result<()> {
    args.to.as_deref().map_or(Ok(()), vacant)?;
    let Some(to) = &args.to else { return unpack_into_store(args, options) };
    let options = &options.with_terms(going_to(&options.terms, to, None));
    let bytes = match opened(&args.reference, &args.artifact, options)? {
        Artifact::Image(image) => return unpack_image_to(*image, to, args.strict, options),
        Artifact::Closure(closure) => {
            test_for(args.node.as_deref(), &*closure, options)?;
            unpack_to_directory(&*closure, to, args, options)?
        }
    };
    let shown = to.display().to_string();
    options.answer(
        &shown,
        || json!({ "to": shown, "bytes": { "read": bytes.read, "unpacked": bytes.unpacked } }),
    )
}

fn unpack_into_store(args: &UnpackArgs, options: &CommonOptions) -> Result<()> {
    let (target, options) = &target(options)?;
    let closure = match opened_for(target, &args.reference, &args.artifact, options)? {
        Artifact::Image(image) => return import_image(*image, target, args.strict, options),
        Artifact::Closure(closure) => closure,
    };
    test_for(args.node.as_deref(), &*closure, options)?;
    let (roots, added) = verify_and_import(&*closure, &options.terms, target)?;
    if !options.json && !added.reused.is_empty() {
        let all = added.new.len() + added.reused.len();
        options.note(&format!("reused {} of {all} objects", added.reused.len()));
    }
    options.answer(&lines(&roots, options).join("\n"), || added_document(&roots, &added, options))
}

/// Unpacks into a new directory.
fn unpack_to_directory(
    closure: &dyn Closure,
    to: &Path,
    args: &UnpackArgs,
    options: &CommonOptions,
) -> Result<Bytes> {
    // A single NAR is one tree, with or without a store path.
    if let Reference::Nar(path) = Reference::parse(&args.reference, options.dir())? {
        let nar = NarFile::open(&path, &declaration(&args.artifact.declared, options)?, &options.terms)?;
        let report = nar.verify(&options.terms)?;
        nar.restore(to, &options.terms)?;
        return Ok(report.bytes);
    }
    let report = closure.verify(&options.terms)?;
    unpack_to_new_directory(closure, &options.terms, &report, to)
}

pub(super) fn need(args: &NeedArgs, options: &CommonOptions) -> Result<()> {
    let closure = match opened(&args.reference, &args.artifact, options)? {
        Artifact::Closure(closure) => closure,
        Artifact::Image(image) => {
            let needed = image.needed(existing_store(options)?.as_deref())?;
            return options.answer_lines(&needed, || json!({ "needed": needed }));
        }
    };
    let store = existing_store(options)?;
    let lacking = |object: &Object| {
        let twin = store.as_ref().map(|store| store.twin(object, Evidence::None)).transpose()?;
        Ok(twin.flatten().is_none())
    };
    let needed = closure.pieces(&lacking)?;
    options.answer_lines(&needed, || json!({ "needed": needed }))
}

pub(super) fn export(args: &ExportArgs, options: &CommonOptions) -> Result<()> {
    let to = args.to.strip_prefix("cache:").unwrap_or(&args.to);
    let to = to.strip_prefix("file://").unwrap_or(to);
    if to.is_empty() || args.to.starts_with("oci") {
        return Err(Fault::usage(format!("--to {}: must be cache:DIRECTORY", args.to)));
    }
    let key = args.sign.as_ref().map(|file| secret(file)).transpose()?;
    let only = args.only_from.as_ref().map(|file| named(file)).transpose()?;
    let store = open_store(options)?;
    let objects = if args.objects.is_empty() {
        store.objects()?
    } else {
        args.objects.iter().map(|path| options.dir().parse(path)).collect::<Result<Vec<_>>>()?
    };
    let how = Export {
        to: Path::new(to),
        compression: args.compress.into(),
        key: key.as_ref(),
        only: only.as_ref(),
    };
    let exported = store.export(&objects, &how, &options.terms)?;
    let new = lines(&exported.new, options);
    options.answer_lines(
        &new,
        || json!({ "new": new, "reused": lines(&exported.reused, options), "bytes": exported.bytes }),
    )
}

/// Parses a file of object names: base name, path, the name of a narinfo, or the digest of a blob
/// that contains them.
fn named(file: &Path) -> Result<Named> {
    let subject = file.display().to_string();
    let text = read_document(open(file)?, &subject)?;
    let text = String::from_utf8(text).map_err(|_| Fault::usage(format!("{subject}: is not text")))?;
    let mut found = Named::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with("sha256:") {
            let blob = Hash::parse(line, Some(Algorithm::Sha256)).within(|| subject.clone())?;
            found.blobs.insert(blob);
            continue;
        }
        let base = line.rsplit('/').next().unwrap_or(line);
        let object = match base.strip_suffix(".narinfo") {
            Some(digits) => StorePath::parse(&format!("{digits}-x")),
            None => StorePath::parse(base),
        };
        found.digits.insert(object.within(|| subject.clone())?.digits());
    }
    Ok(found)
}
