//! `emergence import`, `gc`: what comes into a store, and what goes.

use serde_json::json;

use super::verify::opened;
use super::{Asked, make_store, open_store};
use crate::cli::args::{GcArgs, ImportArgs};
use crate::emergence::{Added, Fault, Result, StorePath, Within};

pub(super) fn import(args: &ImportArgs, asked: &Asked) -> Result<()> {
    if args.artifacts.len() > 1 && args.declared.said() {
        return Err(Fault::usage("what is said of a NAR can be said of one artifact only"));
    }
    let store = make_store(asked)?;
    let mut all = Vec::new();
    for reference in &args.artifacts {
        let one = || -> Result<(StorePath, Added)> {
            let closure = opened(reference, &args.declared, asked)?;
            let root = closure.objects().last().map(|object| object.path.clone());
            let root = root.ok_or_else(|| Fault::usage("it has no store path; say it with --store-path"))?;
            let report = closure.verify(&asked.terms)?;
            Ok((root, store.add(&*closure, &asked.terms, &report)?))
        };
        all.push(one().within(|| reference)?);
    }
    let shown = |path: &StorePath| asked.dir().path(path);
    let lines: Vec<String> = all.iter().map(|(root, _)| shown(root)).collect();
    asked.answer(&lines.join("\n"), || {
        let one = |(root, added): &(StorePath, Added)| {
            json!({
                "path": shown(root),
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
