//! `emergence bundle`, and its common part with `run`: a request from the options.

use serde_json::json;

use super::common::CommonOptions;
use super::destination::target;
use super::node::machine;
use super::opened::opened_for;
use crate::cli::args::{BundleArgs, NetworkMode, ShapeArgs};
use crate::emergence::launch::{Machine, Network, Prepared, Request};
use crate::emergence::{Artifact, Result};

/// The purpose of a bundle.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A bundle to keep.
    Bundle,
    /// A bundle that is deleted with its container. `private`: it is in its own mount namespace.
    Run { private: bool, terminal: bool },
}

/// Opens the artifact of a REF, verifies it and imports it into the store. Only the result keeps
/// the store open.
pub(super) fn prepared(
    reference: &str,
    args: &ShapeArgs,
    words: &[String],
    purpose: Purpose,
    options: &CommonOptions,
) -> Result<Prepared> {
    let (target, options) = &target(options)?;
    let artifact = opened_for(target, reference, &args.artifact, options)?;
    let request = request(&artifact, args, words, purpose, options)?;
    Prepared::new(artifact, &request, &options.terms, target, &|line| options.note(line))
}

fn request(
    artifact: &Artifact,
    args: &ShapeArgs,
    words: &[String],
    purpose: Purpose,
    options: &CommonOptions,
) -> Result<Request> {
    // Only constraints of automata are tested.
    let is_automaton = matches!(artifact, Artifact::Closure(closure) if closure.document().is_some());
    let machine: Machine = machine(args.node.as_deref().filter(|_| is_automaton), options)?;
    let network = match (&args.netns, args.network) {
        (Some(path), _) => Network::At(path.clone()),
        (None, NetworkMode::Private) => Network::Private,
        (None, NetworkMode::Host) => Network::Host,
    };
    Ok(Request {
        parameters: args.parameters.clone(),
        machine,
        rootfs: args.rootfs.map(Into::into),
        strict: args.strict,
        network,
        relay_hook: args.relay_hook.clone(),
        args: (!words.is_empty()).then(|| words.to_vec()),
        terminal: matches!(purpose, Purpose::Run { terminal: true, .. }),
        private: matches!(purpose, Purpose::Run { private: true, .. }),
    })
}

pub(super) fn bundle(args: &BundleArgs, options: &CommonOptions) -> Result<()> {
    let prepared = prepared(&args.reference, &args.shape, &args.args, Purpose::Bundle, options)?;
    let made = prepared.make_bundle(&args.dir, &options.terms)?;
    let shown = args.dir.display().to_string();
    options.answer(&shown, || json!({ "ok": true, "bundle": made.to_string_lossy() }))
}
