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

pub use artifacts::{ArtifactArgs, DeclaredArgs, InspectArgs, UnpackArgs, VerifyArgs};
pub use automaton::{PackArgs, SameArgs, SignArgs};
pub use launch::{BundleArgs, LaunchArgs, NetworkMode, ShapeArgs};
pub use names::{
    DrvAction, DrvArgs, DrvFile, HashArgs, KeyAction, KeyArgs, NarAction, NarArgs, ReferenceArgs,
    StorePathArgs, StorePathKind,
};
pub use store::{CheckStoreArgs, ExportArgs, GcArgs, ImportArgs, InfoArgs, NeedArgs, RootAction, RootArgs};

// `emergence`.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, next_help_heading = EVERY, next_display_order = 500)] // behind what a verb has of its own
pub struct EmergenceArgs {
    /// Folder name that goes into the digests of store paths
    #[arg(long, global = true, value_name = "DIR", default_value = USUAL_STORE)]
    pub store_dir: String,
    /// Where objects are kept [default: /var/lib/emergence for root, XDG_DATA_HOME/emergence for others]
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// How long to wait for a store that is locked
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub lock_timeout: Duration,
    /// What of new objects is on the disk before they have their names
    #[arg(long, global = true, value_name = "WHAT", value_enum, default_value = "data")]
    pub sync: SyncMode,
    /// Answer with one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no bar on a terminal while long work is done
    #[arg(long, global = true)]
    pub no_progress: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub terms: TermsArgs,
    /// Print help (see a summary with '-h')
    #[arg(short, long, global = true, action = ArgAction::Help, display_order = 700)]
    pub help: Option<bool>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What options are called in help that every verb has.
const EVERY: &str = "OPTIONS OF EVERY VERB";

/// Gives what a verb alone has the headings of the other pages.
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
pub enum Verb {
    /// hash a tree as a NAR, or the bytes of a file
    #[command(help_template = page!(" emergence hash", "{all-args}"), before_help = pages::HASH)]
    Hash(HashArgs),
    /// make, read and check Nix archives
    #[command(help_template = page!(" emergence nar", "COMMANDS:\n{subcommands}\n\nOPTIONS:\n{options}"), before_help = pages::NAR)]
    Nar(NarArgs),
    /// compute store paths
    #[command(help_template = page!(" emergence store-path", "COMMANDS:\n{subcommands}\n\nOPTIONS:\n{options}"), before_help = pages::STORE_PATH)]
    StorePath(StorePathArgs),
    /// prove that an artifact is what it is said to be; nothing is written
    #[command(help_template = page!(" emergence verify", "{all-args}"), before_help = pages::VERIFY)]
    Verify(Box<VerifyArgs>),
    /// verify an artifact, and make a bundle of it
    #[command(help_template = page!(" emergence bundle", "{all-args}"), before_help = pages::BUNDLE)]
    Bundle(Box<BundleArgs>),
    /// verify an artifact, and run it as a container
    #[command(help_template = page!(" emergence run", "{all-args}"), before_help = pages::LAUNCH)]
    Run(Box<LaunchArgs>),
    /// tell what this machine has, as constraints ask for it
    #[command(help_template = page!(" emergence node", "{all-args}"), before_help = pages::NODE)]
    Node,
    /// show what an image says of itself; nothing but its documents is read
    #[command(help_template = page!(" emergence inspect", "{all-args}"), before_help = pages::INSPECT)]
    Inspect(InspectArgs),
    /// verify an artifact, and make its files
    #[command(help_template = page!(" emergence unpack", "{all-args}"), before_help = pages::UNPACK)]
    Unpack(Box<UnpackArgs>),
    /// verify artifacts, and keep their objects in the store
    #[command(help_template = page!(" emergence import", "{all-args}"), before_help = pages::IMPORT)]
    Import(Box<ImportArgs>),
    /// write objects of the store into a binary cache
    #[command(help_template = page!(" emergence export", "{all-args}"), before_help = pages::EXPORT)]
    Export(ExportArgs),
    /// list what of an artifact the store lacks
    #[command(help_template = page!(" emergence need", "{all-args}"), before_help = pages::NEED)]
    Need(Box<NeedArgs>),
    /// list the objects of the store
    #[command(help_template = page!(" emergence ls", "{all-args}"), before_help = pages::LS)]
    Ls,
    /// show what is known of an object of the store
    #[command(help_template = page!(" emergence info", "{all-args}"), before_help = pages::INFO)]
    Info(InfoArgs),
    /// hash everything in the store again
    #[command(help_template = page!(" emergence check", "{all-args}"), before_help = pages::CHECK)]
    Check(CheckStoreArgs),
    /// take away what nothing keeps
    #[command(help_template = page!(" emergence gc", "{all-args}"), before_help = pages::GC)]
    Gc(GcArgs),
    /// name what the store keeps
    #[command(help_template = page!(" emergence root", "COMMANDS:\n{subcommands}\n\nOPTIONS:\n{options}"), before_help = pages::ROOT)]
    Root(RootArgs),
    /// make an automaton of a document and objects
    #[command(help_template = page!(" emergence pack", "{all-args}"), before_help = pages::PACK)]
    Pack(Box<PackArgs>),
    /// sign an automaton
    #[command(help_template = page!(" emergence sign", "{all-args}"), before_help = pages::SIGN)]
    Sign(SignArgs),
    /// compare two automatons part by part
    #[command(help_template = page!(" emergence same", "{all-args}"), before_help = pages::SAME)]
    Same(SameArgs),
    /// make keys for signatures
    #[command(help_template = page!(" emergence key", "COMMANDS:\n{subcommands}\n\nOPTIONS:\n{options}"), before_help = pages::KEY)]
    Key(KeyArgs),
    /// read derivations, and recompute what they build
    #[command(help_template = page!(" emergence drv", "COMMANDS:\n{subcommands}\n\nOPTIONS:\n{options}"), before_help = pages::DRV)]
    Drv(DrvArgs),
}

// What is asked of every artifact.
#[derive(Args, Debug)]
#[command(next_help_heading = EVERY, next_display_order = 600)]
pub struct TermsArgs {
    /// What must be proved of each store path [default: proved, or what the policy says]
    #[arg(long, global = true, value_name = "MODE", value_enum)]
    pub trust: Option<TrustMode>,
    /// A key whose signatures count (may be repeated)
    #[arg(long = "trusted-key", global = true, value_name = "NAME:BASE64")]
    pub trusted_keys: Vec<String>,
    /// What the owner of this machine allows, which other options can only tighten
    #[arg(long, global = true, value_name = "FILE")]
    pub policy: Option<std::path::PathBuf>,
    /// The hash that the artifact must have
    #[arg(long, global = true, value_name = "DIGEST")]
    pub expect: Option<String>,
    /// Bytes that may come out of one compressed file
    #[arg(long, global = true, value_name = "BYTES", default_value_t = 64 << 30)]
    pub max_size: u64,
    /// Nodes below each other in one tree, 256 at most
    #[arg(long, global = true, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub max_depth: u16,
    /// Search objects for references that are not declared
    #[arg(long, global = true)]
    pub scan: bool,
    /// Files that are worked on at once [default: the processors that may be used]
    #[arg(long, global = true, value_name = "N")]
    pub jobs: Option<std::num::NonZeroUsize>,
}

/// Names of [`Demand`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum TrustMode {
    /// its content, a trusted key's signature, or a pin
    Proved,
    /// a trusted key's signature
    Signed,
    /// nothing
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
    /// nothing: after a power failure objects may lack content
    None,
    /// everything
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
