//! `ps`: the container's processes as a JSON list, or as the corresponding lines of ps(1).

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use super::args::{Global, ListFormat, PsArgs};
use super::output::print;
use super::settings::settings;
use crate::container;
use crate::error::{Doing, Error, Kind, Result};

/// Default options of ps(1), as in runc.
const USUAL: &str = "-ef";

/// `ps`.
pub(crate) fn ps(args: &PsArgs, global: &Global) -> Result<()> {
    let (id, options) = args.words.split_first().map_or(("", &[][..]), |(id, rest)| (id.as_str(), rest));
    if id.starts_with('-') {
        return Err(Error::new(Kind::Usage, format!("unexpected argument '{id}' found")));
    }
    let pids = container::processes(&settings(global)?, &id.parse()?)?;
    if args.format == ListFormat::Json {
        let numbers: Vec<String> = pids.iter().map(ToString::to_string).collect();
        return print(&format!("[{}]\n", numbers.join(",")));
    }
    print(&filter_table(&everything(options)?, &pids.into_iter().collect())?)
}

/// The output of ps(1) for the whole host.
fn everything(options: &[String]) -> Result<String> {
    let mut command = Command::new("ps");
    match options {
        [] => command.arg(USUAL),
        options => command.args(options),
    };
    let doing = || format!("run ps {}", if options.is_empty() { USUAL.into() } else { options.join(" ") });
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().doing(doing)?;
    if !output.status.success() {
        return Err(Error::new(Kind::System, format!("{}: {}", doing(), output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The header of a table of ps(1), and the lines with one of `pids` in the column PID.
fn filter_table(table: &str, pids: &BTreeSet<i32>) -> Result<String> {
    let mut lines = table.lines();
    let head = lines.next().unwrap_or_default();
    let Some(column) = head.split_whitespace().position(|name| name == "PID") else {
        let words =
            format!("the table of ps has no column PID, only: {}; add pid to its options", head.trim());
        return Err(Error::new(Kind::Usage, words));
    };
    let mut kept = format!("{head}\n");
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let cell = line.split_whitespace().nth(column).unwrap_or_default();
        let pid: i32 = cell.parse().map_err(|_| {
            let words = format!("{cell:?} is in the column PID of ps; put pid first among its columns");
            Error::new(Kind::Usage, words)
        })?;
        if pids.contains(&pid) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_the_column() {
        let pids = BTreeSet::from([7, 70]);
        let table = [
            ("UID PID CMD\nroot 7 sh\nroot 8 7\nroot 70 a b\n", Ok("UID PID CMD\nroot 7 sh\nroot 70 a b\n")),
            ("  PID TTY\n    7 ?\n    1 ?\n", Ok("  PID TTY\n    7 ?\n")),
            ("PID\n", Ok("PID\n")),
            ("CMD\nsh\n", Err("the table of ps has no column PID, only: CMD; add pid to its options")),
            ("", Err("the table of ps has no column PID, only: ; add pid to its options")),
            (
                "STARTED PID\nMon Jan 1 7\n",
                Err("\"Jan\" is in the column PID of ps; put pid first among its columns"),
            ),
        ];
        for (given, want) in table {
            let found = filter_table(given, &pids).map_err(|error| error.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), want, "{given}");
        }
    }
}
