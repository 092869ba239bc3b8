//! The container's names and kernel parameters: `hostname`, `domainname`, `linux.sysctl`.

use serde_json::json;

use crate::support::Env;

#[test]
fn host_name_and_domain_name() {
    let Some(env) = Env::new() else { return };
    let before = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    env.run(&env.bundle(&["hostname"]).set("hostname", json!("inner-host"))).ok().prints("inner-host");
    let bundle =
        env.bundle(&["cat", "/proc/sys/kernel/domainname"]).set("domainname", json!("inner.example"));
    if !env.differs("runc", "1.1 has no domainname") {
        env.run(&bundle).ok().prints("inner.example");
    }
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), before);
}

#[test]
fn names_need_a_uts_namespace() {
    let Some(env) = Env::new() else { return };
    if env.differs("crun", "sets the host's name") {
        return;
    }
    let bundle = env.bundle(&["true"]).set("hostname", json!("stolen")).without_namespace("uts");
    env.create("web", &bundle).fails();
}

#[test]
fn kernel_parameters_of_the_containers_namespaces() {
    let Some(env) = Env::new() else { return };
    let table = [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward", "1"),
        ("net.ipv4.ping_group_range", "net/ipv4/ping_group_range", "0\t5"),
        ("kernel.shmmni", "kernel/shmmni", "1234"),
        ("kernel.msgmax", "kernel/msgmax", "9000"),
        ("kernel.sem", "kernel/sem", "250\t32000\t32\t120"),
        ("fs.mqueue.queues_max", "fs/mqueue/queues_max", "99"),
    ];
    let sysctl: serde_json::Map<_, _> =
        table.iter().map(|(name, _, value)| ((*name).into(), json!(value))).collect();
    let files = table.map(|(_, file, _)| format!("/proc/sys/{file}"));
    let mut args = vec!["cat"];
    args.extend(files.iter().map(String::as_str));
    let want = table.map(|(.., value)| value).join("\n");
    env.run(&env.bundle(&args).set("linux/sysctl", json!(sysctl))).ok().prints(&want);
}

#[test]
fn a_name_with_slashes_and_dots() {
    let Some(env) = Env::new() else { return };
    // sysctl.d(5): after a slash as the first separator, dots belong to the names.
    if !env.ours("not every runtime takes this form") {
        return;
    }
    let bundle = env.bundle(&["cat", "/proc/sys/net/ipv4/conf/lo/forwarding"]);
    env.run(&bundle.set("linux/sysctl", json!({"net/ipv4/conf/lo/forwarding": "1"}))).ok().prints("1");
}

/// The runtime looks at the container's process without a right to signal it.
#[test]
fn a_runtime_without_cap_kill_enters_another_users_container() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others signal the process") || !env.has("setpriv", "util-linux") {
        return;
    }
    let bundle = env.bundle(&["sleep", "1000"]).set("process/user", json!({"uid": 1000, "gid": 1000}));
    env.launch("web", &bundle);
    let (root, binary) = (env.root(), env.binary());
    let without = ["--bounding-set=-kill", "--inh-caps=-kill", binary.to_str().unwrap()];
    let exec = ["--root", root.to_str().unwrap(), "exec", "web", "echo", "entered"];
    env.program("setpriv", &[&without[..], &exec].concat()).privileged().run().ok().prints("entered");
    env.delete("web");
}
