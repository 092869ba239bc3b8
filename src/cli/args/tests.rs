//! Tests of the command line: its tables, its help, and what options mean.

use super::*;
use clap::CommandFactory;

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("emergence-runc").chain(line.split(' ')))
}

#[test]
fn the_table_is_consistent() {
    let mut cli = Cli::command();
    cli.build(); // deferred options too
    cli.debug_assert();
}

#[test]
fn every_help_starts_as_runcs_users_know() {
    let mut cli = Cli::command();
    let top = cli.render_help().to_string();
    assert!(
        top.starts_with("NAME:\n   emergence-runc - Open Container Initiative runtime\n\nUSAGE:\n"),
        "{top}"
    );
    assert!(top.contains("\nCOMMANDS:\n") && top.contains("\nOPTIONS:\n"), "{top}");
    cli.build();
    let names: Vec<String> = cli.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    assert!(names.len() > 12);
    for name in names.iter().filter(|name| *name != "help") {
        let help = parsed(&format!("{name} --help")).unwrap_err().render().to_string();
        assert!(help.starts_with(&format!("NAME:\n   emergence-runc {name} - ")), "{help}");
        assert!(help.contains(&format!("\nUSAGE:\n   emergence-runc {name}")), "{help}");
        assert!(help.contains("\nOPTIONS:\n"), "{help}");
        assert_eq!(help, parsed(&format!("help {name}")).unwrap_err().render().to_string());
    }
}

#[test]
fn switches_are_read_as_go_reads_them() {
    let table = [
        ("run -d x", true),
        ("run --detach x", true),
        ("run --detach=true x", true),
        ("run --detach=1 x", true),
        ("run -d=T x", true),
        ("run --detach=false x", false),
        ("run --detach=0 x", false),
        ("run x", false),
    ];
    for (line, want) in table {
        let Some(Command::Run(run)) = parsed(line).unwrap().command else { panic!("{line}") };
        assert_eq!((run.stay.detach, run.create.id.as_str()), (want, "x"), "{line}");
    }
    assert!(parsed("run --detach=maybe x").is_err());
    let Some(Command::Run(run)) = parsed("run -d -b a --detach=false -b c x").unwrap().command else {
        panic!()
    };
    assert_eq!((run.stay.detach, run.create.bundle.to_str()), (false, Some("c")), "the last counts");
}

#[test]
fn global_options_stand_before_the_command() {
    let cli = parsed(
        "--root=/r --log /l --log-format=json --log-level info --systemd-cgroup --rootless=auto list -q",
    )
    .unwrap();
    assert_eq!(cli.global.root.as_deref(), Some("/r".as_ref()));
    assert_eq!(cli.global.log.as_deref(), Some("/l".as_ref()));
    assert_eq!(cli.global.log_format, log::Format::Json);
    assert_eq!(cli.global.log_level, tracing::Level::INFO);
    assert!(cli.global.systemd_cgroup && !cli.global.debug);
    assert!(matches!(cli.command, Some(Command::List(ListArgs { quiet: true, .. }))));
    assert!(parsed("list --root /r").is_err());
    assert_eq!(parsed("--rootless=false list").unwrap().global.rootless, Rootless::Said(false));
    assert_eq!(parsed("--cgroup-manager systemd list").unwrap().global.cgroup_manager, Some(Driver::Systemd));
}

#[test]
fn version_has_the_lines_that_engines_parse() {
    let text = parsed("-v").unwrap_err().render().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("emergence-runc version {}", env!("CARGO_PKG_VERSION")));
    assert!(lines[1].starts_with("commit: "));
    assert_eq!(lines[2], "spec: 1.3.0");
    assert!(lines[3].starts_with("rust: "));
}
