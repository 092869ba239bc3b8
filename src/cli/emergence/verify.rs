//! `emergence verify`.

use serde_json::json;

use super::common::CommonOptions;
use super::destination::existing_store;
use super::documents::document;
use super::node::machine;
use super::opened::opened;
use crate::cli::args::VerifyArgs;
use crate::emergence::automaton::{DeclarationKind, Document, Recipes, check_recipe};
use crate::emergence::launch::test_constraints;
use crate::emergence::{Artifact, Result};

pub(super) fn verify(args: &VerifyArgs, options: &CommonOptions) -> Result<()> {
    match opened(&args.reference, &args.artifact, options)? {
        Artifact::Closure(closure) => {
            if let Some(automaton) = closure.document() {
                let machine = machine(args.node.as_deref(), options)?;
                test_constraints(automaton, &machine, &|line| options.note(line))?;
            }
            let report = closure.verify(&options.terms)?;
            let recipe = closure.document().map(|document| recipe(document, options)).transpose()?.flatten();
            options.answer(&format!("ok {}", report.digest), || {
                let mut answer = document(&report, options);
                if let Some(members) = answer.as_object_mut() {
                    members.insert("recipe".to_owned(), json!(recipe));
                }
                answer
            })
        }
        Artifact::Image(image) => {
            let report = image.verify(&options.terms, args.strict)?.report;
            options.answer(&format!("ok {}", report.digest), || document(&report, options))
        }
    }
}

/// `"computed"` if the digests of the derivation were computed from it, `"declared"` if they are
/// only declared. `None`: there is no derivation.
fn recipe(document: &Document, options: &CommonOptions) -> Result<Option<&'static str>> {
    let declaration = document.declaration.as_ref();
    let Some(declaration) = declaration.filter(|one| one.kind == DeclarationKind::NixDerivation) else {
        return Ok(None);
    };
    let is_carried = declaration.store_path.as_ref().is_some_and(|path| document.object(path).is_some());
    let recipes = existing_store(options)?.map_or(Recipes::Nowhere, Recipes::Store);
    let computed = check_recipe(document, &recipes, &options.terms)? || is_carried;
    Ok(Some(if computed { "computed" } else { "declared" }))
}
