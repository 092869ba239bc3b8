//! Options of the verbs that compute names: of hashes, NARs, store paths, derivations and keys.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::pages::page;
use crate::emergence::Method;
use crate::emergence::hash::{Algorithm, Format};

// `emergence hash`.
#[derive(Args, Debug)]
pub(crate) struct HashArgs {
    /// The tree or file; - is standard input
    #[arg(value_name = "path", required_unless_present = "convert")]
    pub path: Option<PathBuf>,
    /// Method [default: nar, flat for standard input]
    #[command(flatten)]
    pub method: MethodArgs,
    /// Hash algorithm: sha256, sha512, sha1 or md5 [default: sha256]
    #[arg(long, value_name = "ALGORITHM")]
    pub algo: Option<Algorithm>,
    /// Format of the hash
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "oci")]
    pub format: FormatName,
    /// Convert this hash to --format instead of hashing
    #[arg(long, value_name = "HASH", conflicts_with_all = ["path", "nar", "flat"])]
    pub convert: Option<String>,
}

// How a path is hashed.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct MethodArgs {
    /// Hash the NAR
    #[arg(long, conflicts_with = "flat")]
    pub nar: bool,
    /// Hash the bytes of the file
    #[arg(long)]
    pub flat: bool,
}

impl MethodArgs {
    /// The method given on the command line.
    pub(crate) fn given(self) -> Option<Method> {
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
    /// base32 with Nix's alphabet
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
pub(crate) struct NarArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: NarAction,
}

// What `emergence nar` does.
#[derive(Debug, Subcommand)]
#[command(subcommand_help_heading = "COMMANDS")]
#[allow(missing_docs)]
pub(crate) enum NarAction {
    /// write a tree as a NAR
    #[command(help_template = page!(" emergence nar dump", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Dump {
        /// The tree
        #[arg(value_name = "path")]
        path: PathBuf,
        /// File for the NAR [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// unpack a NAR
    #[command(help_template = page!(" emergence nar restore", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Restore {
        /// The NAR; - is standard input
        #[arg(value_name = "file")]
        file: PathBuf,
        /// Destination, which must not exist
        #[arg(value_name = "dest")]
        dest: PathBuf,
    },
    /// list the entries of a NAR: d, f, x (executable) or l, size, path, and the target of a link
    #[command(help_template = page!(" emergence nar ls", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Ls {
        /// The NAR; - is standard input
        #[arg(value_name = "file")]
        file: PathBuf,
    },
    /// print the content of one file in a NAR
    #[command(help_template = page!(" emergence nar cat", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Cat {
        /// The NAR; - is standard input
        #[arg(value_name = "file")]
        file: PathBuf,
        /// Path in the NAR
        #[arg(value_name = "inner")]
        inner: PathBuf,
    },
    /// check a NAR strictly and print its hash and size
    #[command(help_template = page!(" emergence nar check", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Check {
        /// The NAR; - is standard input
        #[arg(value_name = "file")]
        file: PathBuf,
    },
}

// `emergence store-path`.
#[derive(Args, Debug)]
pub(crate) struct StorePathArgs {
    /// How it is computed.
    #[command(subcommand)]
    pub kind: StorePathKind,
}

// References of an object.
#[derive(Args, Debug)]
pub(crate) struct ReferenceArgs {
    /// Store path that the object refers to (may be repeated)
    #[arg(long = "ref", value_name = "PATH")]
    pub references: Vec<String>,
}

// How a store path is computed.
#[derive(Debug, Subcommand)]
#[command(subcommand_help_heading = "COMMANDS")]
#[allow(missing_docs)]
pub(crate) enum StorePathKind {
    /// path of a tree, from the hash of its NAR
    #[command(help_template = page!(" emergence store-path source", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Source {
        /// The tree
        #[arg(value_name = "path")]
        path: PathBuf,
        /// Name of the object [default: the last part of the path]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        references: ReferenceArgs,
        /// The tree is named DIGEST-NAME and contains its own digest
        #[arg(long = "self")]
        itself: bool,
    },
    /// path of a fixed output, from its hash
    #[command(help_template = page!(" emergence store-path fixed", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Fixed {
        /// The tree or file
        #[arg(value_name = "path", required_unless_present = "hash")]
        path: Option<PathBuf>,
        /// Hash of the object
        #[arg(long, value_name = "HASH", conflicts_with = "path")]
        hash: Option<String>,
        #[command(flatten)]
        method: MethodArgs,
        /// Hash algorithm: sha256, sha512, sha1 or md5 [default: sha256]
        #[arg(long, value_name = "ALGORITHM")]
        algo: Option<Algorithm>,
        /// Name of the object [default: the last part of the path]
        #[arg(long, value_name = "NAME", required_unless_present = "path")]
        name: Option<String>,
    },
    /// path of a text, as computed by builtins.toFile
    #[command(help_template = page!(" emergence store-path text", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
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
    /// path of a build output, from the hash of its derivation
    #[command(help_template = page!(" emergence store-path output", "OPTIONS:\n{options}"))]
    Output {
        /// Hash of the derivation, hexadecimal
        #[arg(long, value_name = "HEX")]
        drv_hash: String,
        /// Output name
        #[arg(long, value_name = "OUTPUT", default_value = "out")]
        output: String,
        /// Name of the derivation
        #[arg(long, value_name = "NAME")]
        name: String,
    },
    /// path of an object, from its content address in the format of narinfo
    #[command(help_template = page!(" emergence store-path ca", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Ca {
        /// The content address
        #[arg(value_name = "ca")]
        ca: String,
        /// Name of the object
        #[arg(long, value_name = "NAME")]
        name: String,
        #[command(flatten)]
        references: ReferenceArgs,
        /// The object contains its own store path
        #[arg(long = "self")]
        itself: bool,
    },
}

// `emergence drv`.
#[derive(Args, Debug)]
pub(crate) struct DrvArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: DrvAction,
}

// A derivation.
#[derive(Args, Debug)]
pub(crate) struct DrvFile {
    /// The derivation
    #[arg(value_name = "file")]
    pub file: PathBuf,
    /// Name of the derivation, without .drv [default: from the file's name, or its variable "name"]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

// What `emergence drv` does.
#[derive(Debug, Subcommand)]
#[command(subcommand_help_heading = "COMMANDS")]
#[allow(missing_docs)]
pub(crate) enum DrvAction {
    /// show a derivation as JSON, in the format of "nix derivation show"
    #[command(help_template = page!(" emergence drv show", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Show(DrvFile),
    /// recompute the paths of a derivation's outputs
    #[command(help_template = page!(" emergence drv check", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Check {
        #[command(flatten)]
        drv: DrvFile,
        /// Directory with the derivations of inputs [default: that of the file]
        #[arg(long, value_name = "DIR")]
        inputs: Option<PathBuf>,
    },
    /// compute the store path of a derivation
    #[command(help_template = page!(" emergence drv path", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Path(DrvFile),
}

// `emergence key`.
#[derive(Args, Debug)]
pub(crate) struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: KeyAction,
}

// What `emergence key` does.
#[derive(Debug, Subcommand)]
#[command(subcommand_help_heading = "COMMANDS")]
#[allow(missing_docs)]
pub(crate) enum KeyAction {
    /// print a new secret key
    #[command(help_template = page!(" emergence key generate", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Generate {
        /// Name of the key, which signatures contain
        #[arg(value_name = "name")]
        name: String,
    },
    /// print the public key of a secret key
    #[command(help_template = page!(" emergence key public", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Public {
        /// File with the secret key; - is standard input
        #[arg(value_name = "keyfile")]
        file: PathBuf,
    },
}
