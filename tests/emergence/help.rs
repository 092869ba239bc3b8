//! What the verbs say of themselves.

use crate::support::emergence;

#[test]
fn options_of_a_verb_precede_common_options() {
    let run = emergence(&["run", "--help"]);
    let arguments = ["<ref>", "<container-id>", "[args]"].map(|name| run.ok().find(&format!("\n  {name}")));
    assert!(arguments.is_sorted() && arguments[0].is_some(), "{arguments:?}");
    let headings = ["ARGUMENTS:", "OPTIONS:", "OPTIONS FOR A SINGLE NAR:", "OPTIONS OF EVERY VERB:"];
    for verb in ["run", "bundle", "verify", "unpack", "import", "need"] {
        let help = emergence(&[verb, "--help"]);
        let lines: Vec<&str> = help.ok().lines().collect();
        let told: Vec<&&str> = lines.iter().filter(|line| headings.contains(*line)).collect();
        assert_eq!(told, headings.iter().collect::<Vec<_>>(), "{verb}");
        let option = |name: &str| lines.iter().position(|line| line.trim_start().starts_with(name));
        let place = |heading: &str| lines.iter().position(|line| *line == heading);
        for own in ["--param", "--strict", "--to ", "-d, --detach", "--preserve-fds"] {
            assert!(option(own).is_none() || option(own) < place(headings[2]), "{verb}: {own}");
        }
        assert!(
            option("--platform") < place(headings[2]) && place(headings[2]) < option("--nar-hash"),
            "{verb}"
        );
        assert!(
            option("--nar-hash") < place(headings[3]) && place(headings[3]) < option("--store "),
            "{verb}"
        );
    }
}

/// Once, with any other options on the line.
#[test]
fn help_is_reported_once() {
    for words in
        [&["gc", "-h"][..], &["hash", "--help"], &["help", "gc"], &["nar", "dump", "--help"], &["-h"]]
    {
        let told = emergence(words);
        assert_eq!(told.ok().matches("USAGE:").count() + told.ok().matches("Usage:").count(), 1, "{words:?}");
    }
    emergence(&["gc", "--bogus", "--help"]).fails(2, "not defined: -bogus");
    // If the program has not run, the exit status is none that it could return.
    emergence(&["run", "--network", "none", "oci:x", "c"]).fails(125, "--network");
}
