//! The words of runc that scripts look for, and where a word on the command line belongs.

use serde_json::json;

use crate::support::{Env, Output};

#[test]
fn wrong_command_lines_have_runcs_messages() {
    let Some(env) = Env::new() else { return };
    let table: &[(&[&str], &str)] = &[
        (&["nonsense"], "No help topic for 'nonsense'"),
        (&["nonsense", "--help"], "No help topic for 'nonsense'"),
        (&["state"], "\"state\" requires exactly 1 argument"),
        (&["create", "a", "b"], "\"create\" requires exactly 1 argument"),
        (&["list", "a"], "\"list\" requires exactly 0 argument"),
        (&["exec"], "\"exec\" requires a minimum of 1 argument"),
        (&["start", "--nonsense", "a"], "flag provided but not defined: -nonsense"),
        (&["--nonsense", "list"], "flag provided but not defined: -nonsense"),
        (&["create", "--pid-file"], "flag needs an argument: -"),
        (&["state", "a/b"], "invalid container ID format"),
        (&["state", "nobody"], "container does not exist"),
    ];
    for (line, words) in table {
        let said = env.runtime(line).fails();
        // runc puts the same on standard output and in the log.
        assert!(
            (said.stdout.clone() + &said.stderr).replace("\\\"", "\"").contains(words),
            "{line:?}: {}",
            said.stderr
        );
    }
    std::fs::create_dir_all(env.root()).unwrap();
    env.runtime(&["list", "--format", "nonsense"]).fails().says("invalid format option");
}

#[test]
fn wrong_container_states_have_runcs_messages() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["sleep", "1000"]);
    env.launch("web", &bundle);
    env.create("web", &bundle).fails().says("container with given ID already exists");
    env.runtime(&["pause", "web"]).ok();
    env.runtime(&["exec", "web", "true"])
        .exits(255)
        .says("cannot exec in a paused container (use --ignore-paused to override");
    env.runtime(&["resume", "web"]).ok();
    env.runtime(&["kill", "web", "KILL"]).ok();
    env.wait_for("web", "stopped");
    env.runtime(&["exec", "web", "true"]).exits(255).says("cannot exec in a stopped container");
    env.delete("web");
    let terminal = env.bundle(&["true"]).set("process/terminal", json!(true));
    env.create("tty", &terminal)
        .fails()
        .says("cannot allocate tty if runc will detach without setting console socket");
    bundle.write();
    env.runtime(&["create", "--console-socket", "/nosuch", "-b", bundle.str(), "web"])
        .fails()
        .says("cannot use console socket if runc will not detach or allocate tty");
    for (hooks, words) in [
        (
            json!({"createRuntime": [{"path": "/bin/true"}, {"path": "/bin/false"}]}),
            "error running createRuntime hook #1:",
        ),
        (json!({"createContainer": [{"path": "/bin/false"}]}), "error running createContainer hook #0:"),
        (json!({"startContainer": [{"path": "/bin/false"}]}), "error running startContainer hook #0:"),
        (json!({"poststart": [{"path": "/bin/false"}]}), "error running poststart hook #0:"),
    ] {
        env.run(&env.bundle(&["true"]).set("hooks", hooks)).fails().says(words);
    }
}

#[test]
fn arguments_after_the_id_are_the_programs() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    let exec = |words: &[&str]| -> Output { env.runtime(&[&["exec"], words].concat()) };
    exec(&["web", "echo", "-h", "--help", "-e", "--", "-d"]).ok().prints("-h --help -e -- -d");
    exec(&["web", "-h"]).exits(255).logs("exec: \"-h\": executable file not found in $PATH");
    exec(&["--", "web", "echo", "-t"]).ok().prints("-t");
    // The program's own status is never taken for this.
    exec(&["--user", "nobody", "web", "true"]).exits(255);
    env.delete("web");
}
