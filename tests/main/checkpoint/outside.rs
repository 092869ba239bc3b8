//! What a container has from outside, or to outside: mounts, namespaces, terminals, standard files,
//! connections.

use super::*;

#[test]
fn mounts_of_the_host_are_given_back() {
    let Some(env) = env() else { return };
    let directory = |name: &str| {
        let path = env.dir().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let (data, more, moved) = (directory("data"), directory("more"), directory("moved"));
    fs::create_dir(data.join("sub")).unwrap();
    fs::create_dir(data.join("deep")).unwrap();
    fs::write(env.dir().join("file"), "one\n").unwrap();
    fs::write(more.join("m"), "below\n").unwrap();
    fs::write(moved.join("new"), "new\n").unwrap();
    env.mount(&more, &data.join("sub"), &["--bind"]);
    let str = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let mut counter = Counter::start(&env, |bundle| {
        std::os::unix::fs::symlink("../var/real", bundle.rootfs("root/link")).unwrap();
        bundle
            .mount("/data", "bind", &str(&data), &["rbind", "ro"])
            .mount("/data/deep", "bind", &str(&moved), &["bind", "nosuid"])
            .mount("/root/link", "bind", &str(&more), &["bind"])
            .mount("/etc/one", "bind", &str(&env.dir().join("file")), &["bind", "ro"])
            .mount("/own", "tmpfs", "tmpfs", &["size=1m"])
            .edit(|config| {
                config["linux"]["maskedPaths"] = json!(["/proc/keys", "/data/sub/m", "/sys/firmware"])
            })
    });
    let mounts = |counter: &Counter<'_>| -> Vec<String> {
        // Place and flags of the mount itself; the numbers change.
        let text = counter.proc("mountinfo");
        let field = |line: &str, at: usize| line.split(' ').nth(at).unwrap_or("").to_owned();
        let mut all: Vec<_> =
            text.lines().map(|line| format!("{} {}", field(line, 4), field(line, 5))).collect();
        all.sort();
        all
    };
    let before = mounts(&counter);
    assert!(before.iter().any(|line| line.starts_with("/data/sub ")), "{before:#?}");
    counter.round(&[]);
    assert_eq!(mounts(&counter), before);
    let inside = |path: &str| PathBuf::from(format!("/proc/{}/root{path}", env.pid("web")));
    assert_eq!(fs::read_to_string(inside("/data/sub/m")).unwrap(), "", "still masked");
    assert_eq!(fs::read_to_string(inside("/var/real/m")).unwrap(), "below\n");
    assert_eq!(fs::read_to_string(inside("/data/deep/new")).unwrap(), "new\n");
    // Another file of the host takes its place, and the mount point is created again.
    counter.checkpoint("images", &[]).ok();
    let count = counter.count();
    fs::write(env.dir().join("file2"), "two\n").unwrap();
    fs::remove_file(counter.bundle.rootfs("etc/one")).unwrap();
    counter.bundle = counter.bundle.edit(|config| {
        let list = config["mounts"].as_array_mut().unwrap();
        let one = list.iter_mut().find(|mount| mount["destination"] == "/etc/one").unwrap();
        one["source"] = json!(str(&env.dir().join("file2")));
    });
    counter.bundle.write();
    counter.restore("images", &[]).ok();
    counter.counts_on(count);
    assert_eq!(fs::read_to_string(inside("/etc/one")).unwrap(), "two\n");
    counter.end();
}

#[test]
fn a_source_that_is_gone_is_named() {
    let Some(env) = env() else { return };
    let file = env.dir().join("file");
    fs::write(&file, "").unwrap();
    let counter =
        Counter::start(&env, |bundle| bundle.mount("/etc/one", "bind", file.to_str().unwrap(), &["bind"]));
    counter.checkpoint("images", &[]).ok();
    fs::remove_file(&file).unwrap();
    counter.restore("images", &[]).fails().says("/etc/one").says("no such file or directory");
}

#[test]
fn a_read_only_root_reached_by_a_link_stays_read_only() {
    let Some(env) = env() else { return };
    let counter = Counter::start(&env, |bundle| {
        fs::write(bundle.rootfs("log"), "").unwrap();
        let directory = bundle.rootfs("").to_str().unwrap().to_owned();
        bundle
            .set("root/readonly", json!(true))
            .mount("/root", "bind", &directory, &["bind"])
            .set("process/args", json!(["sh", "-c", COUNT.replace(">>/log", ">>/root/log")]))
    });
    counter.round(&[]);
    let root = counter.proc("mountinfo");
    let root = root.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.split(' ').nth(5).unwrap().split(',').any(|word| word == "ro"), "{root}");
    counter.end();
}

#[test]
fn namespaces_of_others_are_joined_again() {
    let Some(env) = env() else { return };
    let (net, ipc) = (env.dir().join("net"), env.dir().join("ipc"));
    for (file, option) in [(&net, "--net"), (&ipc, "--ipc")] {
        fs::write(file, "").unwrap();
        env.program("unshare", &[&format!("{option}={}", file.display()), "true"]).run().ok();
    }
    let counter = Counter::start(&env, |bundle| {
        bundle.namespace("network", net.to_str()).namespace("ipc", ipc.to_str())
    });
    let link = |name: &str| fs::read_link(format!("/proc/{}/ns/{name}", env.pid("web"))).unwrap();
    let before = (link("net"), link("ipc"));
    counter.round(&[]);
    assert_eq!((link("net"), link("ipc")), before);
    counter.end();
    for file in [&net, &ipc] {
        env.program("umount", &[file.to_str().unwrap()]).run().ok();
    }
}

#[test]
fn a_user_namespace() {
    let Some(env) = env() else { return };
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let counter = Counter::start(&env, |bundle| {
        let log = bundle.rootfs("log");
        fs::write(&log, "").unwrap();
        std::os::unix::fs::chown(&log, Some(100_000), Some(100_000)).unwrap();
        bundle.namespace("user", None).set("linux/uidMappings", ids.clone()).set("linux/gidMappings", ids)
    });
    counter.round(&[]);
    assert!(counter.proc("uid_map").contains("100000"), "{}", counter.proc("uid_map"));
    counter.end();
}

#[test]
fn a_terminal_is_sent_again_or_copied() {
    let Some(env) = env() else { return };
    let bundle = env
        .script("i=0; while read line; do i=$((i+1)); echo $i $line; test $line = c && exit 0; done")
        .set("process/terminal", json!(true));
    bundle.write();
    let images = env.dir().join("images");
    let images = images.to_str().unwrap();
    let console = |name: &str| {
        let path = env.dir().join(name);
        (UnixListener::bind(&path).unwrap(), path.to_str().unwrap().to_owned())
    };
    let (listener, socket) = console("one");
    env.runtime(&["create", "-b", bundle.str(), "--console-socket", &socket, "web"]).ok();
    let master = crate::terminal::master(&listener);
    env.runtime(&["start", "web"]).ok();
    crate::terminal::type_and_see(&master, "a\n", "1 a");
    env.runtime(&["checkpoint", "--image-path", images, "web"]).ok();
    drop(master);
    env.runtime(&["restore", "-d", "-b", bundle.str(), "--image-path", images, "web"])
        .fails()
        .says("--console-socket");
    let (listener, socket) = console("two");
    let args =
        ["restore", "-d", "-b", bundle.str(), "--image-path", images, "--console-socket", &socket, "web"];
    env.runtime(&args).ok();
    let master = crate::terminal::master(&listener);
    crate::terminal::type_and_see(&master, "b\n", "2 b");
    env.runtime(&["checkpoint", "--image-path", images, "web"]).ok();
    drop(master);
    // In the foreground the runtime copies, here to the terminal that script(1) gives it.
    let typed = env.dir().join("typed");
    fs::write(&typed, "c\n").unwrap();
    let (binary, root) = (env.binary().display(), env.root());
    let command =
        format!("{binary} --root {} restore -b {} --image-path {images} web", root.display(), bundle.str());
    let input = fs::File::open(&typed).unwrap().into();
    let said = env.program("script", &["-qc", &command, "/dev/null"]).stdin(input).run();
    assert!(said.stdout.contains("3 c"), "{said:?}");
    env.runtime(&["state", "web"]).fails().says("container does not exist");
}

#[test]
fn standard_files_of_the_host_are_ours_after_it() {
    let Some(env) = env() else { return };
    let bundle = env.script("trap 'exit 7' TERM; i=0; while :; do i=$((i+1)); echo $i; usleep 50000; done");
    bundle.write();
    let fifo = env.dir().join("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let mut piped = fs::File::options().read(true).write(true).open(&fifo).unwrap();
    for name in ["file", "fifo"] {
        // criu insists on a file that is as long as it was, so what the runtime says goes
        // elsewhere.
        let ours = |command: &str| {
            env.shell(&format!("$RUNTIME --root $ROOT {command} </dev/null >>{name} 2>said-{name}")).ok();
        };
        ours(&format!("run -d -b {} web", bundle.str()));
        std::thread::sleep(Duration::from_millis(500));
        ours(&format!("checkpoint --image-path images-{name} web"));
        ours(&format!("restore -d -b {} --image-path images-{name} web", bundle.str()));
        std::thread::sleep(Duration::from_millis(500));
        env.delete("web");
    }
    let mut room = [0; 65536];
    let length = piped.read(&mut room).unwrap();
    for text in [fs::read(env.dir().join("file")).unwrap(), room[..length].to_vec()] {
        let text = String::from_utf8(text).unwrap();
        let numbers: Vec<usize> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.len() > 5 && numbers.iter().copied().eq(1..=numbers.len()), "{numbers:?}");
    }
}

#[test]
fn open_connections_are_kept_or_closed() {
    let Some(env) = env() else { return };
    let connect = "exec </dev/null >/dev/null 2>&1; mknod /in p; exec 3<>/in; nc -l -p 4444 -e cat & \
        until nc 127.0.0.1 4444 <&3; do usleep 50000; done & exec 3>&-";
    let bundle = env.script(&format!("{connect}; {COUNT}"));
    env.launch("web", &bundle);
    let counter = Counter { env: &env, bundle };
    // State 1, TCP_ESTABLISHED: proc_pid_net(5).
    let connected =
        || counter.proc("net/tcp").lines().any(|line| line.split_whitespace().nth(3) == Some("01"));
    until("it is connected", connected);
    counter.counts_on(0);
    counter.checkpoint("refused", &[]).fails().says("--tcp-established");
    counter.counts_on(counter.count());
    for (option, kept) in [("--tcp-established", true), ("--tcp-close", false)] {
        counter.checkpoint(option, &["--tcp-established"]).ok();
        let count = counter.count();
        counter.restore(option, &[option]).ok();
        assert_eq!(connected(), kept, "{option}");
        counter.counts_on(count);
    }
    counter.end();
}
