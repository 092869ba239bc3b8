//! Options of `emergence`, and its verbs.

mod artifacts;
mod automaton;
mod launch;
mod names;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, Args, Command, Subcommand, ValueEnum};

use crate::cli::pages::{emergence as pages, page};
use crate::emergence::{Demand, Sync, USUAL_STORE};

pub(crate) use artifacts::{ArtifactArgs, DeclaredArgs, InspectArgs, UnpackArgs, VerifyArgs};
pub(crate) use automaton::{PackArgs, SameArgs, SignArgs};
pub(crate) use launch::{BundleArgs, LaunchArgs, NetworkMode, ShapeArgs};
pub(crate) use names::{
    DrvAction, DrvArgs, DrvFile, HashArgs, KeyAction, KeyArgs, NarAction, NarArgs, ReferenceArgs,
    StorePathArgs, StorePathKind,
};
pub(crate) use store::{
    CheckStoreArgs, ExportArgs, GcArgs, ImportArgs, InfoArgs, NeedArgs, RootAction, RootArgs,
};

// `emergence`.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, next_help_heading = EVERY, next_display_order = 500)] // after a verb's own options
pub(crate) struct EmergenceArgs {
    /// Store directory that store paths are computed for
    #[arg(long, global = true, value_name = "DIR", default_value = USUAL_STORE)]
    pub store_dir: String,
    /// Directory of the store [default: /var/lib/emergence for root, $XDG_DATA_HOME/emergence for others]
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// How long to wait for the store lock
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub lock_timeout: Duration,
    /// What is fsynced before an import is committed
    #[arg(long, global = true, value_name = "WHAT", value_enum, default_value = "data")]
    pub sync: SyncMode,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Do not show a progress bar
    #[arg(long, global = true)]
    pub no_progress: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub terms: TermsArgs,
    /// Print help
    #[arg(short, long, global = true, action = ArgAction::Help, display_order = 700)]
    pub help: Option<bool>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Heading in help of options that every verb has.
const EVERY: &str = "OPTIONS OF EVERY VERB";

/// Puts a verb's own arguments and options under the headings of the other pages.
fn headed(verb: Command) -> Command {
    let mut place = 0..;
    verb.mut_args(|arg: Arg| match (arg.get_help_heading(), arg.is_positional()) {
        (Some(_), _) => arg,
        // In the order in which they are given; clap would sort them by name.
        (None, true) => arg.help_heading("ARGUMENTS").display_order(place.next().unwrap_or_default()),
        (None, false) => arg.help_heading("OPTIONS"),
    })
}

// What `emergence` does.
#[derive(Debug, Subcommand)]
#[command(subcommand_help_heading = "VERBS", mut_subcommands = headed)]
#[allow(missing_docs)] // a comment would become the verb's line in help
pub(crate) enum Verb {
    /// hash a tree as a NAR, or the bytes of a file
    #[command(help_template = page!(" emergence hash", "{all-args}"), before_help = pages::HASH)]
    Hash(HashArgs),
    /// write, read and check Nix archives
    #[command(help_template = page!(" emergence nar", "COMMANDS:\n{subcommands}\n\nOPTIONS:\n{options}"), before_help = pages::NAR)]
    Nar(NarArgs),
    /// compute store paths
    #[command(help_template = page!(" emergence store-path", "COMMANDS:\n{subcommands}\n\nOPTIONS:\n{options}"), before_help = pages::STORE_PATH)]
    StorePath(StorePathArgs),
    /// verify an artifact without writing anything
    #[command(help_template = page!(" emergence verify", "{all-args}"), before_help = pages::VERIFY)]
    Verify(Box<VerifyArgs>),
    /// verify an artifact and create a bundle from it
    #[command(help_template = page!(" emergence bundle", "{all-args}"), before_help = pages::BUNDLE)]
    Bundle(Box<BundleArgs>),
    /// verify an artifact and run it as a container
    #[command(help_template = page!(" emergence run", "{all-args}"), before_help = pages::LAUNCH)]
    Run(Box<LaunchArgs>),
    /// print facts about this machine that constraints are checked against
    #[command(help_template = page!(" emergence node", "{all-args}"), before_help = pages::NODE)]
    Node,
    /// show the documents of an artifact
    #[command(help_template = page!(" emergence inspect", "{all-args}"), before_help = pages::INSPECT)]
    Inspect(InspectArgs),
    /// verify an artifact and unpack it
    #[command(help_template = page!(" emergence unpack", "{all-args}"), before_help = pages::UNPACK)]
    Unpack(Box<UnpackArgs>),
    /// verify artifacts and add their objects to the store
    #[command(help_template = page!(" emergence import", "{all-args}"), before_help = pages::IMPORT)]
    Import(Box<ImportArgs>),
    /// write objects of the store into a binary cache
    #[command(help_template = page!(" emergence export", "{all-args}"), before_help = pages::EXPORT)]
    Export(ExportArgs),
    /// list the parts of an artifact that are missing from the store
    #[command(help_template = page!(" emergence need", "{all-args}"), before_help = pages::NEED)]
    Need(Box<NeedArgs>),
    /// list the objects of the store
    #[command(help_template = page!(" emergence ls", "{all-args}"), before_help = pages::LS)]
    Ls,
    /// show an object of the store
    #[command(help_template = page!(" emergence info", "{all-args}"), before_help = pages::INFO)]
    Info(InfoArgs),
    /// rehash everything in the store
    #[command(help_template = page!(" emergence check", "{all-args}"), before_help = pages::CHECK)]
    Check(CheckStoreArgs),
    /// delete objects that are not reachable from a root
    #[command(help_template = page!(" emergence gc", "{all-args}"), before_help = pages::GC)]
    Gc(GcArgs),
    /// manage garbage-collection roots
    #[command(help_template = page!(" emergence root", "COMMANDS:\n{subcommands}\n\nOPTIONS:\n{options}"), before_help = pages::ROOT)]
    Root(RootArgs),
    /// create an automaton from a document and objects
    #[command(help_template = page!(" emergence pack", "{all-args}"), before_help = pages::PACK)]
    Pack(Box<PackArgs>),
    /// sign an automaton
    #[command(help_template = page!(" emergence sign", "{all-args}"), before_help = pages::SIGN)]
    Sign(SignArgs),
    /// compare two automata part by part
    #[command(help_template = page!(" emergence same", "{all-args}"), before_help = pages::SAME)]
    Same(SameArgs),
    /// create signing keys
    #[command(help_template = page!(" emergence key", "COMMANDS:\n{subcommands}\n\nOPTIONS:\n{options}"), before_help = pages::KEY)]
    Key(KeyArgs),
    /// read derivations and recompute their output paths
    #[command(help_template = page!(" emergence drv", "COMMANDS:\n{subcommands}\n\nOPTIONS:\n{options}"), before_help = pages::DRV)]
    Drv(DrvArgs),
}

// Requirements for every artifact.
#[derive(Args, Debug)]
#[command(next_help_heading = EVERY, next_display_order = 600)]
pub(crate) struct TermsArgs {
    /// How store paths must be proved [default: proved, or as in the policy]
    #[arg(long, global = true, value_name = "MODE", value_enum)]
    pub trust: Option<TrustMode>,
    /// Trusted public key (may be repeated)
    #[arg(long = "trusted-key", global = true, value_name = "NAME:BASE64")]
    pub trusted_keys: Vec<String>,
    /// Policy file of this machine's owner, which options can only make stricter
    #[arg(long, global = true, value_name = "FILE")]
    pub policy: Option<std::path::PathBuf>,
    /// Required hash of the artifact
    #[arg(long, global = true, value_name = "DIGEST")]
    pub expect: Option<String>,
    /// Maximum uncompressed size of one file, in bytes
    #[arg(long, global = true, value_name = "BYTES", default_value_t = 64 << 30)]
    pub max_size: u64,
    /// Maximum depth of a tree, up to 256
    #[arg(long, global = true, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub max_depth: u16,
    /// Search objects for undeclared references
    #[arg(long, global = true)]
    pub scan: bool,
    /// Number of parallel jobs [default: available CPUs]
    #[arg(long, global = true, value_name = "N")]
    pub jobs: Option<std::num::NonZeroUsize>,
}

/// Names of [`Demand`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum TrustMode {
    /// by content, a trusted key's signature, or a pin
    Proved,
    /// by a trusted key's signature
    Signed,
    /// no proof needed
    None,
}

impl From<TrustMode> for Demand {
    fn from(mode: TrustMode) -> Self {
        match mode {
            TrustMode::Proved => Demand::Proved,
            TrustMode::Signed => Demand::Signed,
            TrustMode::None => Demand::None,
        }
    }
}

/// Names of [`Sync`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SyncMode {
    /// nothing; objects may be incomplete after a power failure
    None,
    /// all new objects
    Data,
}

impl From<SyncMode> for Sync {
    fn from(mode: SyncMode) -> Self {
        match mode {
            SyncMode::None => Sync::None,
            SyncMode::Data => Sync::Data,
        }
    }
}
