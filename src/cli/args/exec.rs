//! The options of `exec`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{go_bool, switch};
use crate::container::request::SubGroup;

// A doc comment (`///`) on the struct would become the command's line in help.

// `exec`.
#[derive(Args, Debug)]
#[command(mut_args = switch, override_usage = "emergence-runc exec [OPTIONS] <container-id> [command [arguments...]]")]
pub(crate) struct ExecArgs {
    /// Process definition to use (process.json); other options override its values
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Unix socket that receives the pty master of the process's terminal
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<OsString>,
    /// Add NAME=VALUE to the environment (may be repeated)
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<OsString>,
    /// Allocate a terminal for the process
    #[arg(short, long)]
    pub tty: bool,
    /// User in the container, and optionally group
    #[arg(short, long, value_name = "UID[:GID]", value_parser = user)]
    pub user: Option<(u32, Option<u32>)>,
    /// Add a supplementary group (may be repeated)
    #[arg(short = 'g', long, value_name = "GID", value_delimiter = ',', value_parser = id)]
    pub additional_gids: Vec<u32>,
    /// Return as soon as the process runs
    #[arg(short, long)]
    pub detach: bool,
    /// File to write the process id to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the process
    #[arg(long, value_name = "PATH")]
    pub pidfd_socket: Option<PathBuf>,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// Set no_new_privs for the process
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub no_new_privs: Option<bool>,
    /// Add a capability to the process (may be repeated)
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    pub cap: Vec<String>,
    /// Pass N additional descriptors to the process, after the standard streams and those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value = "0")]
    pub preserve_fds: u32,
    /// Allow a paused container; the process waits until it is resumed
    #[arg(long)]
    pub ignore_paused: bool,
    /// Put the process into a cgroup below the container's; with controllers for cgroup v1 (may be repeated)
    #[arg(long, value_name = "[CONTROLLER:]PATH", value_parser = sub_group)]
    pub cgroup: Vec<SubGroup>,
    /// The container, then the program and its arguments (no program with --process)
    #[arg(value_name = "container-id", trailing_var_arg = true, required = true)]
    pub words: Vec<OsString>,
}

impl ExecArgs {
    /// The container's id. One list has the id and the program's arguments, which may look like options.
    pub(crate) fn id(&self) -> &str {
        // An id that is not UTF-8 is refused because of this character.
        self.words.first().map_or("", |id| id.to_str().unwrap_or("\u{fffd}"))
    }

    /// The program and its arguments.
    pub(crate) fn command(&self) -> &[OsString] {
        let rest = self.words.get(1..).unwrap_or_default();
        // Skip a `--` between the id and the program, as other runtimes do. No program has this name.
        rest.strip_prefix(&[OsString::from("--")]).unwrap_or(rest)
    }
}

/// Parses a UID or GID in plain digits; invalid text must never be read as 0 (CVE-2026-30892).
fn id(word: &str) -> Result<u32, String> {
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { word.parse().ok() } else { None };
    number
        .filter(|number| *number != u32::MAX)
        .ok_or_else(|| format!("{word:?} is not a number from 0 to {}", u32::MAX - 1))
}

fn user(word: &str) -> Result<(u32, Option<u32>), String> {
    match word.split_once(':') {
        Some((user, group)) => Ok((id(user)?, Some(id(group)?))),
        None => Ok((id(word)?, None)),
    }
}

fn sub_group(word: &str) -> Result<SubGroup, String> {
    let (controllers, path) = word.split_once(':').unwrap_or(("", word));
    if path.is_empty() {
        return Err("names no path".into());
    }
    let controllers = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    Ok(SubGroup { controllers, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser;

    fn parsed(line: &str) -> Result<ExecArgs, clap::Error> {
        match Cli::try_parse_from(["emergence-runc", "exec"].into_iter().chain(line.split(' ')))?.command {
            Some(Command::Exec(args)) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn users_are_numbers_or_refused() {
        let table = [("0", Some((0, None))), ("1000:5", Some((1000, Some(5)))), ("007", Some((7, None)))];
        for (word, want) in table {
            assert_eq!(user(word).ok(), want, "{word}");
        }
        for bad in
            ["", ":", "1:", ":1", "root", "+1", "-1", "1x", " 1", "1:2:3", "4294967295", "4294967296", "0x0"]
        {
            assert!(user(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn everything_after_the_id_is_the_program() {
        let args = parsed("-t --user 1:2 -e A=1 -e B=2 --cap CAP_KILL,CAP_CHOWN -g 3 --cgroup cpu,memory:/x web ls -l --user").unwrap();
        assert!(args.tty && !args.detach && args.no_new_privs.is_none());
        assert_eq!((args.id(), args.user), ("web", Some((1, Some(2)))));
        assert_eq!((args.env.len(), args.cap.len(), args.additional_gids.as_slice()), (2, 2, &[3][..]));
        assert_eq!(args.command(), ["ls", "-l", "--user"]);
        let [group] = args.cgroup.as_slice() else { panic!("one cgroup") };
        assert_eq!((group.controllers.join("+").as_str(), group.path.as_str()), ("cpu+memory", "/x"));
        for (line, want) in [
            ("web -- ls", &["ls"][..]),
            ("-- web ls -t", &["ls", "-t"]),
            ("web -h", &["-h"]),
            ("web --help -x", &["--help", "-x"]),
            ("web ls -- -l", &["ls", "--", "-l"]),
            ("web", &[]),
        ] {
            let args = parsed(line).unwrap();
            assert_eq!(args.id(), "web", "{line}");
            assert_eq!(args.command(), want, "{line}");
        }
        assert_eq!(parsed("--no-new-privs web ls").unwrap().no_new_privs, Some(true));
        assert_eq!(parsed("--no-new-privs=false web ls").unwrap().no_new_privs, Some(false));
    }
}
