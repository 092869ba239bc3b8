//! Characters pushed into the input of a terminal of the host (TIOCSTI): its shell would run them
//! once the container has ended.

use std::fs;

use super::actor;
use crate::support::{Bundle, Env, on_test_machine};

/// Whether this kernel allows it (legacy TIOCSTI), ioctl_tty(2). The test machine's does.
fn possible() -> bool {
    let switch = "/proc/sys/dev/tty/legacy_tiocsti";
    if on_test_machine() {
        let _ = fs::write(switch, "1");
    }
    // Kernels before 6.2 have no switch, and always do it.
    let possible = fs::read_to_string(switch).map_or(true, |text| text.trim() == "1");
    if !possible {
        println!("skipped: this kernel pushes no characters (dev.tty.legacy_tiocsti)");
    }
    possible
}

/// Runs the runtime with `words` on a terminal that represents the host's; returns the terminal's
/// output.
fn on_a_terminal(env: &Env, words: &str) -> String {
    let command = format!("{} --root {} {words}", env.binary().display(), env.root().display());
    env.program("script", &["-qec", &command, "/dev/null"]).env("SHELL", "/bin/sh").run().stdout
}

/// The container has the terminal of its caller as its standard input, and no more rights than any.
fn on_the_callers(env: &Env, part: &str) -> Bundle {
    actor::playing(env.bundle(&[]), part).set("process/capabilities", super::capabilities(&["CAP_KILL"]))
}

#[test]
fn nothing_is_typed_into_the_callers_terminal() {
    let Some(env) = Env::new() else { return };
    if !possible() {
        return;
    }
    for place in ["/proc/self/fd/0", "/dev/stdin", "/dev/tty"] {
        let bundle = on_the_callers(&env, &format!("type-into {place}"));
        bundle.write();
        let said = on_a_terminal(&env, &format!("run -b {} {}", bundle.str(), env.id()));
        assert!(!said.contains("typed") && !said.contains("injected"), "{place}: {said}");
        assert!(said.contains("refused: ") || said.contains("open the terminal"), "{place}: {said}");
    }
}

#[test]
fn nothing_is_typed_into_the_terminal_of_exec() {
    let Some(env) = Env::new() else { return };
    if !possible() {
        return;
    }
    let bundle = actor::with_actor(env.bundle(&["sleep", "1000"]));
    env.launch("web", &bundle.set("process/capabilities", super::capabilities(&["CAP_KILL"])));
    let words = actor::WORDS.join(" ");
    for place in ["/proc/self/fd/0", "/dev/tty"] {
        let said = on_a_terminal(&env, &format!("exec -e 'ATTACK=type-into {place}' web {words}"));
        assert!(!said.contains("typed") && !said.contains("injected"), "{place}: {said}");
        assert!(said.contains("refused: ") || said.contains("open the terminal"), "{place}: {said}");
    }
    env.delete("web");
}
