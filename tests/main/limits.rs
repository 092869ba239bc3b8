//! Limits that the kernel enforces: each is shown to bite. Needs controllers; see
//! `Env::controllers`.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Bundle, Env, until};

/// A bundle whose program is a shell script, with limits.
fn limited(env: &Env, script: &str, resources: Value) -> Bundle {
    env.script(script).set("linux/resources", resources)
}

/// `update` with limits as JSON.
fn update(env: &Env, id: &str, limits: &Value) -> crate::support::Output {
    let path = env.dir().join("limits.json");
    fs::write(&path, limits.to_string()).unwrap();
    env.runtime(&["update", "--resources", path.to_str().unwrap(), id])
}

/// The number after `key` in a flat keyed file of the container's cgroup.
fn counted(env: &Env, bundle: &Bundle, file: &str, key: &str) -> u64 {
    let text = env.cgroup_file(bundle.cgroup(), file);
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok());
    line.unwrap_or_else(|| panic!("no {key} in {file}: {text:?}"))
}

#[test]
fn a_hog_of_memory_is_killed() {
    let Some(env) = Env::new() else { return };
    if !env.controllers(&["memory"]) {
        return;
    }
    // Doubles a text up to 64 MiB, more than once in memory at a time.
    let hog = "awk 'BEGIN { x = \"1234567890123456\"; for (i = 0; i < 22; i++) x = x x; exit 7 }'";
    let memory = |size: u64| json!({"memory": {"limit": size, "swap": size}});
    env.run(&limited(&env, hog, memory(512 << 20))).exits(7);
    env.run(&limited(&env, hog, memory(16 << 20))).exits(137);
}

#[test]
fn half_a_mebibyte_and_one_process_are_enough_to_start() {
    let Some(env) = Env::new() else { return };
    if !env.controllers(&["memory", "pids"]) {
        return;
    }
    let resources = json!({"memory": {"limit": 524_288}, "pids": {"limit": 1}});
    let hook = json!({"path": "/bin/true"});
    for hooked in [false, true] {
        let bundle = env.bundle(&["true"]).set("linux/resources", resources.clone());
        let bundle = if hooked { bundle.push("hooks/createRuntime", hook.clone()) } else { bundle };
        env.run(&bundle).ok();
        let id = env.id();
        env.launch(&id, &bundle);
        env.wait_for(&id, "stopped");
        env.delete(&id);
    }
}

#[test]
fn too_little_memory_to_start_is_reported() {
    let Some(env) = Env::new() else { return };
    if !env.controllers(&["memory"]) || !env.ours("each runtime has its own words") {
        return;
    }
    let bundle = env.bundle(&["true"]).set("linux/resources", json!({"memory": {"limit": 8192}}));
    env.create(&env.id(), &bundle).exits(1).says("linux.resources.memory.limit: 8192 bytes are too few");
}

#[test]
fn a_fork_bomb_stops_at_the_limit() {
    let Some(env) = Env::new() else { return };
    if !env.controllers(&["pids"]) {
        return;
    }
    let script = "i=0; while [ $i -lt 30 ]; do sleep 100 & i=$((i+1)); done; wait";
    let bundle = limited(&env, script, json!({"pids": {"limit": 10}}));
    let id = env.id();
    env.launch(&id, &bundle);
    until("a fork is refused", || counted(&env, &bundle, "pids.events", "max") > 0);
    assert!(env.cgroup_file(bundle.cgroup(), "pids.current").parse::<u32>().unwrap() <= 10);
    env.delete(&id);
}

#[test]
fn a_quota_takes_processor_time_away() {
    let Some(env) = Env::new() else { return };
    if !env.controllers(&["cpu"]) {
        return;
    }
    let bundle = limited(&env, "while :; do :; done", json!({"cpu": {"quota": 20_000, "period": 100_000}}));
    let id = env.id();
    env.launch(&id, &bundle);
    let ratio = || {
        let (start, used) = (Instant::now(), counted(&env, &bundle, "cpu.stat", "usage_usec"));
        std::thread::sleep(Duration::from_secs(3));
        let used = counted(&env, &bundle, "cpu.stat", "usage_usec") - used;
        used as f64 / start.elapsed().as_micros() as f64
    };
    let slow = ratio();
    assert!((0.01..0.3).contains(&slow), "a fifth of a processor is {slow}");
    assert!(counted(&env, &bundle, "cpu.stat", "nr_throttled") > 0);
    env.runtime(&["update", "--cpu-quota", "-1", &id]).ok();
    assert_eq!(env.cgroup_file(bundle.cgroup(), "cpu.max"), "max 100000");
    let fast = ratio();
    assert!(fast > slow * 1.5, "without a limit {fast}, with one {slow}");
    env.delete(&id);
}

#[test]
fn processors_and_nodes_are_those_of_the_list() {
    let Some(env) = Env::new() else { return };
    if !env.controllers(&["cpuset"]) {
        return;
    }
    let script = "grep -E '^(Cpus|Mems)_allowed_list' /proc/self/status | cut -f2";
    let bundle = limited(&env, script, json!({"cpu": {"cpus": "1", "mems": "0"}}));
    env.run(&bundle).ok().prints("1\n0");
    let bundle = limited(&env, script, json!({"cpu": {"cpus": "4095"}}));
    let output = env.run(&bundle).fails();
    if env.ours("each runtime has its own words") {
        output.logs("linux.resources.cpu.cpus: write \"4095\" to ").says("cpuset.cpus: ");
    }
}

#[test]
fn shares_become_the_weight_that_runc_and_crun_give_them() {
    let Some(env) = Env::new() else { return };
    if !env.controllers(&["cpu"]) || !env.ours("runc before 1.3.2 and crun before 1.23 have another curve") {
        return;
    }
    let (id, bundle) = (env.id(), limited(&env, "sleep 100", json!({"cpu": {"shares": 1024, "burst": 0}})));
    env.launch(&id, &bundle);
    let weight = || env.cgroup_file(bundle.cgroup(), "cpu.weight");
    assert_eq!(weight(), "100");
    for (shares, want) in [("2", "1"), ("512", "59"), ("262144", "10000")] {
        env.runtime(&["update", "--cpu-share", shares, &id]).ok();
        assert_eq!(weight(), want, "{shares} shares");
    }
    env.runtime(&["update", "--cpu-idle", "1", &id]).ok();
    assert_eq!(env.cgroup_file(bundle.cgroup(), "cpu.idle"), "1");
    env.runtime(&["update", "--cpu-idle", "0", &id]).ok();
    assert_eq!(env.cgroup_file(bundle.cgroup(), "cpu.idle"), "0");
    env.delete(&id);
}

/// A disk of this machine that can be read without harm: its name, major and minor number.
fn disk() -> Option<(String, u32, u32)> {
    let names = fs::read_dir("/sys/block").ok()?.flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    names.sort();
    let name = names.into_iter().find(|name| name.starts_with("vd") || name.starts_with("sd"))?;
    let number = fs::read_to_string(format!("/sys/block/{name}/dev")).ok()?;
    let (major, minor) = number.trim().split_once(':')?;
    Some((name, major.parse().ok()?, minor.parse().ok()?))
}

#[test]
fn reading_from_a_disk_is_throttled() {
    let Some(env) = Env::new() else { return };
    let Some((name, major, minor)) = disk() else {
        println!("skipped: this machine has no disk");
        return;
    };
    if !env.controllers(&["io"]) {
        return;
    }
    let script = "dd if=/dev/disk of=/dev/null bs=256k count=12 iflag=direct";
    let throttle = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let bundle = |rate: u64| {
        limited(&env, script, json!({"blockIO": {"throttleReadBpsDevice": throttle(rate), "throttleWriteIOPSDevice": throttle(70)},
            "devices": [{"allow": true, "type": "b", "major": major, "minor": minor, "access": "r"}]}))
            .set("linux/devices", json!([{"path": "/dev/disk", "type": "b", "major": major, "minor": minor}]))
    };
    let timed = |rate| {
        let start = Instant::now();
        env.run(&bundle(rate)).ok();
        start.elapsed()
    };
    timed(1 << 40);
    let fast = timed(1 << 40);
    let slow = timed(512 << 10);
    println!("3 MiB of {name}: {fast:?} without a limit, {slow:?} with 512 KiB/s");
    // Six seconds are the least that the limit lets it take, however slow the machine is without.
    assert!(slow > Duration::from_secs(5), "{fast:?}, throttled {slow:?}");

    let (id, bundle) = (env.id(), bundle(5000).set("process/args", json!(["sleep", "100"])));
    env.launch(&id, &bundle);
    let held = || env.cgroup_file(bundle.cgroup(), "io.max");
    assert_eq!(held(), format!("{major}:{minor} rbps=5000 wbps=max riops=max wiops=70"));
    let before = held();
    // The second device is not there, and takes the change of the first back.
    let bad =
        json!([{"major": major, "minor": minor, "rate": 6000}, {"major": 4095, "minor": 7, "rate": 6000}]);
    let output = update(&env, &id, &json!({"blockIO": {"throttleReadBpsDevice": bad}})).fails();
    if env.ours("the others leave what they have written") {
        output
            .logs("linux.resources.blockIO.throttleReadBpsDevice[1]: write \"4095:7 rbps=6000\" to ")
            .says("io.max: no such device");
        assert_eq!(held(), before);
        update(&env, &id, &json!({"blockIO": {"throttleReadBpsDevice": throttle(0), "throttleWriteIOPSDevice": throttle(0)}})).ok();
        assert_eq!(held(), "");
    }
    env.delete(&id);
}

#[test]
fn weights_of_block_devices() {
    let Some(env) = Env::new() else { return };
    if !env.controllers(&["io"]) {
        return;
    }
    let (id, bundle) = (env.id(), limited(&env, "sleep 100", json!({"blockIO": {"weight": 100}})));
    env.launch(&id, &bundle);
    let held = |file: &str| env.cgroup_file(bundle.cgroup(), file);
    let bfq = !held("io.bfq.weight").is_empty();
    let (file, was, is) = if bfq {
        ("io.bfq.weight", "default 100", "default 1000")
    } else {
        ("io.weight", "default 910", "default 10000")
    };
    assert_eq!(held(file), was);
    env.runtime(&["update", "--blkio-weight", "1000", &id]).ok();
    assert_eq!(held(file), is);
    env.delete(&id);
}

#[test]
fn huge_pages_end_at_the_limit() {
    let Some(env) = Env::new() else { return };
    if !env.controllers(&["hugetlb"]) {
        return;
    }
    let free = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    if free.is_ok_and(|free| free.trim().parse().is_ok_and(|free: u32| free < 4)) {
        println!("skipped: not enough free huge pages of 2 MB");
        return;
    }
    let bundle = limited(
        &env,
        "fallocate -l 2097152 /huge/one && echo one; fallocate -l 4194304 /huge/two || echo no more",
        json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}),
    );
    let bundle = bundle.mount("/huge", "hugetlbfs", "none", &["pagesize=2M"]);
    env.run(&bundle).ok().prints("one\nno more");
    let (id, bundle) = (env.id(), bundle.set("process/args", json!(["sleep", "100"])));
    env.launch(&id, &bundle);
    let held = |file: &str| env.cgroup_file(bundle.cgroup(), file);
    assert_eq!((held("hugetlb.2MB.max"), held("hugetlb.2MB.rsvd.max")), ("4194304".into(), "4194304".into()));
    env.delete(&id);
}

#[test]
fn unified_comes_last_and_as_it_is_written() {
    let Some(env) = Env::new() else { return };
    if !env.controllers(&["memory", "pids"]) {
        return;
    }
    let limits = json!({"memory": {"limit": 64 << 20}, "unified": {"memory.max": "33554432", "memory.high": "16777216", "pids.max": "7"}});
    let (id, bundle) = (env.id(), limited(&env, "sleep 100", limits));
    env.launch(&id, &bundle);
    let held = |file: &str| env.cgroup_file(bundle.cgroup(), file);
    assert_eq!([held("memory.max"), held("memory.high"), held("pids.max")], ["33554432", "16777216", "7"]);
    env.delete(&id);
    for (key, value) in [("memory.strange", "1"), ("strange.max", "1"), ("pids.max", "odd"), ("a/b.c", "1")] {
        let bundle = env.bundle(&["true"]).set("linux/resources", json!({"unified": {key: value}}));
        env.create(&env.id(), &bundle).fails().says(key);
    }
}

#[test]
fn an_update_changes_what_it_names() {
    let Some(env) = Env::new() else { return };
    if !env.controllers(&["memory", "pids", "cpu", "cpuset"])
        || !env.ours("runc before 1.4 has another way with pids")
    {
        return;
    }
    let limits = json!({"memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20}, "pids": {"limit": 20},
        "cpu": {"quota": 50_000, "period": 100_000}});
    let (id, bundle) = (env.id(), limited(&env, "sleep 100", limits));
    env.create(&id, &bundle).ok();
    let held = || {
        let files = ["memory.max", "memory.swap.max", "memory.low", "pids.max", "cpu.max", "cpuset.cpus"];
        files.map(|file| env.cgroup_file(bundle.cgroup(), file)).join(", ")
    };
    assert_eq!(held(), "67108864, 33554432, 33554432, 20, 50000 100000, ");
    let table: &[(&[&str], &str)] = &[
        (&[], "67108864, 33554432, 33554432, 20, 50000 100000, "),
        (&["--pids-limit", "30"], "67108864, 33554432, 33554432, 30, 50000 100000, "),
        (&["--cpu-quota", "20000"], "67108864, 33554432, 33554432, 30, 20000 100000, "),
        (&["--cpu-period", "50000"], "67108864, 33554432, 33554432, 30, 20000 50000, "),
        (&["--cpu-quota=-1"], "67108864, 33554432, 33554432, 30, max 50000, "),
        (&["--cpuset-cpus", "0"], "67108864, 33554432, 33554432, 30, max 50000, 0"),
        (&["--memory", "80m"], "83886080, 16777216, 33554432, 30, max 50000, 0"),
        (&["--memory-swap", "128m"], "83886080, 50331648, 33554432, 30, max 50000, 0"),
        (&["--memory", "32m", "--memory-swap", "32m"], "33554432, 0, 33554432, 30, max 50000, 0"),
        (
            &["--memory-reservation", "16M", "--memory-swap", "-1"],
            "33554432, max, 16777216, 30, max 50000, 0",
        ),
        (&["--memory", "-1", "--pids-limit", "-1"], "max, max, 16777216, max, max 50000, 0"),
        (&["--memory", "64m", "--pids-limit", "0"], "67108864, max, 16777216, 0, max 50000, 0"),
    ];
    for (at, (options, want)) in table.iter().enumerate() {
        if at == 3 {
            env.runtime(&["start", &id]).ok();
        }
        // A paused container is limited like others.
        let paused = at % 3 == 2;
        let pause = |word: &str| env.write_cgroup_file(bundle.cgroup(), "cgroup.freeze", word);
        if paused {
            pause("1");
        }
        let mut args = vec!["update"];
        args.extend_from_slice(options);
        args.push(&id);
        env.runtime(&args).ok();
        assert_eq!(held(), *want, "{options:?}");
        if paused {
            pause("0");
        }
    }
    env.delete(&id);
}

#[test]
fn a_refused_update_leaves_the_former_limits() {
    let Some(env) = Env::new() else { return };
    if !env.controllers(&["memory", "pids", "cpu", "cpuset"])
        || !env.ours("the others leave what they have written")
    {
        return;
    }
    let limits = json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}, "pids": {"limit": 20},
        "cpu": {"quota": 50_000, "period": 100_000, "shares": 512, "burst": 1000}});
    let (id, bundle) = (env.id(), limited(&env, "sleep 100", limits));
    env.launch(&id, &bundle);
    const FILES: [&str; 8] = [
        "memory.max",
        "memory.swap.max",
        "pids.max",
        "cpu.max",
        "cpu.max.burst",
        "cpu.weight",
        "cpu.idle",
        "cpuset.cpus.effective",
    ];
    let held = || FILES.map(|file| format!("{file} {}", env.cgroup_file(bundle.cgroup(), file)));
    let before = held();
    let table = [
        (json!({"cpu": {"cpus": "4095"}}), "linux.resources.cpu.cpus: write \"4095\" to "),
        (
            json!({"unified": {"memory.oom.group": "5"}}),
            "linux.resources.unified[\"memory.oom.group\"]: write \"5\" to ",
        ),
        (
            json!({"unified": {"cpuset.cpus": "x"}}),
            "linux.resources.unified[\"cpuset.cpus\"]: write \"x\" to ",
        ),
        (
            json!({"unified": {"memory.odd": "5"}}),
            "linux.resources.unified[\"memory.odd\"]: this kernel has no file memory.odd",
        ),
        (
            json!({"memory": {"limit": 128 << 20}}),
            "linux.resources.memory.limit: 134217728 bytes exceed the limit of memory and swap",
        ),
        (
            json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}}),
            "linux.resources.memory.checkBeforeUpdate: the new limit is 4096 bytes",
        ),
    ];
    for (bad, words) in table {
        let mut limits = json!({"memory": {"limit": 32 << 20, "swap": 96 << 20}, "pids": {"limit": 10},
            "cpu": {"quota": 20_000, "period": 50_000, "burst": 0, "idle": 1, "cpus": "0"}});
        for (member, value) in bad.as_object().unwrap() {
            match limits[member].as_object_mut() {
                Some(there) if member != "memory" => there.extend(value.as_object().unwrap().clone()),
                _ => limits[member] = value.clone(),
            }
        }
        let output = update(&env, &id, &limits).exits(1).logs(words);
        assert!(
            output.stderr.lines().count() == 1 && !output.stderr.contains("cleaning"),
            "{}",
            output.stderr
        );
        assert_eq!(held(), before, "{bad}");
    }
    assert_eq!(env.state(&id)["status"], "running");
    env.delete(&id);
}
