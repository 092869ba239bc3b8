//! System calls of each command, counted: their number is exact enough to show a loss of speed that
//! a clock does not.

use std::fs;

use serde_json::json;

use crate::support::{Env, on_test_machine};

/// Not counted: the allocator's calls, which differ between C libraries, and fcntl(2), with which
/// std checks each descriptor that it closes in a debug build.
const COUNTED: &str = "trace=!fcntl,brk,madvise,mmap,mprotect,mremap,munmap";

/// How many calls a command makes, with those of the processes that it creates; only its own for
/// `create`, as strace would wait for the container.
fn calls_of(env: &Env, args: &[&str]) -> usize {
    let summary = env.dir().join("run/calls");
    let file = summary.to_str().unwrap();
    let follow: &[&str] = if args[0] == "create" { &[] } else { &["-f"] };
    let options = [follow, &["-qq", "-c", "-e", COUNTED, "-o", file]].concat();
    env.strace(&options, args).run().ok();
    let summary = fs::read_to_string(summary).unwrap();
    let total = summary.lines().find(|line| line.ends_with(" total")).unwrap();
    total.split_whitespace().nth(3).unwrap().parse().unwrap()
}

fn counts(env: &Env) -> bool {
    if on_test_machine() {
        println!(
            "skipped: each controller of a cgroup adds calls; where there are none, their number is known"
        );
        return false;
    }
    let ours = env.ours("the number of its calls");
    ours && !env.is_older() && env.has("strace", "strace")
}

#[test]
fn no_command_makes_many() {
    let Some(env) = Env::new() else { return };
    if !counts(&env) {
        return;
    }
    let bundle = env.bundle(&["/bin/true"]).set("root/readonly", json!(true));
    let waiting = env.bundle(&["sleep", "1000"]);
    bundle.write();
    waiting.write();
    // The first container enables controllers in the cgroup above.
    env.runtime(&["run", "-b", bundle.str(), "first"]).ok();
    let exec = ["exec", "web", "/bin/true"];
    let commands: [(&[&str], usize); 6] = [
        (&["run", "-b", bundle.str(), "once"], 352),
        (&["create", "-b", waiting.str(), "web"], 141),
        (&["start", "web"], 60),
        (&exec, 232),
        (&["state", "web"], 52),
        (&["delete", "--force", "web"], 64),
    ];
    let mut found = Vec::new();
    for (args, reached) in commands {
        found.push((args[0], calls_of(&env, args), reached));
    }
    println!("command, calls, calls when this test was written: {found:?}");
    for (command, calls, reached) in found {
        assert!(calls * 10 <= reached * 11, "{command}: {calls} calls, and it once needed {reached}");
    }
}

/// The state of a container is found with few calls, and the names of users are read once.
#[test]
fn a_list_makes_few_for_each_container() {
    let Some(env) = Env::new() else { return };
    if !counts(&env) {
        return;
    }
    let launch = |count: std::ops::Range<usize>| {
        count.for_each(|at| drop(env.launch(&format!("web{at}"), &env.bundle(&["sleep", "1000"]))));
    };
    launch(0..2);
    let few = calls_of(&env, &["list"]);
    launch(2..6);
    let more = calls_of(&env, &["list"]);
    let each = (more - few).div_ceil(4);
    println!("calls of list: {few} for 2 containers, {each} for each further one");
    assert!(each <= 14, "{each} calls for each container");
    let owners = env.runtime(&["list"]).ok().stdout;
    assert_eq!(owners.lines().filter(|line| line.ends_with(" root")).count(), 6, "{owners}");
    (0..6).for_each(|at| env.delete(&format!("web{at}")));
}
