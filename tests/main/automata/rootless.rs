//! A rootless user runs artifacts: their bundles are in the user's store, and are removed with
//! their containers.

use std::fs;

use emergence_runc::emergence::automaton::Form;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::World;
use super::images::image;

impl World {
    /// Bundles in the store, by name.
    fn bundles(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store().join("bundles")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn no_bundle(&self) {
        assert_eq!(self.bundles(), [""; 0]);
        self.emergence(&["gc"]).ok();
        self.is_free();
    }
}

#[test]
fn every_root_file_system_of_a_user_runs_and_goes() {
    let Some(world) = World::rootless() else { return };
    let reference = world.script("app", "id -u; exit 4");
    for rootfs in ["bind", "copy"] {
        let id = world.id(rootfs);
        world.emergence(&["run", "--rootfs", rootfs, &reference, &id]).exits(4).prints("0");
        world.no_bundle();
    }
    // What cannot be started leaves nothing either.
    let id = world.id("none");
    world.emergence(&["run", "--netns", "/none/such", &reference, &id]).exits(125);
    world.emergence(&["run", &reference, &id, "--", "x"]).exits(4);
    world.no_bundle();
    let kept = world.id("kept");
    world.emergence(&["run", "--keep", &reference, &kept]).exits(4);
    assert_eq!(world.env.state(&kept)["status"], "stopped");
    world.emergence(&["run", &reference, &kept]).exits(125).says("already exists");
    world.env.runtime(&["delete", &kept]).ok();
    world.no_bundle();
}

#[test]
fn images_run_as_far_as_a_user_has_ids() {
    let Some(world) = World::rootless() else { return };
    let Some(reference) = image(&world) else { return };
    let id = &world.id("image");
    // It requests the user web, which a rootless container does not have.
    world.emergence(&["run", &reference, id]).exits(125).says("no entry of linux.uidMappings has 33");
    world.no_bundle();
    let bundle = world.text("run/b");
    world.emergence(&["bundle", &reference, &bundle]).ok();
    let file = world.path("run/b/config.json");
    let text = fs::read_to_string(&file).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["process"]["user"] = json!({"uid": 0, "gid": 0});
    fs::write(&file, config.to_string()).unwrap();
    let output = world.env.runtime(&["run", "--bundle", &bundle, id]).ok();
    assert!(output.stdout.starts_with("uid=0") && output.stdout.ends_with("b\nwritten\n"), "{output:?}");
}

#[test]
fn a_detached_container_of_a_user_has_its_bundle_until_it_is_deleted() {
    let Some(world) = World::rootless() else { return };
    let reference = world.script("app", "echo up; exec sleep 100");
    for rootfs in ["bind", "copy"] {
        let web = &world.id(rootfs);
        world.emergence(&["run", "--detach", "--rootfs", rootfs, &reference, web]).ok();
        assert_eq!(world.env.state(web)["status"], "running");
        assert_eq!(world.bundles().len(), 1);
        // Nobody takes it away while it is needed, and no other container has its name.
        world.emergence(&["gc"]).ok();
        world.emergence(&["run", "--detach", &reference, web]).exits(125).says("already exists");
        assert_eq!(world.bundles().len(), 1);
        let busybox = world.busybox();
        world.env.runtime(&["exec", web, &format!("{busybox}/bin/id"), "-u"]).ok().prints("0");
        world.env.runtime(&["kill", web, "KILL"]).ok();
        world.env.wait_for(web, "stopped");
        world.env.runtime(&["delete", web]).ok();
        world.no_bundle();
    }
}

#[test]
fn a_killed_runtime_of_a_user_leaves_nothing_that_the_next_minds() {
    let Some(world) = World::rootless() else { return };
    let web = &world.id("web");
    let reference = world.script("app", "echo up; sleep 100");
    world.run_and_kill(&reference, web);
    assert_eq!(world.env.state(web)["status"], "running");
    assert_eq!(world.bundles().len(), 1);
    world.env.delete(web);
    world.no_bundle();
    let group = json!({"group": [{"name": "a", "restart": "temporary", "entrypoint": ["@bb/bin/true"]}]});
    let reference = world.pack("group", Form::Image, group, json!({}));
    for delay in [5, 50, 150, 400] {
        let running = world.call(&["run", "--rootfs", "copy", &reference, web]).start();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        // It may have ended by itself.
        let _ = kill_process(Pid::from_raw(running.pid()).unwrap(), Signal::KILL);
        running.wait();
        world.env.delete(web);
        world.emergence(&["run", &reference, web]).ok();
        assert_eq!(world.bundles(), [""; 0], "after {delay} ms");
    }
    world.no_bundle();
}
