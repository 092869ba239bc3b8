//! Units of a user who is not root, in that user's own systemd.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::machine;
use crate::support::Bundle;

/// A user who is not root and has an own systemd: the user id, and the runtime directory.
fn user_with_systemd() -> Option<(String, String)> {
    let users = fs::read_dir("/run/user").into_iter().flatten().flatten();
    let names = users.filter_map(|entry| entry.file_name().into_string().ok());
    let mut with_bus =
        names.filter(|name| name != "0" && Path::new(&format!("/run/user/{name}/bus")).exists());
    with_bus.next().map(|uid| (format!("/run/user/{uid}"), uid)).map(|(directory, uid)| (uid, directory))
}

#[test]
fn a_rootless_user_has_own_units() {
    let Some(env) = machine() else { return };
    let Some((uid, directory)) = user_with_systemd() else {
        assert!(std::env::var_os("EMERGENCE_TEST_MACHINE").is_none(), "no user has an own systemd");
        println!("skipped: no user has an own systemd (loginctl enable-linger)");
        return;
    };
    let root = format!("{directory}/emergence-test-{}", std::process::id());
    let call = |program: &str, args: &[&str]| {
        let ids = ["--reuid", &uid, "--regid", &uid, "--clear-groups", program];
        env.program("setpriv", &[&ids[..], args].concat()).privileged().env("XDG_RUNTIME_DIR", &directory)
    };
    let runtime = |args: &[&str]| {
        let program = env.binary().to_str().unwrap();
        call(program, &[&["--systemd-cgroup", "--root", &root], args].concat()).run()
    };
    let bundle = env.script("exec sleep 100");
    let path = bundle.path().to_owned();
    env.program("chown", &["-R", &uid, bundle.str()]).privileged().run().ok();
    fs::remove_file(path.join("config.json")).unwrap();
    let program = env.binary().to_str().unwrap();
    call(program, &["spec", "--rootless"]).cwd(&path).run().ok();
    let bundle = env
        .adopt(path)
        .set("process/args", json!(["sleep", "100"]))
        .set("linux/resources", json!({"memory": {"limit": 33_554_432}, "pids": {"limit": 30}}));
    for (cgroups_path, name, slice) in [
        (None, "emergence-of-user.scope", "user.slice"),
        (Some("app-test.slice:mine:box"), "mine-box.scope", "app.slice/app-test.slice"),
    ] {
        let bundle =
            Bundle::set(env.adopt(bundle.path().to_owned()), "linux", bundle.config["linux"].clone());
        let bundle = bundle.set("process/args", json!(["sleep", "100"])).edit(|config| {
            let linux = config["linux"].as_object_mut().unwrap();
            linux.remove("cgroupsPath");
            if let Some(path) = cgroups_path {
                linux.insert("cgroupsPath".into(), json!(path));
            }
        });
        bundle.write();
        runtime(&["create", "--bundle", bundle.str(), "of-user"]).ok();
        runtime(&["start", "of-user"]).ok();
        let show = |property: &str| {
            call("systemctl", &["--user", "show", "-P", property, name]).run().ok().text().to_owned()
        };
        let group = format!("/user.slice/user-{uid}.slice/user@{uid}.service/{slice}/{name}");
        assert_eq!(show("ControlGroup"), group);
        assert_eq!((show("MemoryMax").as_str(), show("TasksMax").as_str()), ("33554432", "30"));
        assert_eq!(fs::read_to_string(format!("/sys/fs/cgroup{group}/memory.max")).unwrap(), "33554432\n");
        assert_eq!(fs::read_to_string(format!("/sys/fs/cgroup{group}/pids.max")).unwrap(), "30\n");
        for (options, want, file) in [
            (["--cpu-period", "50000"], "max 50000\n", "cpu.max"),
            (["--cpu-quota", "20000"], "20000 50000\n", "cpu.max"),
            (["--pids-limit", "0"], "1\n", "pids.max"),
        ] {
            runtime(&[&["update"], &options[..], &["of-user"]].concat()).ok();
            assert_eq!(fs::read_to_string(format!("/sys/fs/cgroup{group}/{file}")).unwrap(), want);
        }
        call("systemctl", &["--user", "daemon-reload"]).run().ok();
        assert_eq!(
            (show("CPUQuotaPerSecUSec").as_str(), show("CPUQuotaPeriodUSec").as_str()),
            ("400ms", "50ms")
        );
        assert_eq!(fs::read_to_string(format!("/sys/fs/cgroup{group}/cpu.max")).unwrap(), "20000 50000\n");
        assert_eq!((show("TasksMax"), show("MemoryMax")), ("1".into(), "33554432".into()));
        runtime(&["delete", "--force", "of-user"]).ok();
        assert_eq!(show("LoadState"), "not-found");
        assert!(!Path::new(&format!("/sys/fs/cgroup{group}")).exists());
    }
    // Without a way to that systemd there is no unit; the error says how to get one.
    let nowhere = env.dir().join("nowhere");
    let program = env.binary().to_str().unwrap();
    let args = ["--systemd-cgroup", "--root", &root, "create", "--bundle", bundle.str(), "of-user"];
    call(program, &args).env("XDG_RUNTIME_DIR", nowhere).run().fails().says("DBUS_SESSION_BUS_ADDRESS");
    fs::remove_dir(&root).unwrap();
}
