//! process.json, for one more process in a container.

use emergence_runc::plan::{Plan, ProcessStrings};
use emergence_runc::spec::{self, Spec};

use super::config::planned;
use super::{ask, faults, hosts, misread};

pub fn check(bytes: &[u8]) {
    let process = match spec::parse_process(bytes) {
        Ok(process) => process,
        Err(fault) => return misread(&fault),
    };
    for spec in containers() {
        for host in hosts() {
            match Plan::enter(&spec, &process, &ProcessStrings::of(&process), &ask(), &host) {
                Ok(plan) => planned(&plan),
                Err(found) => faults(&found),
            }
        }
    }
}

/// One as `spec` writes it, and one with a user namespace of its own.
fn containers() -> [Spec; 2] {
    const OWN_USER: &str = r#"{"ociVersion":"1.3.0","root":{"path":"rootfs"},"linux":{"namespaces":[{"type":"user"},
        {"type":"mount"}],"uidMappings":[{"containerID":0,"hostID":100000,"size":1000}],
        "gidMappings":[{"containerID":0,"hostID":100000,"size":1000}]}}"#;
    [spec::defaults::spec(), spec::parse(OWN_USER.as_bytes()).expect("a config.json")]
}
