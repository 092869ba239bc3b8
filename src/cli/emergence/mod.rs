//! `emergence`: its subcommands, and how they report results.

mod automaton;
mod common;
mod destination;
mod documents;
mod drv;
mod hash;
mod image;
mod inspect;
mod keep;
mod key;
mod launch;
mod nar;
mod node;
mod opened;
mod progress;
mod run;
mod store;
mod store_path;
mod verify;

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use self::common::{CommonOptions, open};
use self::documents::error_document;
use self::progress::bar;
use super::args::{EmergenceArgs, Global, TermsArgs, Verb};
use super::settings::settings;
use super::{log, output};
use crate::emergence::hash::{Algorithm, Hash};
use crate::emergence::{
    Allow, Fault, Limits, Policy, PublicKey, Result, StoreDir, Terms, Trust, Unwatched, Within, read_document,
};
use crate::error::{Error, Kind};

/// The exit status of `run` if no program was run.
pub(super) const NOT_RUN: u8 = 125;

/// Runs the subcommand. Prints errors, and returns the exit status of their kind.
pub(crate) fn dispatch(args: EmergenceArgs, global: &Global) -> crate::error::Result<ExitCode> {
    let json = args.json;
    let runs = matches!(args.verb, Verb::Run(_));
    match obey(args, global) {
        Ok(status) => Ok(status),
        Err(fault) => {
            if json {
                let _ = output::print(&format!("{}\n", error_document(&fault)));
            }
            log::bare_last_words(&Error::new(Kind::Invalid, fault.to_string()));
            Ok(ExitCode::from(if runs { NOT_RUN } else { fault.status() }))
        }
    }
}

fn obey(args: EmergenceArgs, global: &Global) -> Result<ExitCode> {
    let bar = if args.json || args.no_progress { None } else { bar() };
    let (terms, allow) = terms(StoreDir::new(&args.store_dir)?, &args.terms)?;
    let mut options = CommonOptions {
        terms,
        allow,
        store: args.store,
        lock_timeout: args.lock_timeout,
        sync: args.sync.into(),
        json: args.json,
        bar: bar.clone(),
    };
    if let Some(bar) = bar {
        options.terms.watch = bar;
    }
    match args.verb {
        Verb::Hash(args) => hash::hash(&args, &options).within(|| "emergence hash"),
        Verb::Nar(args) => nar::nar(args.action, &options),
        Verb::StorePath(args) => {
            store_path::store_path(args.kind, &options).within(|| "emergence store-path")
        }
        Verb::Verify(args) => {
            verify::verify(&args, &options).within(|| format!("emergence verify {}", args.reference))
        }
        Verb::Bundle(args) => {
            launch::bundle(&args, &options).within(|| format!("emergence bundle {}", args.reference))
        }
        Verb::Run(args) => {
            let ran = settings(global).map_err(Fault::from);
            let ran = ran.and_then(|settings| run::run(&args, &options, &settings));
            return ran.within(|| format!("emergence run {}", args.reference));
        }
        Verb::Node => node::node(&options).within(|| "emergence node"),
        Verb::Inspect(args) => {
            inspect::inspect(&args, &options).within(|| format!("emergence inspect {}", args.reference))
        }
        Verb::Pack(args) => automaton::pack(*args, &options).within(|| "emergence pack"),
        Verb::Sign(args) => {
            automaton::sign(&args, &options).within(|| format!("emergence sign {}", args.reference))
        }
        Verb::Same(args) => return automaton::compare(&args, &options).within(|| "emergence same"),
        Verb::Import(args) => store::import(&args, &options).within(|| "emergence import"),
        Verb::Unpack(args) => {
            store::unpack(&args, &options).within(|| format!("emergence unpack {}", args.reference))
        }
        Verb::Export(args) => store::export(&args, &options).within(|| "emergence export"),
        Verb::Need(args) => {
            store::need(&args, &options).within(|| format!("emergence need {}", args.reference))
        }
        Verb::Ls => keep::ls(&options).within(|| "emergence ls"),
        Verb::Info(args) => keep::info(&args, &options).within(|| "emergence info"),
        Verb::Check(args) => return keep::check(&args, &options).within(|| "emergence check"),
        Verb::Gc(args) => keep::gc(&args, &options).within(|| "emergence gc"),
        Verb::Root(args) => keep::root(&args.action, &options).within(|| "emergence root"),
        Verb::Key(args) => key::key(args.action, &options).within(|| "emergence key"),
        Verb::Drv(args) => drv::drv(args.action, &options),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The terms of the command line, restricted by the policy.
fn terms(dir: StoreDir, args: &TermsArgs) -> Result<(Terms, Allow)> {
    let keys = args.trusted_keys.iter().map(|key| PublicKey::parse(key)).collect::<Result<_>>()?;
    let expect = args.expect.as_ref().map(|hash| Hash::parse(hash, Some(Algorithm::Sha256))).transpose()?;
    let policy = args.policy.as_deref().map(policy).transpose()?.unwrap_or_default();
    let demand = args.trust.map_or_else(Default::default, Into::into);
    let trust = policy.trust(Trust { demand, keys, expect }, args.trust.is_some())?;
    let limits =
        policy.limits(Limits { size: args.max_size, depth: args.max_depth.into(), ..Limits::default() });
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let terms =
        Terms { dir, trust, limits, scan: args.scan, jobs, watch: Arc::new(Unwatched), destination: None };
    Ok((terms, policy.allow()))
}

fn policy(file: &Path) -> Result<Policy> {
    let subject = file.display().to_string();
    Policy::parse(&read_document(open(file)?, &subject)?, &subject)
}
