//! libseccomp, asked through `reference.py`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use emergence_runc::security::seccomp::SockFilter;
use emergence_runc::spec::Seccomp;
use serde_json::{Value, json};

/// A running `reference.py`.
pub(crate) struct Reference {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Reference {
    /// Starts it; `None`, with the reason printed, where libseccomp's Python module is not
    /// installed.
    pub(crate) fn start() -> Option<Self> {
        let there = Command::new("/usr/bin/python3").args(["-c", "import seccomp"]).output();
        if !there.is_ok_and(|output| output.status.success()) {
            assert!(std::env::var_os("EMERGENCE_TEST_NO_SKIP").is_none(), "python3-seccomp is not installed");
            eprintln!("skipped: python3-seccomp is not installed");
            return None;
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seccomp/reference.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start reference.py");
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, input, output })
    }

    fn ask(&mut self, request: &Value) -> String {
        writeln!(self.input, "{request}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// The numbers of calls; -1 where this libseccomp does not know the name, otherwise negative
    /// where `arch` has no such call.
    pub(crate) fn numbers(&mut self, arch: &str, names: &[&str]) -> Vec<i64> {
        serde_json::from_str(&self.ask(&json!({ "numbers": arch, "names": names }))).unwrap()
    }

    /// The profile without the calls that are newer than this libseccomp.
    pub(crate) fn known(&mut self, profile: &Seccomp) -> Seccomp {
        let mut profile = profile.clone();
        for rule in &mut profile.syscalls {
            let names: Vec<&str> = rule.names.iter().map(String::as_str).collect();
            let mut numbers = self.numbers("x86_64", &names).into_iter();
            rule.names.retain(|_| numbers.next() != Some(-1));
        }
        profile
    }

    /// libseccomp's filter, or its refusal.
    pub(crate) fn compile(&mut self, native: &str, profile: &Seccomp) -> Result<Vec<SockFilter>, String> {
        let line = self.ask(&json!({ "native": native, "profile": profile }));
        if line.starts_with("error") {
            return Err(line.to_owned());
        }
        let bytes: Vec<u8> =
            (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect();
        assert!(!bytes.is_empty(), "reference.py ended");
        Ok(bytes.chunks_exact(8).map(|bytes| instruction(bytes, native == "s390x")).collect())
    }
}

/// libseccomp writes fields in the filter's byte order, but some answers (of rules, not of the
/// default) in the order of the machine it runs on: then only that order gives an action the kernel
/// knows.
fn instruction(bytes: &[u8], big_endian: bool) -> SockFilter {
    let (code, k) = ([bytes[0], bytes[1]], [bytes[4], bytes[5], bytes[6], bytes[7]]);
    let code = if big_endian { u16::from_be_bytes(code) } else { u16::from_le_bytes(code) };
    let action = |k: u32| k == 0 || matches!(k >> 16, 3 | 5 | 0x7fc0 | 0x7ff0 | 0x7ffc | 0x7fff | 0x8000);
    let foreign = u32::from_be_bytes(k);
    let k = if big_endian && (code != 6 || action(foreign)) { foreign } else { u32::from_le_bytes(k) };
    SockFilter { code, jt: bytes[2], jf: bytes[3], k }
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
