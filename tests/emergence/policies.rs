//! The policy and the configuration of the machine's owner.

use std::fs;

use serde_json::Value;

use super::support::{emergence, vector};

#[test]
fn the_node_document_describes_the_machine() {
    let answer = emergence(&["node"]);
    let node: Value = serde_json::from_str(answer.ok()).unwrap();
    let uname = rustix::system::uname();
    assert_eq!(node["kernel"], uname.release().to_str().unwrap());
    assert_eq!(node["os"], "linux");
    assert!(node["cpu"]["count"].as_u64().unwrap() >= 1);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let kib: u64 = meminfo.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(node["memory"], kib * 1024);
    assert!(node["devices"].as_array().unwrap().contains(&"/dev/null".into()));
    assert_eq!(emergence(&["node", "--json"]).ok().lines().count(), 1);
}

#[test]
fn a_command_line_stays_within_the_policy() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.json");
    let cache = format!("cache:{}#", vector("caches/none").display());
    let reference = format!("{cache}7fnzwr4fvvmdl8b3vkrfyjczwiwv6n42");
    let verify = |policy: &str, more: &[&str]| {
        fs::write(&file, policy).unwrap();
        emergence(&[&["verify", "--policy", file.to_str().unwrap(), &reference], more].concat())
    };
    let trusted = fs::read_to_string(vector("keys/test-2.pk")).unwrap();
    let trusted = trusted.trim();
    verify("{}", &["--trusted-key", trusted]).ok();
    verify(&format!(r#"{{"trust":"signed","trustedKeys":["{trusted}"]}}"#), &[]).ok();
    verify(r#"{"trust":"none"}"#, &[]).ok();
    verify(r#"{"trust":"none"}"#, &["--trust", "signed"]).refused(6, "trust.unproved");
    verify(r#"{"trust":"signed"}"#, &["--trust", "none"]).refused(6, "trust.policy");
    verify(r#"{"trustedKeys":[]}"#, &["--trusted-key", trusted]).refused(6, "trust.policy");
    verify(r#"{"trust":"none","allow":{"kinds":["nar"]}}"#, &[]).refused(6, "trust.policy");
    verify(r#"{"trust":"none","allow":{"names":["none-such-*"]}}"#, &[]).refused(6, "trust.policy");
    verify(r#"{"trust":"none","allow":{"kinds":["cache"],"names":["*"]}}"#, &[]).ok();
    verify(r#"{"trust":"none","limits":{"size":8}}"#, &[]).refused(3, "limit.size");
    verify(r#"{"color":"red"}"#, &[]).refused(3, "doc.unknown-field");
    emergence(&["verify", "--policy", "/none/such", &reference]).fails(4, "/none/such");
}
