//! `emergence bundle`, and what `run` shares with it: from a REF to what a bundle is made of.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::asked::Asked;
use super::destination::{for_store, make_store};
use super::image::keep;
use super::opened::{met, opened};
use crate::cli::args::{BundleArgs, NetworkMode, ShapeArgs};
use crate::emergence::ImageForm;
use crate::emergence::automaton::bind;
use crate::emergence::launch::{self, Network, Parts, Rootfs, Shape, mount_overlay};
use crate::emergence::oci::{Image, Verified};
use crate::emergence::{
    Artifact, Closure, Fault, Granted, Held, Result, Store, StorePath, import, made_whole,
};
use crate::error::Doing;

/// An artifact of which everything is proved, and what the container will be.
pub(super) struct Ready {
    cargo: Cargo,
    shape: Shape,
    /// Where its objects or layers are.
    pub store: Arc<Store>,
}

/// What the root file system is made of.
enum Cargo {
    Parts(Box<Parts>),
    /// And its one tree in the store.
    Bound(Box<Image>, PathBuf),
    /// And its layers in the store, the lowest first.
    Stacked(Box<Image>, Vec<PathBuf>),
    /// Unpacked into the bundle, and not kept.
    Copied(Box<Verified>),
}

/// What the caller wants to do with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A bundle that stays.
    Bundle,
    /// A container, whose bundle goes with it; in a mount namespace of its own or not.
    Run { private: bool, terminal: bool },
}

impl Ready {
    /// Tests constraints, verifies and unpacks, in this order; nothing is written before all is proved.
    pub(super) fn of(
        reference: &str,
        args: &ShapeArgs,
        words: &[String],
        purpose: Purpose,
        asked: &Asked,
    ) -> Result<Self> {
        let asked = &for_store(asked)?;
        let artifact = opened(reference, &args.artifact, asked)?;
        let mut shape = shape(args, words, purpose)?;
        let (cargo, store) = match artifact {
            Artifact::Closure(closure) => closed(&*closure, args, &mut shape, asked)?,
            Artifact::Image(image) => plain(*image, args, &mut shape, purpose, asked)?,
        };
        Ok(Self { cargo, shape, store })
    }

    /// What the store must keep for it.
    pub(super) fn held(&self) -> Held {
        match &self.cargo {
            Cargo::Parts(parts) => {
                let mut held = Held::objects(parts.objects.iter().map(|object| &object.path));
                held.layers.push(launch::view_name(&parts.objects));
                held
            }
            Cargo::Bound(_, tree) => layers(std::slice::from_ref(tree)),
            Cargo::Stacked(_, folders) => layers(folders),
            Cargo::Copied(_) => Held::default(),
        }
    }

    /// Makes the bundle in the new folder `folder`, which is going to be called `last`.
    pub(super) fn fill(&self, folder: &Path, last: &Path, asked: &Asked) -> Result<()> {
        std::fs::create_dir(folder).doing(|| format!("make {}", folder.display()))?;
        let own = folder.join("rootfs");
        let (image, root) = match &self.cargo {
            Cargo::Parts(parts) => return launch::automaton(parts, &self.store, &self.shape, folder, last),
            Cargo::Copied(verified) => {
                verified.unpack(&asked.terms, &own)?;
                (verified.image(), own)
            }
            Cargo::Bound(image, tree) => (&**image, tree.clone()),
            Cargo::Stacked(image, layers) => {
                mount_overlay(layers, folder, &own)?;
                (&**image, own)
            }
        };
        launch::image(image.config(), &self.shape, folder, &root)
    }
}

fn layers(folders: &[PathBuf]) -> Held {
    Held::layers(folders.iter().filter_map(|folder| Some(folder.file_name()?.to_str()?.to_owned())))
}

fn shape(args: &ShapeArgs, words: &[String], purpose: Purpose) -> Result<Shape> {
    let hook = args.relay_hook.as_deref();
    if let Some(path) = hook.filter(|path| !path.is_absolute() || path.to_str().is_none()) {
        return Err(Fault::usage(format!("--relay-hook {}: must be an absolute path", path.display())));
    }
    Ok(Shape {
        rootfs: args.rootfs.map_or(Rootfs::Bind, Into::into),
        network: match (&args.netns, args.network) {
            (Some(path), _) => Network::At(path.clone()),
            (None, NetworkMode::Private) => Network::Private,
            (None, NetworkMode::Host) => Network::Host,
        },
        relay_hook: args.relay_hook.clone(),
        args: (!words.is_empty()).then(|| words.to_vec()),
        terminal: matches!(purpose, Purpose::Run { terminal: true, .. }),
        granted: Granted::default(),
    })
}

/// Objects of the store.
fn closed(
    closure: &dyn Closure,
    args: &ShapeArgs,
    shape: &mut Shape,
    asked: &Asked,
) -> Result<(Cargo, Arc<Store>)> {
    let objects = closure.objects().to_vec();
    let signature = closure.signature().map(str::to_owned);
    let mut parts =
        Parts { objects, document: closure.document().cloned(), digests: None, signature, bound: None };
    shape.granted = constrained(&mut parts, args, asked)?;
    if parts.objects.is_empty() {
        return Err(Fault::usage("it has no store path; say it with --store-path"));
    }
    launch::startable(&parts, shape)?;
    // What the store has was proved when it came there.
    if let Some(report) = closure.recall(&asked.terms)?.filter(|_| !asked.terms.scan) {
        parts.digests = report.digests;
        return Ok((Cargo::Parts(Box::new(parts)), make_store(asked)?));
    }
    let report = closure.verify(&asked.terms)?;
    parts.digests = report.digests;
    let store = make_store(asked)?;
    import(&store, closure, &asked.terms, &report)?;
    // What it refers to may have been in the store, and not where it came from.
    if let Some(root) = closure.objects().last() {
        let paths: Vec<StorePath> = parts.objects.iter().map(|object| object.path.clone()).collect();
        parts.objects = store.closure_of(&paths)?.into_iter().map(|meta| meta.object).collect();
        parts.objects.sort_by_key(|object| object.path == root.path);
    }
    Ok((Cargo::Parts(Box::new(parts)), store))
}

/// An image, which has no constraints and no parameters.
fn plain(
    image: Image,
    args: &ShapeArgs,
    shape: &mut Shape,
    purpose: Purpose,
    asked: &Asked,
) -> Result<(Cargo, Arc<Store>)> {
    no_parameters(args)?;
    let private = matches!(purpose, Purpose::Run { private: true, .. });
    shape.rootfs = match args.rootfs {
        Some(mode) => mode.into(),
        None if private => Rootfs::Overlay,
        None => Rootfs::Copy,
    };
    if shape.rootfs == Rootfs::Overlay && !private {
        let words =
            "--rootfs overlay: an image's would be a mount that stays; use copy or bind, or run it as root";
        return Err(Fault::usage(words));
    }
    let form = match shape.rootfs {
        Rootfs::Copy => {
            let verified = image.verify(&asked.terms, args.strict)?;
            return Ok((Cargo::Copied(Box::new(verified)), make_store(asked)?));
        }
        Rootfs::Bind => Some(ImageForm::Tree),
        Rootfs::Overlay => None,
    };
    let recalled = match asked.target.as_ref().filter(|_| !args.strict) {
        Some(store) => image.recall(&asked.terms, store, form)?.map(|folders| (folders, store.clone())),
        None => None,
    };
    let (image, folders, store) = match recalled {
        Some((folders, store)) => (image, folders, store),
        None => {
            let (verified, unpacked, store) = keep(image, form, args.strict, asked)?;
            (verified.into_image(), unpacked.folders, store)
        }
    };
    let image = Box::new(image);
    let cargo = match (shape.rootfs, folders.as_slice()) {
        (Rootfs::Bind, [tree]) => Cargo::Bound(image, tree.clone()),
        _ => Cargo::Stacked(image, folders),
    };
    Ok((cargo, store))
}

fn no_parameters(args: &ShapeArgs) -> Result<()> {
    match args.parameters.first() {
        Some((name, _)) => {
            Err(Fault::usage(format!("--param {name}: it is no automaton, and has no parameters")))
        }
        None => Ok(()),
    }
}

/// Binds the parameters and tests the constraints: what the container is granted.
fn constrained(parts: &mut Parts, args: &ShapeArgs, asked: &Asked) -> Result<Granted> {
    let Some(document) = &parts.document else { return no_parameters(args).map(|()| Granted::default()) };
    parts.bound = Some(bind(document, &args.parameters)?);
    met(document, args.node.as_deref(), asked)
}

pub(super) fn bundle(args: &BundleArgs, asked: &Asked) -> Result<()> {
    let last = std::path::absolute(&args.dir).doing(|| format!("find {}", args.dir.display()))?;
    let ready = Ready::of(&args.reference, &args.shape, &args.args, Purpose::Bundle, asked)?;
    made_whole(&last, |folder| ready.fill(folder, &last, asked))?;
    let shown = args.dir.display().to_string();
    asked.answer(&shown, || json!({ "ok": true, "bundle": last.to_string_lossy() }))
}
