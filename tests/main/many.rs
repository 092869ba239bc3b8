//! Many containers at the same time: none may fail, and none may disturb another.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Env, on_test_machine, until};

/// How many; fewer where the machine is emulated and the natively run test has had them all.
fn count() -> usize {
    if on_test_machine() { 50 } else { 200 }
}

#[test]
fn hundreds_at_once() {
    let Some(env) = Env::new() else { return };
    // One root file system for all of them; a configuration and a cgroup for each.
    let bundle = env.bundle(&["sleep", "1000"]);
    let mut config = bundle.config.clone();
    config["root"]["path"] = json!(bundle.rootfs("").to_str().unwrap());
    let directories: Vec<PathBuf> = (0..count())
        .map(|number| {
            let directory = env.dir().join(format!("bundle-{number}"));
            config["linux"]["cgroupsPath"] = json!(format!("{}/many-{number}", env.cgroup_parent()));
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("config.json"), config.to_string()).unwrap();
            directory
        })
        .collect();
    // Starts a call for every container before it waits for the first.
    let all = |args: &dyn Fn(usize) -> Vec<String>| {
        let calls: Vec<_> = (0..count())
            .map(|number| {
                let args = args(number);
                env.call(&args.iter().map(String::as_str).collect::<Vec<_>>()).start()
            })
            .collect();
        for call in calls {
            call.wait().ok();
        }
    };
    let words = |words: &[&str], number: usize| {
        let name = format!("many-{number}");
        words.iter().map(|word| (*word).to_owned()).chain([name]).collect::<Vec<String>>()
    };
    let statuses = || -> Vec<String> {
        let list: Value = serde_json::from_str(&env.runtime(&["list", "-f", "json"]).ok().stdout).unwrap();
        list.as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap().to_owned()).collect()
    };

    all(&|number| words(&["create", "--bundle", directories[number].to_str().unwrap()], number));
    assert_eq!(statuses(), vec!["created"; count()]);
    all(&|number| words(&["start"], number));
    assert_eq!(statuses(), vec!["running"; count()]);
    all(&|number| [words(&["kill"], number), vec!["KILL".to_owned()]].concat());
    until("all have ended", || statuses() == vec!["stopped"; count()]);
    all(&|number| words(&["delete"], number));
    assert_eq!(env.runtime(&["list", "--quiet"]).ok().text(), "");
}

#[test]
fn hundreds_runs_at_once() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["sh", "-c", "exit 7"]);
    let mut config = bundle.config.clone();
    config["root"]["path"] = json!(bundle.rootfs("").to_str().unwrap());
    let calls: Vec<_> = (0..count())
        .map(|number| {
            let directory = env.dir().join(format!("bundle-{number}"));
            config["linux"]["cgroupsPath"] = json!(format!("{}/run-{number}", env.cgroup_parent()));
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("config.json"), config.to_string()).unwrap();
            env.call(&["run", "--bundle", directory.to_str().unwrap(), &format!("run-{number}")]).start()
        })
        .collect();
    for call in calls {
        call.wait().exits(7);
    }
}
