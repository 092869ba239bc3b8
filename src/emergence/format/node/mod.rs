//! Facts about a machine that constraints test: a document that one machine writes and another can
//! read.

mod file;
mod gpu;
mod here;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::emergence::base::refusal::Result;
use crate::emergence::base::strict::{document, once};

pub use gpu::Gpu;

/// The facts. Anything missing from a document does not exist on the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Node {
    /// Architecture in the terms of OCI images and Go: `amd64`, `arm64`.
    pub arch: String,
    /// Operating system in the terms of OCI images: `linux`.
    pub os: String,
    /// The kernel release, from uname(2).
    pub kernel: String,
    /// Processors.
    pub cpu: Cpu,
    /// Main memory, in bytes.
    pub memory: u64,
    /// Free bytes in the file system for artifacts.
    pub disk: u64,
    /// GPUs and other accelerators of PCI class 03.
    pub gpus: Vec<Gpu>,
    /// Device nodes, by path, sorted.
    pub devices: Vec<String>,
    /// Control groups.
    pub cgroup: Cgroup,
    /// Namespace types that can be created, as in config.json, sorted.
    pub namespaces: Vec<String>,
    /// Active security modules, sorted.
    pub lsm: Vec<String>,
    /// Seccomp actions, in the kernel's terms; empty if there is no seccomp.
    pub seccomp: Vec<String>,
    /// Labels assigned by the machine's owner.
    #[serde(deserialize_with = "once")]
    pub labels: BTreeMap<String, String>,
}

/// Processors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cpu {
    /// Number of online processors.
    pub count: u64,
    /// CPU features in the kernel's terms, sorted: `flags` of /proc/cpuinfo, or `Features` on ARM.
    pub features: Vec<String>,
}

/// Control groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cgroup {
    /// 2 for the unified hierarchy only, otherwise 1.
    pub version: u8,
    /// Controllers, with the names of cgroup v2, sorted.
    pub controllers: Vec<String>,
}

impl Node {
    /// Parses the document of a machine, called `subject` in messages.
    ///
    /// Refused: an unknown member (`doc.unknown-field`), a duplicate (`json.duplicate-key`), or
    /// another form (`json.syntax`).
    pub fn parse(bytes: &[u8], subject: &str) -> Result<Self> {
        document(bytes, subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emergence::base::refusal::Code;

    #[test]
    fn strictly_read() {
        let node = Node::parse(br#"{"arch":"arm64","cpu":{"count":4},"labels":{"zone":"a"}}"#, "n").unwrap();
        assert_eq!((node.arch.as_str(), node.cpu.count, node.memory), ("arm64", 4, 0));
        assert_eq!(node.labels.get("zone").map(String::as_str), Some("a"));
        let table = [
            (r#"{"arch":"a","color":1}"#, Code::DocUnknownField),
            (r#"{"cpu":{"cores":1}}"#, Code::DocUnknownField),
            (r#"{"arch":"a","arch":"a"}"#, Code::JsonDuplicateKey),
            (r#"{"labels":{"a":"1","a":"1"}}"#, Code::JsonDuplicateKey),
            (r#"{"memory":-1}"#, Code::JsonSyntax),
            (r#"{"memory":1.5}"#, Code::JsonSyntax),
            (r#"{"labels":{"a":1}}"#, Code::JsonSyntax),
            (r#"{} {}"#, Code::JsonSyntax),
            ("", Code::JsonSyntax),
        ];
        for (text, code) in table {
            assert_eq!(Node::parse(text.as_bytes(), "n").unwrap_err().code(), Some(code), "{text}");
        }
    }

    #[test]
    fn written_documents_can_be_read() {
        let node = Node::here(std::path::Path::new("/")).unwrap();
        let text = serde_json::to_vec(&node).unwrap();
        assert_eq!(Node::parse(&text, "n").unwrap(), node);
    }
}
