//! Output of commands: JSON documents, the table of `list`, man pages.

use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use crate::container::State;
use crate::error::{Doing, Error, Kind, Result};

/// Prints `text` at once. A reader that has closed the pipe, such as `head`, is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).doing(|| "write to standard output")
        }
        _ => Ok(()),
    }
}

/// A document for people, like config.json: indented by `indent`, with a newline at the end.
pub(crate) fn document(value: &impl Serialize, indent: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, form))
        .map_err(|error| Error::new(Kind::Invalid, format!("write JSON: {error}")))?;
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(|error| Error::new(Kind::Invalid, format!("write JSON: {error}")))
}

/// The containers as one JSON array on one line.
pub(crate) fn array(states: &[State]) -> Result<String> {
    serde_json::to_string(states)
        .map(|line| line + "\n")
        .map_err(|error| Error::new(Kind::Invalid, format!("write JSON: {error}")))
}

/// The containers' IDs, one per line.
pub(crate) fn ids(states: &[State]) -> String {
    states.iter().map(|state| format!("{}\n", state.id)).collect()
}

/// Minimum width of a table column, and the padding after its longest cell: runc's, since scripts
/// cut by position.
const NARROWEST: usize = 12;
const BETWEEN: usize = 3;

/// The containers as a table with runc's columns.
pub(crate) fn table(states: &[State]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let row = |state: &State| {
        [
            state.id.clone(),
            state.pid.to_string(),
            state.status.to_string(),
            state.bundle.replace(char::is_control, "?"), // a line break would look like another container
            state.created.clone(),
            state.owner.clone(),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(states.iter().map(row)).collect();
    let mut widths = [NARROWEST; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + BETWEEN);
        }
    }
    let mut text = String::new();
    for [cells @ .., last] in &rows {
        for (cell, width) in cells.iter().zip(widths) {
            text.push_str(&format!("{cell:width$}"));
        }
        text.push_str(last);
        text.push('\n');
    }
    text
}

/// Writes a man page of section 8 to `directory` for the program, each of its commands, and their
/// subcommands.
pub(crate) fn man_pages(mut program: clap::Command, directory: &Path) -> Result<()> {
    program = program.version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true);
    program.build();
    let mut left = vec![program];
    while let Some(command) = left.pop() {
        left.extend(
            command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help").cloned(),
        );
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        let about =
            command.get_before_help().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
        let about = about.strip_prefix("DESCRIPTION:\n").unwrap_or(&about).trim_start().to_owned();
        let manual = concat!("emergence-runc ", env!("CARGO_PKG_VERSION"));
        clap_mangen::Man::new(command.long_about(about))
            .section("8")
            .source(manual)
            .generate_to(directory)
            .doing(|| format!("write {}/{name}.8", directory.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Cli;
    use clap::CommandFactory as _;

    fn web() -> State {
        State {
            id: "web".into(),
            pid: 7,
            bundle: "/srv/some-long-bundle".into(),
            owner: "root".into(),
            ..State::default()
        }
    }

    #[test]
    fn the_table_has_runcs_columns() {
        assert_eq!(table(&[]), "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
        let long = State { id: "a-much-longer-id".into(), ..web() };
        let text = table(&[web(), long]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].starts_with("web                7           "), "{text}");
        assert!(lines[2].starts_with("a-much-longer-id   7           "), "{text}");
        assert_eq!(lines[0].find("CREATED"), Some(19 + 12 + 12 + 24));
        assert!(
            lines.iter().all(|line| line.find("OWNER").or(line.find("root")) == Some(19 + 12 + 12 + 24 + 12))
        );
    }

    #[test]
    fn documents_are_indented_as_asked() {
        let value = serde_json::json!({ "a": [1] });
        assert_eq!(document(&value, "\t").unwrap(), "{\n\t\"a\": [\n\t\t1\n\t]\n}\n");
    }

    #[test]
    fn state_has_runcs_members_in_runcs_order() {
        let text = document(&web(), "  ").unwrap();
        let places: Vec<_> = ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"]
            .iter()
            .map(|name| text.find(&format!("\n  \"{name}\": ")).unwrap_or_else(|| panic!("{name} in {text}")))
            .collect();
        assert!(places.is_sorted(), "{text}");
        assert_eq!(array(&[]).unwrap(), "[]\n");
        assert_eq!(ids(&[web(), web()]), "web\nweb\n");
    }

    #[test]
    fn every_command_has_a_man_page() {
        let directory = tempfile::tempdir().unwrap();
        man_pages(Cli::command(), directory.path()).unwrap();
        let page = std::fs::read_to_string(directory.path().join("emergence-runc-create.8")).unwrap();
        assert!(page.contains("emergence\\-runc\\-create \\- create a container"), "{page}");
        assert!(page.contains("The create command creates a container"), "{page}");
        assert!(page.contains("\\-\\-pidfd\\-socket"), "{page}");
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(directory.path().join(format!("emergence-runc-{}.8", command.get_name())).exists());
        }
        assert!(directory.path().join("emergence-runc.8").exists());
        assert!(directory.path().join("emergence-runc-man.8").exists());
    }

    #[cfg(feature = "emergence")]
    #[test]
    fn every_verb_has_a_man_page() {
        let directory = tempfile::tempdir().unwrap();
        man_pages(Cli::command(), directory.path()).unwrap();
        let program = Cli::command();
        let verbs = program.find_subcommand("emergence").unwrap().get_subcommands();
        for verb in verbs {
            let page = directory.path().join(format!("emergence-runc-emergence-{}.8", verb.get_name()));
            let page = std::fs::read_to_string(page).unwrap();
            assert!(page.contains("EXAMPLE"), "{page}");
        }
        assert!(directory.path().join("emergence-runc-emergence-nar-dump.8").exists());
    }
}
