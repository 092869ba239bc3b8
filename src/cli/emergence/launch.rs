//! `emergence bundle`, and what `run` shares with it: from a REF to what a bundle is made of.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::node::machine;
use super::verify::opened;
use super::{Asked, make_store};
use crate::cli::args::{BundleArgs, NetworkMode, ShapeArgs};
use crate::emergence::automaton::bind;
use crate::emergence::launch::{self, Artifact, Network, Rootfs, Shape, made_whole};
use crate::emergence::{Fault, Granted, Held, Result, Store};
use crate::error::Doing;

/// An artifact that is verified and in the store.
pub(super) struct Ready {
    pub artifact: Artifact,
    pub store: Arc<Store>,
    pub shape: Shape,
}

impl Ready {
    /// Verifies, tests constraints and unpacks, in this order; nothing is written before all is proved.
    pub(super) fn of(
        reference: &str,
        args: &ShapeArgs,
        words: &[String],
        terminal: bool,
        asked: &Asked,
    ) -> Result<Self> {
        let closure = opened(reference, &args.declared, asked)?;
        let mut artifact = Artifact {
            objects: closure.objects().to_vec(),
            document: None,
            digests: None,
            signature: None,
            bound: None,
        };
        let granted = constrained(&mut artifact, args, asked)?;
        if artifact.objects.is_empty() {
            return Err(Fault::usage("it has no store path; say it with --store-path"));
        }
        let report = closure.verify(&asked.terms)?;
        let store = make_store(asked)?;
        store.add(&*closure, &asked.terms, &report)?;
        let shape = Shape {
            rootfs: args.rootfs.map_or(Rootfs::Bind, Into::into),
            network: match (&args.netns, args.network) {
                (Some(path), _) => Network::At(path.clone()),
                (None, NetworkMode::Private) => Network::Private,
                (None, NetworkMode::Host) => Network::Host,
            },
            relay_hook: args.relay_hook.clone(),
            args: (!words.is_empty()).then(|| words.to_vec()),
            terminal,
            granted,
        };
        check_hook(shape.relay_hook.as_deref())?;
        Ok(Self { artifact, store, shape })
    }

    /// What the store must keep for it.
    pub(super) fn held(&self) -> Held {
        let mut held = Held::objects(self.artifact.objects.iter().map(|object| &object.path));
        held.layers.push(launch::view_name(&self.artifact.objects).hex());
        held
    }

    /// Makes the bundle in `folder`, which is going to be called `last`.
    pub(super) fn fill(&self, folder: &Path, last: &Path) -> Result<()> {
        launch::automaton(&self.artifact, &self.store, &self.shape, folder, last)
    }
}

/// Binds the parameters and tests the constraints: what the container is granted.
fn constrained(artifact: &mut Artifact, args: &ShapeArgs, asked: &Asked) -> Result<Granted> {
    let Some(document) = &artifact.document else {
        return match args.parameters.first() {
            Some((name, _)) => {
                Err(Fault::usage(format!("--param {name}: it is no automaton, and has no parameters")))
            }
            None => Ok(Granted::default()),
        };
    };
    artifact.bound = Some(bind(document, &args.parameters)?);
    let constraints = launch::constraints(document)?;
    if constraints.is_empty() && args.node.is_none() {
        return Ok(Granted::default());
    }
    let node = machine(args.node.as_deref(), asked)?;
    for warning in constraints.check(&node)? {
        tracing::warn!("{warning}");
    }
    Ok(constraints.granted(&node))
}

fn check_hook(hook: Option<&Path>) -> Result<()> {
    match hook {
        Some(path) if !path.is_absolute() || path.to_str().is_none() => {
            Err(Fault::usage(format!("--relay-hook {}: must be an absolute path", path.display())))
        }
        _ => Ok(()),
    }
}

pub(super) fn bundle(args: &BundleArgs, asked: &Asked) -> Result<()> {
    let last = std::path::absolute(&args.dir).doing(|| format!("find {}", args.dir.display()))?;
    let ready = Ready::of(&args.reference, &args.shape, &args.args, false, asked)?;
    made_whole(&last, |folder| ready.fill(folder, &last))?;
    let shown = args.dir.display().to_string();
    asked.answer(&shown, || json!({ "ok": true, "bundle": last.to_string_lossy() }))
}
