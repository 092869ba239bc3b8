//! The command line: parses options and runs one short function per command.

#![forbid(unsafe_code)]

mod args;
mod commands;
#[cfg(feature = "emergence")]
mod emergence;
mod log;
mod output;
mod pages;
mod ps;
mod settings;
mod signal;
mod update;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ErrorKind};

use crate::error::{Error, Kind, Result};
use args::Cli;

/// Exit status of `exec` if the runtime fails, to distinguish it from the program's own status; as
/// in runc.
const EXEC_FAILED: u8 = 255;

#[cfg(feature = "emergence")]
/// Exit status of `emergence` for a wrong command line.
const WRONG_USAGE: u8 = 2;

/// Runs the command line of this process. An error of the runtime gives the exit status 1, in
/// `exec` 255.
pub fn main() -> ExitCode {
    crate::sys::process::keep_ended_children();
    // First of all: it may execute this program again, and earlier parsing would be repeated. If
    // the word is not the command, this only costs time.
    let line: Vec<OsString> = std::env::args_os().collect();
    let makes_a_process =
        |word: &OsString| ["create", "run", "exec", "mounts"].iter().any(|command| word == *command);
    let protected = if line.iter().any(makes_a_process) { crate::container::protect() } else { Ok(()) };
    let (done, failure) = match args::parse(&line) {
        Ok(cli) => {
            let enters = matches!(cli.command, Some(args::Command::Exec(_)));
            (obey(cli, protected), if enters { ExitCode::from(EXEC_FAILED) } else { ExitCode::FAILURE })
        }
        // Requested help is only printed. Parsing the command line again would print it again.
        Err(answer) if is_requested_output(&answer) => {
            (output::print(&answer.render().to_string()).map(|()| ExitCode::SUCCESS), ExitCode::FAILURE)
        }
        Err(answer) => (Err(refused(&answer)), wrong_usage(&answer)),
    };
    done.unwrap_or_else(|error| {
        match error.kind() {
            // The error concerns the program, not the runtime: printed as a shell does.
            Kind::NotExecuted => log::bare_last_words(&error),
            _ => log::last_words(&error),
        }
        failure
    })
}

fn obey(cli: Cli, protected: Result<()>) -> Result<ExitCode> {
    let level =
        if cli.global.debug { cli.global.log_level.max(tracing::Level::DEBUG) } else { cli.global.log_level };
    log::start(cli.global.log.as_deref(), cli.global.log_format, level)?;
    protected?;
    match cli.command {
        Some(command) => commands::dispatch(command, &cli.global),
        None => {
            output::print(&Cli::command().render_help().to_string())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Parses a command line (without the program's name) without running it. The error is the one that
/// a user would see.
pub fn understand(line: impl IntoIterator<Item: AsRef<OsStr>>) -> Result<()> {
    let line = line.into_iter().map(|word| word.as_ref().to_owned());
    let line: Vec<OsString> = std::iter::once(OsString::from("emergence-runc")).chain(line).collect();
    match args::parse(&line) {
        Err(answer) if !is_requested_output(&answer) => Err(Error::new(Kind::Usage, words(&answer, None))),
        _ => Ok(()),
    }
}

/// Whether this is requested output: help, or the version.
fn is_requested_output(answer: &clap::Error) -> bool {
    matches!(answer.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

/// The exit status for an invalid command line.
fn wrong_usage(answer: &clap::Error) -> ExitCode {
    let rest = Cli::command().ignore_errors(true).try_get_matches().ok();
    let command = rest.as_ref().and_then(|rest| rest.subcommand());
    match command.map(|(name, rest)| (name, rest.subcommand_name())) {
        #[cfg(feature = "emergence")]
        Some(("emergence", Some("run"))) => ExitCode::from(emergence::NOT_RUN),
        #[cfg(feature = "emergence")]
        Some(("emergence", _)) => ExitCode::from(WRONG_USAGE),
        // An invalid value must be distinguishable from the program's own status; as in runc, an
        // unknown option is not.
        Some(("exec", _))
            if matches!(answer.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) =>
        {
            ExitCode::from(EXEC_FAILED)
        }
        _ => ExitCode::FAILURE,
    }
}

/// The error of an invalid command line. It is logged to the file that the command line names.
fn refused(answer: &clap::Error) -> Error {
    let rest = Cli::command().ignore_errors(true).try_get_matches().ok();
    let path = rest.as_ref().and_then(|rest| rest.try_get_one::<PathBuf>("log").ok().flatten());
    let format = rest.as_ref().and_then(|rest| rest.try_get_one("log_format").ok().flatten());
    let format = format.copied().unwrap_or_default();
    match log::start(path.map(PathBuf::as_path), format, tracing::Level::ERROR) {
        Ok(()) => {
            Error::new(Kind::Usage, words(answer, rest.as_ref().and_then(|rest| rest.subcommand_name())))
        }
        Err(error) => error,
    }
}

/// Starts with runc's text where scripts expect it. podman calls `restore --lsm-mount-context`
/// without a value, and takes this text of Go's as proof that the option exists.
fn words(answer: &clap::Error, command: Option<&str>) -> String {
    let line = || one_line(&answer.render().to_string());
    let value = |kind| answer.get(kind).map(|value| value.to_string()).unwrap_or_default();
    let argument = value(ContextKind::InvalidArg);
    match answer.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "the command is incomplete; see its --help".into()
        }
        ErrorKind::InvalidSubcommand if command.is_none() => {
            format!("No help topic for '{}': no such command", value(ContextKind::InvalidSubcommand))
        }
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            format!("flag provided but not defined: -{}", argument.trim_start_matches('-'))
        }
        ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument => {
            match command.and_then(|name| Some((name, count(name)?))) {
                Some((name, count)) => format!("{name:?} requires {count} argument(s): {}", line()),
                None => line(),
            }
        }
        ErrorKind::InvalidValue if value(ContextKind::InvalidValue).is_empty() => {
            format!("flag needs an argument: {}", argument.split([' ', '=']).next().unwrap_or(&argument))
        }
        ErrorKind::InvalidValue if argument.starts_with("--format") => {
            format!("invalid format option: {}", line())
        }
        ErrorKind::InvalidValue if argument.starts_with("--log-format") => {
            format!("invalid log-format: {}", line())
        }
        _ => line(),
    }
}

/// The number of arguments of a command, besides its options.
fn count(command: &str) -> Option<&'static str> {
    match command {
        "create" | "run" | "start" | "state" | "delete" | "pause" | "resume" | "events" | "update"
        | "checkpoint" | "restore" => Some("exactly 1"),
        "list" | "spec" | "features" => Some("exactly 0"),
        "exec" | "kill" | "ps" => Some("a minimum of 1"),
        _ => None,
    }
}

/// The first paragraph of clap's message, without its heading.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).take_while(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn wrong_usage_is_one_line() {
        let table = [
            ("bogus", "No help topic for 'bogus': no such command"),
            (
                "create",
                "\"create\" requires exactly 1 argument(s): the following required arguments were not provided: <container-id>",
            ),
            ("restore --lsm-mount-context", "flag needs an argument: --lsm-mount-context"),
            ("mounts", "the command is incomplete; see its --help"),
            ("create --bogus x", "flag provided but not defined: -bogus"),
            ("list -x", "flag provided but not defined: -x"),
            ("create x y", "\"create\" requires exactly 1 argument(s): unexpected argument 'y' found"),
            ("list x", "\"list\" requires exactly 0 argument(s): unexpected argument 'x' found"),
            (
                "--log-format xx state x",
                "invalid log-format: invalid value 'xx' for '--log-format <FORMAT>' [possible values: text, json]",
            ),
            (
                "list -f xx",
                "invalid format option: invalid value 'xx' for '--format <FORMAT>' [possible values: table, json]",
            ),
            (
                "--rootless 7 state x",
                "invalid value '7' for '--rootless <WHEN>': must be true, false or auto",
            ),
        ];
        for (line, want) in table {
            let words = std::iter::once("emergence-runc").chain(line.split(' '));
            let answer = Cli::try_parse_from(words).unwrap_err();
            let command = line.split(' ').next().filter(|word| !word.starts_with('-') && *word != "bogus");
            assert_eq!(super::words(&answer, command), want, "{line}");
        }
    }
}
