//! The declared derivation of an automaton, compared with the document where it is available.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::emergence::base::bounded::{LONGEST, open_file, read_document};
use crate::emergence::base::hash::Hash;
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::emergence::format::declaration::{Declaration, DeclarationKind};
use crate::emergence::format::document::Document;
use crate::emergence::nix::cache::Cache;
use crate::emergence::nix::drv::{self, Derivation};
use crate::emergence::nix::nar::Visitor;
use crate::emergence::nix::store_path::{Name, StoreDir, StorePath};
use crate::emergence::proof::terms::Terms;
use crate::emergence::proof::verify::read_object;
use crate::emergence::store::Store;

/// Maximum number of an automaton's own derivations that are read, each at the cost of reading its
/// layer. Build inputs are not meant to be included.
const MOST_LOOKS: u32 = 100;

/// Returns the bytes of the derivation at a path. `None`: it is not available.
pub(crate) type Load<'a> = dyn FnMut(&StorePath) -> Result<Option<Vec<u8>>> + 'a;

/// Where derivations are looked up before their own paths.
#[derive(Clone, Default)]
pub enum Recipes {
    /// No other place.
    #[default]
    Nowhere,
    /// In a store.
    Store(Arc<Store>),
    /// In a binary cache.
    Cache(Arc<Cache>),
}

impl Recipes {
    /// The bytes of the derivation at `path`. `None`: it does not exist.
    pub(crate) fn bytes(&self, path: &StorePath, terms: &Terms) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Store(store) if store.meta(path)?.is_some() => return file(&store.tree(path)),
            Self::Cache(cache) => {
                if let Some(info) = cache.info(&path.digits())?.filter(|info| info.object.path == *path) {
                    let place = cache.file(&info.stored.name);
                    let Some(nar) = open_file(&place)? else { return Ok(None) };
                    let mut text = OneFile::default();
                    let limits = &terms.limits;
                    let read = read_object(Box::new(nar), &info.object, &info.stored, limits, &mut text);
                    return read.within(|| place.display().to_string()).map(|_| Some(text.bytes));
                }
            }
            _ => {}
        }
        file(Path::new(&terms.dir.path(path)))
    }
}

/// The bytes of a document. `None`: it does not exist.
pub(crate) fn file(path: &Path) -> Result<Option<Vec<u8>>> {
    open_file(path)?.map(|file| read_document(file, &path.display().to_string())).transpose()
}

/// Collects the bytes of an object that is a single file.
#[derive(Default)]
pub(super) struct OneFile {
    pub bytes: Vec<u8>,
}

impl Visitor for OneFile {
    fn directory(&mut self, _name: &[u8]) -> Result<()> {
        Err(Fault::refused(Code::DrvSyntax, "", "is a directory, not a derivation"))
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        if (self.bytes.len() + bytes.len()) as u64 > LONGEST {
            return Err(Fault::refused(Code::LimitDocument, "", format!("has more than {LONGEST} bytes")));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// The properties of a derivation.
pub(crate) struct Recipe {
    /// Digest of its bytes: D.
    pub digest: Hash,
    /// Its outputs, and their paths if they are known before the build.
    outputs: BTreeMap<String, Option<StorePath>>,
    /// Its hash modulo fixed inputs, if all its dependencies are available. The inner `None`: it
    /// has no such hash.
    pub equivalence: Option<Option<Hash>>,
}

impl Recipe {
    /// Reads the derivation `bytes` and its dependencies. `path`: its own path, if known, which is
    /// checked.
    ///
    /// Refused: `declaration.mismatch`, and as by [`drv::parse`] and [`drv::check`]. Unavailable
    /// dependencies are no error.
    pub(crate) fn read(
        bytes: &[u8],
        path: Option<&StorePath>,
        dir: &StoreDir,
        load: &mut Load<'_>,
    ) -> Result<Self> {
        let recipe = drv::parse(bytes, dir)?;
        if let Some(path) = path {
            let own = recipe.path(dir, path.name().clone())?;
            differs("the derivation's path", &dir.path(path), &dir.path(&own))?;
        }
        let digest = Hash::sha256(bytes);
        let stated = recipe.outputs.iter().map(|(name, output)| (name.clone(), output.path().cloned()));
        let stated = Self { digest, outputs: stated.collect(), equivalence: None };
        let Some(name) = name(path, &recipe) else { return Ok(stated) };
        let checked = drv::check(recipe, name, dir, |path| match load(path)? {
            Some(bytes) => drv::parse(&bytes, dir).within(|| dir.path(path)),
            None => Err(Fault::refused(Code::DrvInputMissing, dir.path(path), "is not here")),
        });
        match checked {
            Ok(checked) => Ok(Self {
                outputs: checked.outputs,
                equivalence: Some(checked.modulo.hash().copied()),
                ..stated
            }),
            Err(fault) if fault.code() == Some(Code::DrvInputMissing) => Ok(stated),
            Err(fault) => Err(fault),
        }
    }

    /// Refused with `declaration.mismatch` if the document declares another derivation, or has
    /// outputs that this one does not build.
    pub(crate) fn check(&self, declaration: &Declaration, document: &Document, dir: &StoreDir) -> Result<()> {
        declaration.must_be(&self.digest)?;
        if let (Some(declared), Some(found)) = (&declaration.equivalence, &self.equivalence) {
            let found = found.map_or_else(|| "none".to_owned(), |hash| hash.to_string());
            differs("the equivalence", &declared.to_string(), &found)?;
        }
        for (name, path) in &document.outputs {
            let what = format!("the path of the output {name}");
            match self.outputs.get(name) {
                None => differs(&what, &dir.path(path), "none")?,
                Some(Some(found)) => differs(&what, &dir.path(path), &dir.path(found))?,
                // The path is not known before the build.
                Some(None) => {}
            }
        }
        Ok(())
    }
}

fn differs(what: &str, declared: &str, found: &str) -> Result<()> {
    if declared == found {
        Ok(())
    } else {
        Err(Fault::differs(Code::DeclarationMismatch, "declaration", what, declared, found))
    }
}

/// The name of the object that it builds.
fn name(path: Option<&StorePath>, recipe: &Derivation) -> Option<Name> {
    let from_env = || std::str::from_utf8(recipe.env.get(b"name".as_slice())?).ok();
    Name::new(path.and_then(|path| path.name().as_str().strip_suffix(".drv")).or_else(from_env)?).ok()
}

/// Compares an automaton with its derivation. Returns whether the derivation was available.
///
/// Refused with `declaration.mismatch`, and as by [`Recipe::read`].
pub(crate) fn check(document: &Document, dir: &StoreDir, load: &mut Load<'_>) -> Result<bool> {
    let declared = document.declaration.as_ref();
    let declared = declared.filter(|declaration| declaration.kind == DeclarationKind::NixDerivation);
    let Some((declaration, path)) = declared.and_then(|one| Some((one, one.store_path.as_ref()?))) else {
        return Ok(false);
    };
    let Some(bytes) = load(path)? else { return Ok(false) };
    let recipe = Recipe::read(&bytes, Some(path), dir, load).within(|| dir.path(path))?;
    recipe.check(declaration, document, dir).map(|()| true)
}

/// As [`check`], for derivations in the automaton itself; `look` reads the object at a path.
pub(super) fn check_carried(
    document: &Document,
    dir: &StoreDir,
    look: &mut dyn FnMut(&StorePath, &mut OneFile) -> Result<()>,
) -> Result<()> {
    let mut left = MOST_LOOKS;
    let load = &mut |path: &StorePath| {
        if left == 0 || document.object(path).is_none() {
            return Ok(None);
        }
        left -= 1;
        let mut text = OneFile::default();
        look(path, &mut text).map(|()| Some(text.bytes))
    };
    check(document, dir, load).map(drop)
}

/// As `check`, for derivations outside the automaton.
pub fn check_recipe(document: &Document, recipes: &Recipes, terms: &Terms) -> Result<bool> {
    check(document, &terms.dir, &mut |path| recipes.bytes(path, terms))
}
