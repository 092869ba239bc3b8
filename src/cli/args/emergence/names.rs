//! Options of the verbs that compute names: of hashes, NARs, store paths, derivations and keys.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::emergence::Method;
use crate::emergence::hash::{Algorithm, Format};

// `emergence hash`.
#[derive(Args, Debug)]
pub struct HashArgs {
    /// The tree or file; - is standard input
    #[arg(value_name = "path", required_unless_present = "convert")]
    pub path: Option<PathBuf>,
    /// What of it is hashed [default: nar, flat for standard input]
    #[command(flatten)]
    pub method: MethodArgs,
    /// What it is hashed with [default: sha256]
    #[arg(long, value_name = "ALGORITHM")]
    pub algo: Option<Algorithm>,
    /// How the hash is written
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "oci")]
    pub format: FormatName,
    /// Write this hash in the format instead of making one
    #[arg(long, value_name = "HASH", conflicts_with_all = ["path", "nar", "flat"])]
    pub convert: Option<String>,
}

// What of a path is hashed.
#[derive(Args, Clone, Copy, Debug)]
pub struct MethodArgs {
    /// Hash the NAR
    #[arg(long, conflicts_with = "flat")]
    pub nar: bool,
    /// Hash the bytes of the file
    #[arg(long)]
    pub flat: bool,
}

impl MethodArgs {
    /// The one that was named.
    pub fn said(self) -> Option<Method> {
        match (self.nar, self.flat) {
            (true, _) => Some(Method::Nar),
            (_, true) => Some(Method::Flat),
            _ => None,
        }
    }
}

/// Names of [`Format`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FormatName {
    /// sha256: and hexadecimal digits
    Oci,
    /// sha256- and base64
    Sri,
    /// Nix's digits
    Nix32,
    /// hexadecimal digits
    Base16,
    /// base64
    Base64,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Oci => Format::Oci,
            FormatName::Sri => Format::Sri,
            FormatName::Nix32 => Format::Nix32,
            FormatName::Base16 => Format::Base16,
            FormatName::Base64 => Format::Base64,
        }
    }
}

// `emergence nar`.
#[derive(Args, Debug)]
pub struct NarArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: NarAction,
}

// What `emergence nar` does.
#[derive(Debug, Subcommand)]
#[command(subcommand_help_heading = "COMMANDS")]
#[allow(missing_docs)]
pub enum NarAction {
    /// write a tree as a NAR
    Dump {
        /// The tree
        #[arg(value_name = "path")]
        path: PathBuf,
        /// File for the NAR [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// make the tree of a NAR
    Restore {
        /// The NAR; - is standard input
        #[arg(value_name = "file")]
        file: PathBuf,
        /// Where the tree is made; nothing may be there
        #[arg(value_name = "dest")]
        dest: PathBuf,
    },
    /// list what is in a NAR: d, f, x (executable) or l, size, path, and where a link leads
    Ls {
        /// The NAR; - is standard input
        #[arg(value_name = "file")]
        file: PathBuf,
    },
    /// write the bytes of one file in a NAR
    Cat {
        /// The NAR; - is standard input
        #[arg(value_name = "file")]
        file: PathBuf,
        /// Path in the NAR
        #[arg(value_name = "inner")]
        inner: PathBuf,
    },
    /// read a NAR strictly, and print its hash and size
    Check {
        /// The NAR; - is standard input
        #[arg(value_name = "file")]
        file: PathBuf,
    },
}

// `emergence store-path`.
#[derive(Args, Debug)]
pub struct StorePathArgs {
    /// What the path follows from.
    #[command(subcommand)]
    pub kind: StorePathKind,
}

// What an object refers to.
#[derive(Args, Debug)]
pub struct ReferenceArgs {
    /// An object that it refers to, a store path (may be repeated)
    #[arg(long = "ref", value_name = "PATH")]
    pub references: Vec<String>,
}

// From what a path follows.
#[derive(Debug, Subcommand)]
#[command(subcommand_help_heading = "COMMANDS")]
#[allow(missing_docs)]
pub enum StorePathKind {
    /// of a tree, by the hash of its NAR
    Source {
        /// The tree
        #[arg(value_name = "path")]
        path: PathBuf,
        /// Name of the object [default: the last part of the path]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        references: ReferenceArgs,
        /// The tree, which is named DIGEST-NAME, names itself by that digest
        #[arg(long = "self")]
        itself: bool,
    },
    /// of what is known by its hash before it is there
    Fixed {
        /// The tree or file
        #[arg(value_name = "path", required_unless_present = "hash")]
        path: Option<PathBuf>,
        /// Its hash
        #[arg(long, value_name = "HASH", conflicts_with = "path")]
        hash: Option<String>,
        #[command(flatten)]
        method: MethodArgs,
        /// What it is hashed with [default: sha256]
        #[arg(long, value_name = "ALGORITHM")]
        algo: Option<Algorithm>,
        /// Name of the object [default: the last part of the path]
        #[arg(long, value_name = "NAME", required_unless_present = "path")]
        name: Option<String>,
    },
    /// of a text, as builtins.toFile makes it
    Text {
        /// The text; - is standard input
        #[arg(value_name = "file")]
        file: PathBuf,
        /// Name of the object
        #[arg(long, value_name = "NAME")]
        name: String,
        #[command(flatten)]
        references: ReferenceArgs,
    },
    /// of an output, by the hash of its recipe
    Output {
        /// Hash of the recipe, hexadecimal
        #[arg(long, value_name = "HEX")]
        drv_hash: String,
        /// Which output
        #[arg(long, value_name = "OUTPUT", default_value = "out")]
        output: String,
        /// Name of the recipe
        #[arg(long, value_name = "NAME")]
        name: String,
    },
    /// of an object, by its content address as a narinfo has it
    Ca {
        /// The content address
        #[arg(value_name = "ca")]
        ca: String,
        /// Name of the object
        #[arg(long, value_name = "NAME")]
        name: String,
        #[command(flatten)]
        references: ReferenceArgs,
        /// It names itself
        #[arg(long = "self")]
        itself: bool,
    },
}

// `emergence drv`.
#[derive(Args, Debug)]
pub struct DrvArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: DrvAction,
}

// A derivation.
#[derive(Args, Debug)]
pub struct DrvFile {
    /// The derivation
    #[arg(value_name = "file")]
    pub file: PathBuf,
    /// Its name, without .drv [default: from the file's name, or its variable "name"]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

// What `emergence drv` does.
#[derive(Debug, Subcommand)]
#[command(subcommand_help_heading = "COMMANDS")]
#[allow(missing_docs)]
pub enum DrvAction {
    /// show it as JSON, as "nix derivation show" does
    Show(DrvFile),
    /// recompute the paths of its outputs
    Check {
        #[command(flatten)]
        drv: DrvFile,
        /// Folder with the derivations of its inputs [default: the one it is in]
        #[arg(long, value_name = "DIR")]
        inputs: Option<PathBuf>,
    },
    /// compute its own store path
    Path(DrvFile),
}

// `emergence key`.
#[derive(Args, Debug)]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: KeyAction,
}

// What `emergence key` does.
#[derive(Debug, Subcommand)]
#[command(subcommand_help_heading = "COMMANDS")]
#[allow(missing_docs)]
pub enum KeyAction {
    /// print a new secret key
    Generate {
        /// Its name, which signatures carry
        #[arg(value_name = "name")]
        name: String,
    },
    /// print the public key of a secret one
    Public {
        /// File with the secret key; - is standard input
        #[arg(value_name = "keyfile")]
        file: PathBuf,
    },
}
