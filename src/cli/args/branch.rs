//! Parses with the typed command's branch of the grammar alone.
//!
//! The whole grammar has the texts of twenty commands, and building it takes longer than most
//! commands run. A command line that the branch does not accept is parsed again with the whole
//! grammar, which also has help and every message.

use std::ffi::OsString;

use clap::{Args as _, FromArgMatches as _, Parser as _};

use super::{
    CheckArgs, CheckpointArgs, Cli, Command, CreateArgs, DeleteArgs, EventsArgs, ExecArgs, Global, IdArg,
    KillArgs, ListArgs, MountsArgs, PsArgs, RestoreArgs, RunArgs, SpecArgs, UpdateArgs,
};

/// Parses a command line, which begins with the program's name.
pub(crate) fn parse(line: &[OsString]) -> Result<Cli, clap::Error> {
    match parse_branch(line) {
        Some(cli) => Ok(cli),
        None => Cli::try_parse_from(line),
    }
}

fn parse_branch(line: &[OsString]) -> Option<Cli> {
    // Help is the whole grammar's.
    let top = Global::augment_args(clap::Command::new("emergence-runc"))
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_help_subcommand(true);
    let branch = command(typed(&top, line)?)?;
    let mut matches = top.subcommand(branch).try_get_matches_from(line).ok()?;
    let command = Command::from_arg_matches_mut(&mut matches).ok()?;
    let global = Global::from_arg_matches_mut(&mut matches).ok()?;
    Some(Cli { global, version: None, command: Some(command) })
}

/// The command in a command line: the first word that is no option and no option's value. `None`:
/// there is none, or an option is not known.
fn typed<'a>(top: &clap::Command, line: &'a [OsString]) -> Option<&'a str> {
    let mut words = line.iter().skip(1);
    loop {
        let word = words.next()?.to_str()?;
        if !word.starts_with('-') {
            return Some(word);
        }
        let name = word.strip_prefix("--")?;
        if let Some((name, _)) = name.split_once('=') {
            top.get_arguments().find(|option| option.get_long() == Some(name))?;
            continue;
        }
        let option = top.get_arguments().find(|option| option.get_long() == Some(name))?;
        if option.get_action().takes_values() && !option.is_require_equals_set() {
            words.next()?;
        }
    }
}

/// Adds the arguments of a command.
type Arguments = fn(clap::Command) -> clap::Command;

/// The branches, in alphabetic order. The commands that write files for the installation have none.
const BRANCHES: &[(&str, Arguments)] = &[
    ("check", CheckArgs::augment_args),
    ("checkpoint", CheckpointArgs::augment_args),
    ("create", CreateArgs::augment_args),
    ("delete", DeleteArgs::augment_args),
    #[cfg(feature = "emergence")]
    ("emergence", super::EmergenceArgs::augment_args),
    ("events", EventsArgs::augment_args),
    ("exec", ExecArgs::augment_args),
    ("features", |command| command),
    ("kill", KillArgs::augment_args),
    ("list", ListArgs::augment_args),
    ("mounts", MountsArgs::augment_args),
    ("pause", IdArg::augment_args),
    ("ps", PsArgs::augment_args),
    ("restore", RestoreArgs::augment_args),
    ("resume", IdArg::augment_args),
    ("run", RunArgs::augment_args),
    ("spec", SpecArgs::augment_args),
    ("start", IdArg::augment_args),
    ("state", IdArg::augment_args),
    ("update", UpdateArgs::augment_args),
];

fn command(name: &str) -> Option<clap::Command> {
    let (name, arguments) = BRANCHES.iter().find(|(known, _)| *known == name)?;
    Some(arguments(clap::Command::new(*name)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn split(words: &str) -> Vec<OsString> {
        std::iter::once("emergence-runc").chain(words.split(' ')).map(OsString::from).collect()
    }

    #[test]
    fn each_branch_is_the_whole_grammars() {
        let mut whole = Cli::command();
        whole.build();
        for of_whole in whole.get_subcommands() {
            let name = of_whole.get_name();
            let Some(mut branch) = command(name) else {
                assert!(["completion", "man", "help"].contains(&name), "{name} has no branch");
                continue;
            };
            branch.build();
            let arguments = |command: &clap::Command| {
                let own = command.get_arguments().filter(|argument| argument.get_id() != "help");
                own.map(|argument| format!("{argument:?}")).collect::<Vec<_>>()
            };
            let verbs = |command: &clap::Command| {
                command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect::<Vec<_>>()
            };
            assert_eq!(arguments(&branch), arguments(of_whole), "{name}");
            assert_eq!(verbs(&branch), verbs(of_whole), "{name}");
        }
    }

    #[test]
    fn the_branch_and_the_whole_grammar_agree() {
        for words in [
            "state web",
            "--root /r --log /l --log-format=json --systemd-cgroup --rootless true create -b /b web",
            "--debug=false run --detach=true -b a -b c web",
            "--root=/r exec -t -e A=1 -e B=2 web ls -l --help",
            "exec --process - web",
            "kill --all web 9",
            "delete -f web",
            "update --memory 10M web",
            "mounts add web list.json",
            "list --format json",
            "features",
            "ps web -- -ef",
        ] {
            let line = split(words);
            let branch = parse_branch(&line).unwrap_or_else(|| panic!("{words}: the branch refuses it"));
            let whole = Cli::try_parse_from(&line).unwrap();
            assert_eq!(format!("{branch:?}"), format!("{whole:?}"), "{words}");
        }
    }

    #[test]
    fn the_whole_grammar_answers_for_the_rest() {
        for words in [
            "--help",
            "-v",
            "help state",
            "state --help",
            "state -h",
            "exec --help",
            "bogus",
            "--bogus state web",
            "--root",
            "state",
            "state web extra",
            "list -x",
            "--log-format xx state x",
            "exec web --user",
            "",
        ] {
            let line = split(words);
            let text = |parsed: Result<Cli, clap::Error>| match parsed {
                Ok(cli) => format!("{cli:?}"),
                Err(error) => error.render().to_string(),
            };
            assert_eq!(text(parse(&line)), text(Cli::try_parse_from(&line)), "{words}");
        }
    }
}
