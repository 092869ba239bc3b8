//! Options of `checkpoint` and `restore`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::switch;
use crate::container::CgroupMode;

// Options of both commands.
#[derive(Args, Debug)]
#[command(mut_args = switch)]
pub(crate) struct ImagesArgs {
    /// Directory of criu's images
    #[arg(long, value_name = "DIR", default_value = "checkpoint")]
    pub image_path: PathBuf,
    /// Directory of criu's logs and sockets [default: the image path]
    #[arg(long, value_name = "DIR")]
    pub work_path: Option<PathBuf>,
    /// Keep open TCP connections
    #[arg(long)]
    pub tcp_established: bool,
    /// Allow Unix sockets connected to a process outside the container
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// Allow a session or terminal that belongs to a process outside the container
    #[arg(long)]
    pub shell_job: bool,
    /// Keep file locks
    #[arg(long)]
    pub file_locks: bool,
    /// How criu treats cgroups
    #[arg(long, value_name = "MODE", value_enum, default_value = "soft")]
    pub manage_cgroups_mode: CgroupModeArg,
    /// Omit the content of this namespace
    #[arg(long, value_name = "NAMESPACE", value_enum)]
    pub empty_ns: Vec<EmptyNamespace>,
    /// Remove duplicate memory pages from parent images
    #[arg(long)]
    pub auto_dedup: bool,
    /// Transfer memory pages on demand, through "criu lazy-pages"
    #[arg(long)]
    pub lazy_pages: bool,
}

/// How cgroups are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)] // a comment would show in help
pub enum CgroupModeArg {
    Soft,
    Full,
    Strict,
    Ignore,
}

impl From<CgroupModeArg> for CgroupMode {
    fn from(word: CgroupModeArg) -> Self {
        match word {
            CgroupModeArg::Soft => Self::Soft,
            CgroupModeArg::Full => Self::Full,
            CgroupModeArg::Strict => Self::Strict,
            CgroupModeArg::Ignore => Self::Ignore,
        }
    }
}

/// The namespaces whose content can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)] // a comment would show in help
pub(crate) enum EmptyNamespace {
    Network,
}

// `checkpoint`.
#[derive(Args, Debug)]
#[command(mut_args = switch)]
pub(crate) struct CheckpointArgs {
    /// Options shared with `restore`.
    #[command(flatten)]
    pub images: ImagesArgs,
    /// Directory of an earlier dump, relative to the image path
    #[arg(long, value_name = "DIR")]
    pub parent_path: Option<PathBuf>,
    /// Leave the container running
    #[arg(long)]
    pub leave_running: bool,
    /// Write only the memory, in preparation of a later dump; the container continues
    #[arg(long)]
    pub pre_dump: bool,
    /// Skip in-flight TCP connections
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
    /// Link unlinked open files back into the file system
    #[arg(long)]
    pub link_remap: bool,
    /// Descriptor to write a zero byte to when the page server of --lazy-pages is ready
    #[arg(long, value_name = "FD")]
    pub status_fd: Option<i32>,
    /// Send pages to this page server instead of writing them
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = page_server)]
    pub page_server: Option<(String, u16)>,
    /// The container
    #[arg(value_name = "container-id")]
    pub id: String,
}

// `restore`.
#[derive(Args, Debug)]
#[command(mut_args = switch)]
pub(crate) struct RestoreArgs {
    /// Options shared with `checkpoint`.
    #[command(flatten)]
    pub images: ImagesArgs,
    /// Bundle directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Unix socket that receives the pty master of the container's terminal
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// Return as soon as the container's processes run
    #[arg(short, long)]
    pub detach: bool,
    /// File to write the process id to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Do not become the subreaper of the container's orphans
    #[arg(long)]
    pub no_subreaper: bool,
    /// Accepted as in create; criu decides how the root file system is entered
    #[arg(long)]
    pub no_pivot: bool,
    /// Close the TCP connections that were open
    #[arg(long, conflicts_with = "tcp_established")]
    pub tcp_close: bool,
    /// LSM profile to use instead of the dumped one: apparmor:PROFILE or selinux:LABEL
    #[arg(long, value_name = "TYPE:LABEL", value_parser = lsm_profile)]
    pub lsm_profile: Option<String>,
    /// SELinux context of mounts to use instead of the dumped one
    #[arg(long, value_name = "CONTEXT")]
    pub lsm_mount_context: Option<String>,
    /// The new container
    #[arg(value_name = "container-id")]
    pub id: String,
}

fn page_server(word: &str) -> Result<(String, u16), String> {
    let parts = word.rsplit_once(':').filter(|(address, _)| !address.is_empty());
    let (address, port) = parts.ok_or("must be ADDRESS:PORT")?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or("the port must be 1 to 65535")?;
    Ok((address.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
}

fn lsm_profile(word: &str) -> Result<String, String> {
    match word.split_once(':') {
        Some(("apparmor" | "selinux", label)) if !label.is_empty() => Ok(word.to_owned()),
        _ => Err("must be apparmor:PROFILE or selinux:LABEL".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_server_is_an_address_and_a_port() {
        let table = [
            ("10.0.0.1:27", Some(("10.0.0.1", 27))),
            ("[::1]:9", Some(("::1", 9))),
            ("host:0", None),
            ("host:65536", None),
            (":9", None),
            ("host", None),
        ];
        for (word, want) in table {
            let got = page_server(word).ok();
            assert_eq!(got.as_ref().map(|(address, port)| (address.as_str(), *port)), want, "{word}");
        }
    }

    #[test]
    fn a_profile_names_its_module() {
        for (word, good) in
            [("apparmor:a//b", true), ("selinux:u:r:t:s0", true), ("smack:x", false), ("apparmor:", false)]
        {
            assert_eq!(lsm_profile(word).is_ok(), good, "{word}");
        }
    }
}
