//! The program without artifacts: `cargo test --no-default-features --test main`.

use serde_json::json;

use crate::support::Env;

#[test]
fn there_is_no_command_for_artifacts() {
    let Some(env) = Env::new() else { return };
    let help = env.runtime(&["--help"]).ok().stdout;
    let names: Vec<&str> = help.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"create") && !names.contains(&"emergence"), "{help}");
    env.runtime(&["emergence", "hash", "/"]).exits(1).says("No help topic for 'emergence'");
    let script = env.runtime(&["completion", "bash"]).ok().stdout;
    assert!(script.contains("checkpoint") && !script.contains("store-path"), "{script}");
}

#[test]
fn a_demanded_verification_is_refused() {
    let Some(env) = Env::new() else { return };
    for name in ["verify", "expect"] {
        let whole = format!("com.matrixai.emergence.{name}");
        let bundle = env.bundle(&["true"]).edit(|config| config["annotations"] = json!({ &whole: "full" }));
        let refused = env.run(&bundle).fails();
        refused.logs(&format!("annotations[\"{whole}\"]")).logs("without the feature \"emergence\"");
    }
    let other = env.bundle(&["true"]).edit(|config| {
        config["annotations"] = json!({ "com.matrixai.emergence.closure": "", "org.other.verify": "full" });
    });
    env.run(&other).ok();
}
