//! The content of a store, and its roots: `emergence ls`, `info`, `check`, `gc`, `root`.

use std::io::IsTerminal;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::common::CommonOptions;
use super::destination::open_store;
use super::documents::{error_document, fault_document, with};
use super::opened::{closure_of, opened};
use crate::cli::args::{ArtifactArgs, CheckStoreArgs, GcArgs, InfoArgs, RootAction};
use crate::cli::log;
use crate::emergence::{Artifact, Closure, Code, Fault, GcRoot, Held, Meta, Result, StorePath, Within};
use crate::error::{Error, Kind};

pub(super) fn ls(options: &CommonOptions) -> Result<()> {
    let store = open_store(options)?;
    let mut metas = Vec::new();
    for object in store.objects()? {
        metas.extend(store.meta(&object)?);
    }
    let paths: Vec<String> = metas.iter().map(|meta| options.dir().path(&meta.object.path)).collect();
    if options.json || !std::io::stdout().is_terminal() {
        let object = |meta: &Meta| {
            json!({
                "path": options.dir().path(&meta.object.path),
                "narSize": meta.object.nar_size,
                "proof": meta.proof.word(),
            })
        };
        return options
            .answer_lines(&paths, || json!({ "objects": metas.iter().map(object).collect::<Vec<_>>() }));
    }
    let line = |(path, meta): (&String, &Meta)| {
        format!("{:>12}  {:<9}  {path}", meta.object.nar_size, meta.proof.word())
    };
    let lines: Vec<String> = paths.iter().zip(&metas).map(line).collect();
    options.answer_lines(&lines, || Value::Null)
}

pub(super) fn info(args: &InfoArgs, options: &CommonOptions) -> Result<()> {
    let path = options.dir().parse(&args.object)?;
    let store = open_store(options)?;
    let absent = || Fault::from(Error::new(Kind::NotFound, format!("{}: is not in the store", args.object)));
    let meta = store.meta(&path)?.ok_or_else(absent)?;
    let document = document(&meta, &store.tree(&path).display().to_string(), options);
    let mut lines = Vec::new();
    for (key, value) in document.as_object().into_iter().flatten() {
        let value = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Array(list) => {
                lines
                    .extend(list.iter().map(|one| format!("{key:<12} {}", one.as_str().unwrap_or_default())));
                continue;
            }
            other => other.to_string(),
        };
        lines.push(format!("{key:<12} {value}"));
    }
    // Unless a terminal reads it, the output is JSON.
    if std::io::stdout().is_terminal() {
        options.answer_lines(&lines, || document.clone())
    } else {
        options.answer(&document.to_string(), || document.clone())
    }
}

fn document(meta: &Meta, tree: &str, options: &CommonOptions) -> Value {
    let object = &meta.object;
    let shown = |path: &StorePath| options.dir().path(path);
    json!({
        "path": shown(&object.path),
        "tree": tree,
        "narHash": object.nar_hash.to_string(),
        "narSize": object.nar_size,
        "content": meta.content.to_string(),
        "references": object.references.iter().map(shown).collect::<Vec<_>>(),
        "deriver": object.deriver.as_ref().map(shown),
        "signatures": object.signatures.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "ca": object.ca.as_ref().map(ToString::to_string),
        "proof": meta.proof.word(),
        "signedBy": meta.proof.signer(),
    })
}

/// Opens an artifact without further options.
fn closure(reference: &str, options: &CommonOptions) -> Result<Box<dyn Closure>> {
    opened(reference, &ArtifactArgs::default(), options).and_then(closure_of).within(|| reference)
}

/// Prints every remaining fault. If there are any, the exit status is that of a fault.
pub(super) fn check(args: &CheckStoreArgs, options: &CommonOptions) -> Result<ExitCode> {
    let store = open_store(options)?;
    let mut checked = store.check(&options.terms)?;
    let mut repaired = Vec::new();
    if let Some(reference) = args.repair.as_ref().filter(|_| !checked.faults.is_empty()) {
        let corrupt: Vec<StorePath> = checked.faults.iter().map(|(path, _)| path.clone()).collect();
        let closure = closure(reference, options)?;
        let report = closure.verify(&options.terms).within(|| reference)?;
        repaired = store.repair(&corrupt, &*closure, &options.terms, &report).within(|| reference)?.new;
        checked = store.check(&options.terms)?;
    }
    let path = |path: &StorePath| options.dir().path(path);
    let repaired: Vec<String> = repaired.iter().map(path).collect();
    let answer = json!({ "ok": checked.faults.is_empty(), "objects": checked.objects, "repaired": repaired });
    if checked.faults.is_empty() {
        options.answer_lines(&repaired, || answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let words = format!("{} of {} objects are corrupt", checked.faults.len(), checked.objects);
    let directory = store.directory().display().to_string();
    let fault = Fault::refused(Code::StoreCorrupt, directory, words).within("emergence check");
    let lines: Vec<String> = checked.faults.iter().map(|(_, fault)| fault.to_string()).collect();
    options.answer_lines(&lines, || {
        let one = |(object, fault): &(StorePath, Fault)| {
            with(fault_document(fault), json!({ "path": path(object) }))
        };
        let faults: Vec<Value> = checked.faults.iter().map(one).collect();
        with(with(answer, json!({ "faults": faults })), error_document(&fault))
    })?;
    log::bare_last_words(&Error::new(Kind::Invalid, fault.to_string()));
    Ok(ExitCode::from(fault.status()))
}

pub(super) fn gc(args: &GcArgs, options: &CommonOptions) -> Result<()> {
    let collected = open_store(options)?.collect(args.keep_for, args.dry_run)?;
    options.answer(&collected.bytes.to_string(), || {
        json!({
            "dryRun": args.dry_run,
            "objects": collected.objects.iter().map(|path| options.dir().path(path)).collect::<Vec<_>>(),
            "layers": collected.layers,
            "bytes": collected.bytes,
        })
    })
}

pub(super) fn root(action: &RootAction, options: &CommonOptions) -> Result<()> {
    let store = open_store(options)?;
    match action {
        RootAction::Add { name, reference } => {
            let artifact = opened(reference, &ArtifactArgs::default(), options).within(|| reference)?;
            let held = match artifact {
                Artifact::Closure(closure) => tops(&*closure),
                Artifact::Image(image) => Held::layers(image.kept(&store)?),
            };
            store.add_root(name, &GcRoot { reference: reference.clone(), held })?;
            options.answer_lines(&[], || json!({ "ok": true }))
        }
        RootAction::Rm { name } => {
            store.remove_root(name)?;
            options.answer_lines(&[], || json!({ "ok": true }))
        }
        RootAction::Ls => {
            let roots = store.roots()?;
            let lines: Vec<String> =
                roots.iter().map(|(name, root)| format!("{name} {}", root.reference)).collect();
            options.answer_lines(&lines, || {
                let one = |(name, root): &(String, GcRoot)| {
                    json!({ "name": name, "reference": root.reference, "objects": root.held.objects, "layers": root.held.layers })
                };
                json!({ "roots": roots.iter().map(one).collect::<Vec<_>>() })
            })
        }
    }
}

/// The objects that keep a closure: those to which no other object of it refers.
fn tops(closure: &dyn Closure) -> Held {
    let objects = closure.objects();
    let below =
        |path: &StorePath| objects.iter().any(|one| one.path != *path && one.references.contains(path));
    let mut tops: Vec<&StorePath> = objects.iter().map(|one| &one.path).filter(|path| !below(path)).collect();
    tops.extend(objects.last().map(|object| &object.path).filter(|path| below(path)));
    Held::objects(tops)
}
