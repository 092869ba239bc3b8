//! `emergence import`, `gc`: what comes into a store, and what goes.

use serde_json::json;

use super::verify::opened;
use super::{Asked, make_store, open_store};
use crate::cli::args::{GcArgs, ImportArgs};
use crate::emergence::automaton::keep as keep_automaton;
use crate::emergence::{Added, Artifact, Closure, Fault, Result, Store, StorePath, Within};

pub(super) fn import(args: &ImportArgs, asked: &Asked) -> Result<()> {
    if args.artifacts.len() > 1 && args.declared.said() {
        return Err(Fault::usage("what is said of a NAR can be said of one artifact only"));
    }
    let store = make_store(asked)?;
    let mut all = Vec::new();
    for reference in &args.artifacts {
        let one = || -> Result<(Vec<StorePath>, Added)> {
            match opened(reference, &args.declared, &args.platform, asked)? {
                Artifact::Closure(closure) => added(&*closure, &store, asked),
                Artifact::Image(_) => {
                    Err(Fault::usage("a plain image has no store objects; \"emergence unpack\" takes it"))
                }
            }
        };
        all.push(one().within(|| reference)?);
    }
    answer(&all, asked)
}

/// Verifies a closure and takes it into the store, with its document if it is an automaton; gives its roots.
fn added(closure: &dyn Closure, store: &Store, asked: &Asked) -> Result<(Vec<StorePath>, Added)> {
    let roots: Vec<StorePath> = match closure.document() {
        Some(document) => document.outputs.values().cloned().collect(),
        None => closure.objects().last().map(|object| object.path.clone()).into_iter().collect(),
    };
    if roots.is_empty() {
        return Err(Fault::usage("it has no store path; say it with --store-path"));
    }
    let report = closure.verify(&asked.terms)?;
    let added = store.add(closure, &asked.terms, &report)?;
    if let (Some(document), Some(digests)) = (closure.document(), &report.digests) {
        keep_automaton(store, document, digests)?;
    }
    Ok((roots, added))
}

/// `emergence unpack` of a closure into the store.
pub(super) fn keep(closure: &dyn Closure, asked: &Asked) -> Result<()> {
    answer(&[added(closure, &*make_store(asked)?, asked)?], asked)
}

fn answer(all: &[(Vec<StorePath>, Added)], asked: &Asked) -> Result<()> {
    let shown = |path: &StorePath| asked.dir().path(path);
    let lines: Vec<String> = all.iter().flat_map(|(roots, _)| roots.iter().map(shown)).collect();
    asked.answer(&lines.join("\n"), || {
        let one = |(roots, added): &(Vec<StorePath>, Added)| {
            json!({
                "path": roots.last().map(shown),
                "paths": roots.iter().map(shown).collect::<Vec<_>>(),
                "new": added.new.iter().map(shown).collect::<Vec<_>>(),
                "reused": added.reused.iter().map(shown).collect::<Vec<_>>(),
                "bytes": { "read": added.bytes.read, "unpacked": added.bytes.unpacked },
            })
        };
        json!({ "ok": true, "imported": all.iter().map(one).collect::<Vec<_>>() })
    })
}

pub(super) fn gc(args: &GcArgs, asked: &Asked) -> Result<()> {
    let collected = open_store(asked)?.collect(args.keep_for, args.dry_run)?;
    asked.answer(&collected.bytes.to_string(), || {
        json!({
            "dryRun": args.dry_run,
            "objects": collected.objects.iter().map(|path| asked.dir().path(path)).collect::<Vec<_>>(),
            "layers": collected.layers,
            "bytes": collected.bytes,
        })
    })
}
