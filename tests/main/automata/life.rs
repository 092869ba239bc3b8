//! Containers of artifacts from their start to their end: detached, many at once, and their runtime
//! killed.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use super::World;

#[test]
fn objects_of_a_running_container_are_kept() {
    let Some(world) = World::new() else { return };
    let web = &world.id("web");
    let reference = world.script("app", "echo up; sleep 100");
    world.emergence(&["run", "--detach", &reference, web]).ok();
    let busybox = world.busybox();
    let there = || world.store().join(busybox.trim_start_matches('/')).exists();
    world.emergence(&["gc"]).ok();
    assert!(there());
    // Another command works in it, and a second container of the same name is refused.
    world.env.runtime(&["exec", web, &format!("{busybox}/bin/id"), "-u"]).ok().prints("0");
    world.emergence(&["run", "--detach", &reference, web]).exits(125);
    world.emergence(&["gc"]).ok();
    assert!(there(), "the first one's lease is its own");
    world.env.delete(web);
    world.emergence(&["gc"]).ok();
    assert!(!there());
    world.is_free();
}

#[test]
fn a_killed_runtime_leaves_the_container_and_what_it_needs() {
    let Some(world) = World::new() else { return };
    let web = &world.id("web");
    let reference = world.script("app", "echo up; sleep 100");
    world.run_and_kill(&reference, web);
    let busybox = world.busybox();
    let there = || world.store().join(busybox.trim_start_matches('/')).exists();
    world.emergence(&["gc"]).ok();
    assert_eq!(world.env.state(web)["status"], "running");
    assert!(there());
    world.env.delete(web);
    world.emergence(&["gc"]).ok();
    assert!(!there());
    world.is_free();
}

#[test]
fn killed_at_any_moment_nothing_stays_that_the_next_command_minds() {
    let Some(world) = World::new() else { return };
    let web = &world.id("web");
    let reference = world.script("app", "echo done");
    for delay in [5, 50, 150, 400] {
        let running = world.call(&["run", &reference, web]).start();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        // It may have ended by itself.
        let _ = kill_process(Pid::from_raw(running.pid()).unwrap(), Signal::KILL);
        running.wait();
        world.env.delete(web);
        world.emergence(&["run", &reference, web]).ok().prints("done");
    }
    world.emergence(&["gc"]).ok();
    world.is_free();
    let staged: Vec<_> = fs::read_dir(world.store().join("tmp")).unwrap().flatten().collect();
    assert!(staged.is_empty(), "{staged:?}");
}

#[test]
fn twenty_at_once() {
    let Some(world) = World::new() else { return };
    let reference = world.script("app", "echo $0; exit 3");
    let calls: Vec<_> = (0..20)
        .map(|number| {
            let (id, word) = (world.id(&format!("n{number}")), format!("w{number}"));
            let call = world.call(&["run", &reference, &id, "--", &word]).start();
            (word, call)
        })
        .collect();
    for (word, call) in calls {
        call.wait().exits(3).prints(&word);
    }
    world.is_free();
}
