//! What a machine has, as far as constraints ask for it: a document that one machine writes and
//! another can read.

mod file;
mod gpu;
mod here;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::emergence::base::refusal::Result;
use crate::emergence::base::strict::{document, once};

pub use gpu::Gpu;

/// The facts. What a document leaves out, the machine does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Node {
    /// As OCI images name it, which is as Go does: `amd64`, `arm64`.
    pub arch: String,
    /// As OCI images name it: `linux`.
    pub os: String,
    /// The kernel's release, as uname(2) tells it.
    pub kernel: String,
    /// See [`Cpu`].
    pub cpu: Cpu,
    /// Bytes of main memory.
    pub memory: u64,
    /// Bytes that are free where artifacts are kept.
    pub disk: u64,
    /// Graphics processors and other accelerators of that class.
    pub gpus: Vec<Gpu>,
    /// Device nodes, by path, sorted.
    pub devices: Vec<String>,
    /// See [`Cgroup`].
    pub cgroup: Cgroup,
    /// Kinds of namespaces that can be made, in config.json's words, sorted.
    pub namespaces: Vec<String>,
    /// Security modules that are in force, sorted.
    pub lsm: Vec<String>,
    /// What a filter of system calls can answer, in the kernel's words; empty: there are no
    /// filters.
    pub seccomp: Vec<String>,
    /// What the machine's owner says of it.
    #[serde(deserialize_with = "once")]
    pub labels: BTreeMap<String, String>,
}

/// Processors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cpu {
    /// How many are online.
    pub count: u64,
    /// In the kernel's words, sorted: `flags` of /proc/cpuinfo, or `Features` on ARM.
    pub features: Vec<String>,
}

/// Control groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cgroup {
    /// 2 where all is in the one hierarchy, 1 elsewhere.
    pub version: u8,
    /// In the words of version 2, sorted.
    pub controllers: Vec<String>,
}

impl Node {
    /// Reads the document of a machine, which is called `subject`.
    ///
    /// Refused when it has a member that is not known (`doc.unknown-field`), twice the same
    /// (`json.duplicate-key`), or is of another form.
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
    fn what_is_written_can_be_read() {
        let node = Node::here(std::path::Path::new("/")).unwrap();
        let text = serde_json::to_vec(&node).unwrap();
        assert_eq!(Node::parse(&text, "n").unwrap(), node);
    }
}
