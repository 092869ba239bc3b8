//! `emergence`: its verbs, and how they answer.

mod automaton;
mod drv;
mod hash;
mod image;
mod keep;
mod key;
mod launch;
mod nar;
mod node;
mod progress;
mod run;
mod store;
mod store_path;
mod verify;

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use self::progress::{Bar, bar};
use super::args::{EmergenceArgs, Global, TermsArgs, Verb};
use super::settings::settings;
use super::{log, output};
use crate::emergence::hash::{Algorithm, Hash};
use crate::emergence::{
    Allow, Destination, Fault, Holdings, Limits, Policy, PublicKey, Result, Store, StoreDir, Sync, Terms,
    Trust, Unwatched, Within, read_document,
};
use crate::error::{Doing, Error, Kind};

/// What `run` ends with when no program has run.
pub(super) const NOT_RUN: u8 = 125;

/// What the command line asks of every verb.
#[derive(Clone)]
pub(super) struct Asked {
    /// What it asks of every artifact.
    pub terms: Terms,
    /// What may be taken at all.
    pub allow: Allow,
    /// See `--store`.
    store: Option<PathBuf>,
    /// The store that verified artifacts go to, if it exists and is open.
    target: Option<Arc<Store>>,
    lock_timeout: Duration,
    sync: Sync,
    json: bool,
    bar: Option<Arc<Bar>>,
}

/// Does what the command line asks. A fault is told here, with the exit status of its kind.
pub fn dispatch(args: EmergenceArgs, global: &Global) -> crate::error::Result<ExitCode> {
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
    let mut asked = Asked {
        terms,
        allow,
        store: args.store,
        target: None,
        lock_timeout: args.lock_timeout,
        sync: args.sync.into(),
        json: args.json,
        bar: bar.clone(),
    };
    if let Some(bar) = bar {
        asked.terms.watch = bar;
    }
    match args.verb {
        Verb::Hash(args) => hash::hash(&args, &asked).within(|| "emergence hash"),
        Verb::Nar(args) => nar::nar(args.action, &asked),
        Verb::StorePath(args) => store_path::store_path(args.kind, &asked).within(|| "emergence store-path"),
        Verb::Verify(args) => {
            verify::verify(&args, &asked).within(|| format!("emergence verify {}", args.reference))
        }
        Verb::Bundle(args) => {
            launch::bundle(&args, &asked).within(|| format!("emergence bundle {}", args.reference))
        }
        Verb::Run(args) => {
            let ran = settings(global).map_err(Fault::from);
            let ran = ran.and_then(|settings| run::run(&args, &asked, &settings));
            return ran.within(|| format!("emergence run {}", args.reference));
        }
        Verb::Node => node::node(&asked).within(|| "emergence node"),
        Verb::Inspect(args) => {
            image::inspect(&args, &asked).within(|| format!("emergence inspect {}", args.reference))
        }
        Verb::Pack(args) => automaton::pack(*args, &asked).within(|| "emergence pack"),
        Verb::Sign(args) => {
            automaton::sign(&args, &asked).within(|| format!("emergence sign {}", args.reference))
        }
        Verb::Same(args) => return automaton::same(&args, &asked).within(|| "emergence same"),
        Verb::Import(args) => store::import(&args, &asked).within(|| "emergence import"),
        Verb::Unpack(args) => {
            store::unpack(&args, &asked).within(|| format!("emergence unpack {}", args.reference))
        }
        Verb::Export(args) => store::export(&args, &asked).within(|| "emergence export"),
        Verb::Need(args) => {
            store::need(&args, &asked).within(|| format!("emergence need {}", args.reference))
        }
        Verb::Ls => keep::ls(&asked).within(|| "emergence ls"),
        Verb::Info(args) => keep::info(&args, &asked).within(|| "emergence info"),
        Verb::Check(args) => return keep::check(&args, &asked).within(|| "emergence check"),
        Verb::Gc(args) => keep::gc(&args, &asked).within(|| "emergence gc"),
        Verb::Root(args) => keep::root(&args.action, &asked).within(|| "emergence root"),
        Verb::Key(args) => key::key(args.action, &asked).within(|| "emergence key"),
        Verb::Drv(args) => drv::drv(args.action, &asked),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The terms of the command line within those of the policy.
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

impl Asked {
    /// See `--store-dir`.
    fn dir(&self) -> &StoreDir {
        &self.terms.dir
    }

    /// Tells a person something besides the answer.
    fn note(&self, line: &str) {
        self.clear();
        eprintln!("{line}");
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.clear();
        }
    }

    /// Prints an answer: the lines, or the object when JSON was asked for.
    fn answer(&self, lines: &str, object: impl FnOnce() -> Value) -> Result<()> {
        self.clear();
        let text = if self.json { format!("{}\n", object()) } else { format!("{lines}\n") };
        Ok(output::print(&text)?)
    }
}

impl Asked {
    /// An answer that is a document, for people too: they get it indented.
    fn document(&self, document: &Value) -> Result<()> {
        self.clear();
        let text = if self.json { document.to_string() } else { format!("{document:#}") };
        Ok(output::print(&format!("{text}\n"))?)
    }

    /// The same for an answer of any number of lines.
    fn answer_lines(&self, lines: &[String], object: impl FnOnce() -> Value) -> Result<()> {
        match lines.is_empty() && !self.json {
            true => Ok(()),
            false => self.answer(&lines.join("\n"), object),
        }
    }
}

/// Where objects are kept, unless the command line says otherwise.
fn store_folder(asked: &Asked) -> Result<PathBuf> {
    if let Some(folder) = &asked.store {
        return Ok(folder.clone());
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/emergence".into());
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    let data = data.ok_or_else(|| Fault::usage("there is no home folder; give a --store"))?;
    Ok(data.join("emergence"))
}

/// The same, for what is going to be written to the store: what that has is not read again, and room is looked for there.
fn for_store(asked: &Asked) -> Result<Asked> {
    let place = store_folder(asked)?;
    let store = place.join("version").exists().then(|| open_store(asked)).transpose()?;
    Ok(going_to(asked, &place, store))
}

/// The same, for what is going to be written below a folder that may not be there yet.
fn going_to(asked: &Asked, place: &Path, store: Option<Arc<Store>>) -> Asked {
    let there = place.ancestors().find(|above| above.exists()).unwrap_or(Path::new("."));
    let mut asked = asked.clone();
    let holdings = store.clone().map(|store| store as Arc<dyn Holdings>);
    asked.terms.destination = Some(Destination { folder: there.to_owned(), holdings });
    asked.target = store;
    asked
}

/// The store, which is there already. `Kind::NotFound` otherwise.
fn open_store(asked: &Asked) -> Result<Arc<Store>> {
    let store = Store::existing(&store_folder(asked)?, asked.dir(), asked.lock_timeout)?;
    Ok(Arc::new(store.with_sync(asked.sync)))
}

/// The store, which is made when it is not there.
fn make_store(asked: &Asked) -> Result<Arc<Store>> {
    if let Some(store) = &asked.target {
        return Ok(Arc::clone(store));
    }
    let store = Store::open(&store_folder(asked)?, asked.dir(), asked.lock_timeout)?;
    Ok(Arc::new(store.with_sync(asked.sync)))
}

/// An object with the members of another, in place of those it has.
fn with(mut object: Value, other: Value) -> Value {
    if let (Some(object), Value::Object(other)) = (object.as_object_mut(), other) {
        object.extend(other);
    }
    object
}

/// `{"ok":false,"error":{…}}`.
fn error_document(fault: &Fault) -> Value {
    json!({ "ok": false, "error": fault_document(fault) })
}

/// What is told of one fault.
fn fault_document(fault: &Fault) -> Value {
    match fault {
        Fault::Refused(refusal, _) => json!({
            "code": refusal.code.text(),
            "message": fault.to_string(),
            "subject": refusal.subject,
            "expected": refusal.expected,
            "actual": refusal.actual,
        }),
        Fault::Failed(_) => json!({
            "code": null, "message": fault.to_string(), "subject": null, "expected": null, "actual": null,
        }),
    }
}

/// Opens a file that the command line names; `-` is standard input.
fn open(path: &Path) -> Result<File> {
    if path == Path::new("-") {
        let input = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned();
        return Ok(input.doing(|| "use standard input")?.into());
    }
    File::open(path).map_err(|error| missing(path, error))
}

/// What is not there is another matter than what cannot be read.
fn missing(path: &Path, error: std::io::Error) -> Fault {
    let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::System };
    Error::from(error).of_kind(kind).within(format!("open {}", path.display())).into()
}

/// The last part of a path, as the name of an object.
fn last_part(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(std::ffi::OsStr::to_str);
    name.ok_or_else(|| Fault::usage(format!("{}: give a --name", path.display())))
}
