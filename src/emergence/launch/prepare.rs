//! From an opened artifact to a bundle, in this order: tests constraints, verifies the content,
//! imports it into the store, makes the bundle. Nothing is written before everything is verified.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::{constraints, startable};
use super::rootfs::{mount_overlay, view_name};
use super::{Network, Parts, Rootfs, Shape, automaton, image};
use crate::emergence::artifact::import::{NO_PATH, import, verify_and_import_image};
use crate::emergence::artifact::open::Artifact;
use crate::emergence::artifact::stack::ImageForm;
use crate::emergence::base::files::made_whole;
use crate::emergence::base::refusal::{Fault, Result};
use crate::emergence::format::binding::bind;
use crate::emergence::format::constraint::Granted;
use crate::emergence::format::document::Document;
use crate::emergence::format::node::Node;
use crate::emergence::nix::store_path::StorePath;
use crate::emergence::oci::{Image, Verified};
use crate::emergence::proof::closure::Closure;
use crate::emergence::proof::terms::Terms;
use crate::emergence::store::{Held, Store, StoreTarget};
use crate::error::Doing;

/// The machine that constraints are tested against.
#[derive(Clone, Debug)]
pub enum Machine {
    /// A machine with these facts.
    Described(Box<Node>),
    /// This machine, with the disk of the directory `disk`.
    Here {
        /// An existing directory, or one to be created in an existing one.
        disk: PathBuf,
    },
}

/// Tests the constraints of an automaton. Returns the resources that its container is granted on
/// that machine. `warn` gets a line for each unmet preference.
///
/// Refused with `constraint.*` if a mandatory constraint is not met.
pub fn test_constraints(document: &Document, machine: &Machine, warn: &dyn Fn(&str)) -> Result<Granted> {
    let constraints = constraints(document)?;
    let here;
    let node = match machine {
        Machine::Described(node) => &**node,
        Machine::Here { .. } if constraints.is_empty() => return Ok(Granted::default()),
        Machine::Here { disk } => {
            here = Node::here(disk)?;
            &here
        }
    };
    constraints.check(node)?.iter().for_each(|warning| warn(warning));
    Ok(constraints.granted(node))
}

/// A request for the bundle of an artifact.
#[derive(Clone, Debug)]
pub struct Request {
    /// Values of parameters, by name. Only an automaton has parameters.
    pub parameters: Vec<(String, String)>,
    /// The machine that the constraints of an automaton are tested against.
    pub machine: Machine,
    /// How the root file system is created. Default: `Bind` for store objects; for an image
    /// `Overlay` if `private`, otherwise `Copy`.
    pub rootfs: Option<Rootfs>,
    /// Whether to refuse an image that has a path twice in one layer.
    pub strict: bool,
    /// The network of the container.
    pub network: Network,
    /// Absolute path of a program that connects the container when it is created.
    pub relay_hook: Option<PathBuf>,
    /// Arguments that replace those of the artifact.
    pub args: Option<Vec<String>>,
    /// Whether the container has a terminal.
    pub terminal: bool,
    /// Whether the bundle is made in a mount namespace that ends with this process. Only there may
    /// it have an overlay of an image, which is a mount.
    pub private: bool,
}

/// A verified artifact in the store, and the form of its container: everything for making a bundle.
pub struct Prepared {
    content: Content,
    shape: Shape,
    store: Arc<Store>,
}

/// The content of a root file system.
enum Content {
    /// Objects of the store.
    Objects(Box<Parts>),
    /// An image, and its single tree in the store.
    Tree(Box<Image>, PathBuf),
    /// An image, and its layers in the store, lowest first.
    Layers(Box<Image>, Vec<PathBuf>),
    /// An image to be unpacked into the bundle, not kept in the store.
    Copy(Box<Verified>),
}

impl Prepared {
    /// Tests the constraints of `artifact`, verifies it and imports it into the store. For content
    /// that the store has, only the trust is checked. `warn` gets warnings for the user.
    ///
    /// A usage error if the request does not fit the artifact; otherwise refused as by
    /// [`test_constraints`], [`Closure::verify`], [`Image::verify`] and the import.
    pub fn new(
        artifact: Artifact,
        request: &Request,
        terms: &Terms,
        target: &StoreTarget,
        warn: &dyn Fn(&str),
    ) -> Result<Self> {
        match artifact {
            Artifact::Closure(closure) => Self::of_closure(&*closure, request, terms, target, warn),
            Artifact::Image(image) => Self::of_image(*image, request, terms, target),
        }
    }

    fn of_closure(
        closure: &dyn Closure,
        request: &Request,
        terms: &Terms,
        target: &StoreTarget,
        warn: &dyn Fn(&str),
    ) -> Result<Self> {
        let mut shape = shape(request)?;
        let mut parts = Parts {
            objects: closure.objects().to_vec(),
            document: closure.document().cloned(),
            digests: None,
            signature: closure.signature().map(str::to_owned),
            bound: None,
        };
        match &parts.document {
            Some(document) => {
                parts.bound = Some(bind(document, &request.parameters)?);
                shape.granted = test_constraints(document, &request.machine, warn)?;
            }
            None => no_parameters(request)?,
        }
        if parts.objects.is_empty() {
            return Err(Fault::usage(NO_PATH));
        }
        startable(&parts, &shape)?;
        // Objects in the store were verified at their import.
        if let Some(report) = closure.recall(terms)?.filter(|_| !terms.scan) {
            parts.digests = report.digests;
            return Ok(Self { content: Content::Objects(Box::new(parts)), shape, store: target.store()? });
        }
        let report = closure.verify(terms)?;
        parts.digests = report.digests;
        let store = target.store()?;
        import(&store, closure, terms, &report)?;
        // The closure may have references that only the store has.
        if let Some(root) = closure.objects().last() {
            let paths: Vec<StorePath> = parts.objects.iter().map(|object| object.path.clone()).collect();
            parts.objects = store.closure_of(&paths)?.into_iter().map(|meta| meta.object).collect();
            parts.objects.sort_by_key(|object| object.path == root.path);
        }
        Ok(Self { content: Content::Objects(Box::new(parts)), shape, store })
    }

    fn of_image(image: Image, request: &Request, terms: &Terms, target: &StoreTarget) -> Result<Self> {
        let shape = shape(request)?;
        no_parameters(request)?;
        let rootfs = image_rootfs(request)?;
        let shape = Shape { rootfs, ..shape };
        let form = match rootfs {
            Rootfs::Copy => {
                let content = Content::Copy(Box::new(image.verify(terms, request.strict)?));
                return Ok(Self { content, shape, store: target.store()? });
            }
            Rootfs::Bind => Some(ImageForm::Tree),
            Rootfs::Overlay => None,
        };
        let recalled = match target.existing().filter(|_| !request.strict) {
            Some(store) => {
                image.recall(terms, store, form)?.map(|directories| (directories, Arc::clone(store)))
            }
            None => None,
        };
        let (image, directories, store) = match recalled {
            Some((directories, store)) => (image, directories, store),
            None => {
                let imported = verify_and_import_image(image, form, request.strict, terms, target)?;
                (imported.verified.into_image(), imported.unpacked.directories, imported.store)
            }
        };
        let image = Box::new(image);
        let content = match (rootfs, directories.as_slice()) {
            (Rootfs::Bind, [tree]) => Content::Tree(image, tree.clone()),
            _ => Content::Layers(image, directories),
        };
        Ok(Self { content, shape, store })
    }

    /// The store with its objects or layers.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The objects and layers that the store must keep for it.
    pub fn contents_to_keep(&self) -> Held {
        match &self.content {
            Content::Objects(parts) => {
                let mut held = Held::objects(parts.objects.iter().map(|object| &object.path));
                held.layers.push(view_name(&parts.objects));
                held
            }
            Content::Tree(_, tree) => layers(std::slice::from_ref(tree)),
            Content::Layers(_, directories) => layers(directories),
            Content::Copy(_) => Held::default(),
        }
    }

    /// Makes the bundle at `dir`, which must not exist (`store.exists`). Returns its absolute path.
    /// After an error nothing is left.
    pub fn make_bundle(&self, dir: &Path, terms: &Terms) -> Result<PathBuf> {
        let last = std::path::absolute(dir).doing(|| format!("find {}", dir.display()))?;
        made_whole(&last, |directory| self.fill(directory, &last, terms))?;
        Ok(last)
    }

    /// Makes the bundle in the new directory `directory`, whose final path will be `last`. After an
    /// error a part of it may be left.
    pub fn fill(&self, directory: &Path, last: &Path, terms: &Terms) -> Result<()> {
        // An image may contain set-uid programs and files of any owner, so only its owner enters.
        let created = std::fs::DirBuilder::new().mode(0o700).create(directory);
        created.doing(|| format!("create {}", directory.display()))?;
        let own = directory.join("rootfs");
        let (unpacked, root) = match &self.content {
            Content::Objects(parts) => return automaton(parts, &self.store, &self.shape, directory, last),
            Content::Copy(verified) => {
                verified.unpack(terms, &own)?;
                (verified.image(), own)
            }
            Content::Tree(image, tree) => (&**image, tree.clone()),
            Content::Layers(image, layers) => {
                mount_overlay(layers, directory, &own)?;
                (&**image, own)
            }
        };
        image(unpacked.config(), &self.shape, directory, &root)
    }
}

fn layers(directories: &[PathBuf]) -> Held {
    Held::layers(directories.iter().filter_map(|directory| Some(directory.file_name()?.to_str()?.to_owned())))
}

/// The form of the container, before resources are granted.
fn shape(request: &Request) -> Result<Shape> {
    let hook = request.relay_hook.as_deref();
    if let Some(path) = hook.filter(|path| !path.is_absolute() || path.to_str().is_none()) {
        return Err(Fault::usage(format!("--relay-hook {}: must be an absolute path", path.display())));
    }
    Ok(Shape {
        rootfs: request.rootfs.unwrap_or(Rootfs::Bind),
        network: request.network.clone(),
        relay_hook: request.relay_hook.clone(),
        args: request.args.clone(),
        terminal: request.terminal,
        granted: Granted::default(),
    })
}

fn image_rootfs(request: &Request) -> Result<Rootfs> {
    let usual = if request.private { Rootfs::Overlay } else { Rootfs::Copy };
    match request.rootfs.unwrap_or(usual) {
        Rootfs::Overlay if !request.private => Err(Fault::usage(
            "--rootfs overlay: the overlay of an image would remain mounted; use copy or bind, or run it as root",
        )),
        rootfs => Ok(rootfs),
    }
}

/// Refuses parameters: only an automaton has them.
fn no_parameters(request: &Request) -> Result<()> {
    match request.parameters.first() {
        Some((name, _)) => {
            Err(Fault::usage(format!("--param {name}: it is not an automaton, and has no parameters")))
        }
        None => Ok(()),
    }
}
