//! One short function per command: turns options into a request, and the result into text.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::ExitCode;

use clap::CommandFactory as _;
use regex_lite::Regex;

use super::args::{self, Cli, Command, Global, ListFormat};
#[cfg(feature = "emergence")]
use super::emergence;
use super::output::{self, print};
use super::settings::settings;
use super::{ps, signal, update};
use crate::container::{self, ContainerId, request};
use crate::error::{Doing, Error, Kind, Result};
use crate::spec;

/// Runs the command of the command line. After a `run` in the foreground, the exit status is the
/// container's.
pub(crate) fn dispatch(command: Command, global: &Global) -> Result<ExitCode> {
    if container::report::enabled() {
        begin(&command, global)?;
    }
    match command {
        Command::Create(args) => container::create(&settings(global)?, &new_container(args)?),
        Command::Start(args) => container::start(&settings(global)?, &args.id.parse()?),
        Command::Run(args) => return run(args, global),
        Command::Exec(args) => return exec(*args, global),
        Command::State(args) => state(&args, global),
        Command::Kill(args) => kill(&args, global),
        Command::Delete(args) => delete(&args, global),
        Command::List(args) => list(&args, global),
        Command::Ps(args) => ps::ps(&args, global),
        Command::Pause(args) => container::pause(&settings(global)?, &args.id.parse()?),
        Command::Resume(args) => container::resume(&settings(global)?, &args.id.parse()?),
        Command::Events(args) => events(&args, global),
        Command::Mounts(args) => mounts(&args.action, global),
        Command::Update(args) => {
            container::update(&settings(global)?, &args.id.parse()?, &update::request(&args)?)
        }
        Command::Spec(args) => new_spec(&args),
        Command::Features => print(&output::document(&spec::features::features(container::support()), "  ")?),
        Command::Check(args) => check(&args),
        Command::Checkpoint(args) => checkpoint(args, global),
        Command::Restore(args) => return restore(args, global),
        #[cfg(feature = "emergence")]
        Command::Emergence(args) => return emergence::dispatch(args, global),
        Command::Completion(args) => completion(args.shell),
        Command::Man(args) => output::man_pages(Cli::command(), &args.dir),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Logs the command and its container at debug level.
fn begin(command: &Command, global: &Global) -> Result<()> {
    let (doing, id) = match command {
        Command::Create(args) => ("create", args.id.as_str()),
        Command::Start(args) => ("start", args.id.as_str()),
        Command::Run(args) => ("run", args.create.id.as_str()),
        Command::Exec(args) => ("exec", args.id()),
        Command::State(args) => ("state", args.id.as_str()),
        Command::Kill(args) => ("kill", args.id.as_str()),
        Command::Delete(args) => ("delete", args.id.as_str()),
        Command::Pause(args) => ("pause", args.id.as_str()),
        Command::Resume(args) => ("resume", args.id.as_str()),
        Command::Events(args) => ("events", args.id.as_str()),
        Command::Update(args) => ("update", args.id.as_str()),
        Command::Checkpoint(args) => ("checkpoint", args.id.as_str()),
        Command::Restore(args) => ("restore", args.id.as_str()),
        _ => return Ok(()),
    };
    container::report::begin(doing, id, &settings(global)?);
    Ok(())
}

fn new_container(args: args::CreateArgs) -> Result<request::Create> {
    Ok(args.passed.create(args.id.parse()?, args.bundle, args.config))
}

fn run(args: args::RunArgs, global: &Global) -> Result<ExitCode> {
    let request = args.stay.run(new_container(args.create)?);
    container::run(&settings(global)?, &request).map(exit_code)
}

/// As for exit(3): only the low eight bits reach the parent.
fn exit_code(status: i32) -> ExitCode {
    ExitCode::from(status.to_le_bytes()[0])
}

fn exec(args: args::ExecArgs, global: &Global) -> Result<ExitCode> {
    let request = request::Exec {
        id: args.id().parse()?,
        args: args.command().to_vec(),
        process: args.process,
        changes: request::Changes {
            cwd: args.cwd,
            env: args.env,
            terminal: args.tty,
            user: args.user,
            additional_gids: args.additional_gids,
            selinux_label: args.process_label,
            apparmor_profile: args.apparmor,
            no_new_privileges: args.no_new_privs,
            capabilities: args.cap,
        },
        detach: args.detach,
        console_socket: args.console_socket,
        pid_file: args.pid_file,
        pidfd_socket: args.pidfd_socket,
        preserve_fds: args.preserve_fds,
        ignore_paused: args.ignore_paused,
        cgroups: args.cgroup,
    };
    container::exec(&settings(global)?, &request).map(exit_code)
}

fn state(args: &args::IdArg, global: &Global) -> Result<()> {
    let state = container::state(&settings(global)?, &args.id.parse()?)?;
    print(&output::document(&state, "  ")?)
}

fn kill(args: &args::KillArgs, global: &Global) -> Result<()> {
    let signal = signal::parse(&args.signal)?;
    let settings = settings(global)?;
    let one = |id: &ContainerId| container::kill(&settings, id, signal, args.all);
    if args.regex { each(matching(&settings, &args.id)?, "kill", one) } else { one(&args.id.parse()?) }
}

fn delete(args: &args::DeleteArgs, global: &Global) -> Result<()> {
    let settings = settings(global)?;
    let one = |id: &ContainerId| container::delete(&settings, id, args.force);
    if args.regex { each(matching(&settings, &args.id)?, "delete", one) } else { one(&args.id.parse()?) }
}

/// The containers whose ID contains a match of `pattern`; `^` and `$` anchor it, as in crun.
fn matching(settings: &request::Settings, pattern: &str) -> Result<Vec<ContainerId>> {
    let pattern = Regex::new(pattern)
        .map_err(|error| Error::new(Kind::Usage, format!("regular expression {pattern:?}: {error}")))?;
    let states = container::list(settings)?;
    states.iter().filter(|state| pattern.is_match(&state.id)).map(|state| state.id.parse()).collect()
}

/// Continues after a container that fails, so that it does not prevent the others.
fn each(ids: Vec<ContainerId>, verb: &str, one: impl Fn(&ContainerId) -> Result<()>) -> Result<()> {
    let failed =
        ids.iter().filter(|id| one(id).inspect_err(|error| tracing::error!("{verb} {id}: {error}")).is_err());
    match failed.count() {
        0 => Ok(()),
        count => Err(Error::new(Kind::System, format!("{verb}: {count} of {} containers failed", ids.len()))),
    }
}

fn list(args: &args::ListArgs, global: &Global) -> Result<()> {
    let states = container::list(&settings(global)?)?;
    print(&match args.format {
        _ if args.quiet => output::ids(&states),
        ListFormat::Table => output::table(&states),
        ListFormat::Json => output::array(&states)?,
    })
}

fn events(args: &args::EventsArgs, global: &Global) -> Result<()> {
    let request = request::Events { interval: (!args.stats).then_some(args.interval) };
    container::events(&settings(global)?, &args.id.parse()?, &request, rustix::stdio::stdout())
}

fn mounts(action: &args::MountsAction, global: &Global) -> Result<()> {
    let settings = settings(global)?;
    match action {
        args::MountsAction::Add(args) => container::add_mounts(&settings, &args.id.parse()?, &args.file),
        args::MountsAction::Remove(args) => {
            container::remove_mounts(&settings, &args.id.parse()?, &args.file)
        }
    }
}

fn new_spec(args: &args::SpecArgs) -> Result<()> {
    let mut spec = spec::defaults::spec();
    if args.rootless {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        spec::defaults::rootless(&mut spec, user.as_raw(), group.as_raw());
    }
    let text = output::document(&spec, "\t")?;
    let path = args.bundle.join("config.json");
    let mut file = match File::options().write(true).create_new(true).mode(0o644).open(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::new(Kind::Exists, "File config.json exists. Remove it first"));
        }
        opened => opened.doing(|| format!("create {}", path.display()))?,
    };
    file.write_all(text.as_bytes()).doing(|| format!("write {}", path.display()))
}

fn check(args: &args::CheckArgs) -> Result<()> {
    let path = args.bundle.join("config.json");
    let container::Findings { faults, warnings } = container::check(&path, &args.bundle);
    let warnings = warnings.iter().map(|warning| format!("warning: {warning}\n"));
    print(&faults.iter().map(|fault| format!("{fault}\n")).chain(warnings).collect::<String>())?;
    if faults.is_empty() {
        return print(&format!("{}: no faults\n", path.display()));
    }
    let count = if faults.len() == 1 { "1 fault".into() } else { format!("{} faults", faults.len()) };
    Err(Error::new(Kind::Invalid, format!("{}: {count}", path.display())))
}

fn images(args: args::ImagesArgs) -> container::Images {
    container::Images {
        path: args.image_path,
        work_path: args.work_path,
        tcp_established: args.tcp_established,
        ext_unix_sk: args.ext_unix_sk,
        shell_job: args.shell_job,
        file_locks: args.file_locks,
        auto_dedup: args.auto_dedup,
        lazy_pages: args.lazy_pages,
        empty_network: args.empty_ns.contains(&args::EmptyNamespace::Network),
        cgroups: args.manage_cgroups_mode.into(),
    }
}

fn checkpoint(args: args::CheckpointArgs, global: &Global) -> Result<()> {
    let request = container::Checkpoint {
        id: args.id.parse()?,
        images: images(args.images),
        parent_path: args.parent_path,
        leave_running: args.leave_running,
        pre_dump: args.pre_dump,
        tcp_skip_in_flight: args.tcp_skip_in_flight,
        link_remap: args.link_remap,
        status_fd: args.status_fd,
        page_server: args.page_server,
    };
    container::checkpoint(&settings(global)?, &request)
}

fn restore(args: args::RestoreArgs, global: &Global) -> Result<ExitCode> {
    let create = request::Create {
        id: args.id.parse()?,
        bundle: args.bundle,
        bundle_goes: false,
        config: None,
        console_socket: args.console_socket,
        pid_file: args.pid_file,
        pidfd_socket: None,
        no_pivot: args.no_pivot,
        no_new_keyring: true,
        preserve_fds: 0,
    };
    let request = container::Restore {
        create,
        images: images(args.images),
        detach: args.detach,
        no_subreaper: args.no_subreaper,
        tcp_close: args.tcp_close,
        lsm_profile: args.lsm_profile.unwrap_or_default(),
        lsm_mount_context: args.lsm_mount_context.unwrap_or_default(),
    };
    let status = container::restore(&settings(global)?, &request)?;
    Ok(ExitCode::from(status.to_le_bytes()[0]))
}

fn completion(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "emergence-runc", &mut script);
    print(&String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn completions_know_every_command_and_its_options() {
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "emergence-runc", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["create", "delete", "check", "console-socket", "cgroup-manager"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn a_failure_does_not_stop_the_others() {
        let ids: Vec<ContainerId> = ["a", "b", "c"].iter().map(|id| id.parse().unwrap()).collect();
        let seen = std::cell::RefCell::new(Vec::new());
        let error = each(ids, "kill", |id| {
            seen.borrow_mut().push(id.to_string());
            if id.as_ref() == "c" { Ok(()) } else { Err(Error::new(Kind::State, "no")) }
        });
        assert_eq!(error.unwrap_err().to_string(), "kill: 2 of 3 containers failed");
        assert_eq!(seen.into_inner(), ["a", "b", "c"]);
    }

    #[test]
    fn a_new_spec_is_written_once() {
        let directory = tempfile::tempdir().unwrap();
        let args = args::SpecArgs { bundle: directory.path().to_owned(), rootless: false };
        new_spec(&args).unwrap();
        let text = std::fs::read(directory.path().join("config.json")).unwrap();
        assert_eq!(spec::parse(&text).unwrap().oci_version, "1.3.0");
        assert_eq!(new_spec(&args).unwrap_err().to_string(), "File config.json exists. Remove it first");
    }
}
