//! The vectors, the program, and trees to try it on.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use data_encoding::BASE64;
use emergence_runc::emergence::{Limits, StoreDir, Terms, Trust, Unwatched};
use serde_json::Value;

/// A file among the vectors.
pub(crate) fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emergence/vectors").join(name)
}

/// A member of vectors.json.
pub(crate) fn vectors(member: &str) -> Value {
    let text = fs::read(vector("vectors.json")).unwrap();
    let mut all: Value = serde_json::from_slice(&text).unwrap();
    all[member].take()
}

/// The elements of a list.
pub(crate) fn each(list: &Value) -> &[Value] {
    list.as_array().unwrap()
}

/// A text.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// How the program ended.
pub(crate) struct Answer {
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
    line: String,
}

impl Answer {
    /// Of a program that has ended.
    pub(crate) fn of(command: &Command, output: std::process::Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            line: format!("{command:?}"),
        }
    }

    /// What it printed, when all went well, without the last newline.
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.status, 0, "{}: {}", self.line, self.stderr);
        assert_eq!(self.stderr, "", "{}", self.line);
        std::str::from_utf8(&self.stdout).unwrap().trim_end_matches('\n')
    }

    /// Fails with this status, and one line that ends in this code.
    pub(crate) fn refused(&self, status: i32, code: &str) {
        assert_eq!(self.status, status, "{}: {}", self.line, self.stderr);
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "{}: {}", self.line, self.stderr);
        let end = format!("[{code}]\n");
        assert!(self.stderr.ends_with(&end), "{}: {} has not {code}", self.line, self.stderr);
    }

    /// Fails with this status and one line with these words.
    pub(crate) fn fails(&self, status: i32, words: &str) {
        assert_eq!(self.status, status, "{}: {}", self.line, self.stderr);
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "{}: {}", self.line, self.stderr);
        assert!(self.stderr.contains(words), "{}: {} has not {words}", self.line, self.stderr);
    }
}

/// `emergence-runc emergence WORDS…`.
pub(crate) fn emergence<W: AsRef<std::ffi::OsStr>>(words: &[W]) -> Answer {
    emergence_with(words, Stdio::null())
}

/// The program.
pub(crate) fn program() -> std::ffi::OsString {
    std::env::var_os("EMERGENCE_RUNC_BIN").unwrap_or(env!("CARGO_BIN_EXE_emergence-runc").into())
}

/// A copy of a cache of the vectors, which a test may corrupt.
pub(crate) fn copy_cache(name: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("cache");
    fs::create_dir_all(to.join("nar")).unwrap();
    let from = vector("caches").join(name);
    for place in ["", "nar"] {
        for entry in fs::read_dir(from.join(place)).unwrap().flatten() {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.join(place).join(entry.file_name())).unwrap();
            }
        }
    }
    (directory, to)
}

/// The options that trust all keys of the vectors.
pub(crate) fn trusting() -> Vec<String> {
    let keys = vectors("keys");
    keys.as_object()
        .unwrap()
        .values()
        .flat_map(|key| ["--trusted-key".into(), text(key).to_owned()])
        .collect()
}

/// The same with a standard input.
pub(crate) fn emergence_with<W: AsRef<std::ffi::OsStr>>(words: &[W], input: impl Into<Stdio>) -> Answer {
    let mut command = Command::new(program());
    command.arg("emergence").args(words).stdin(input);
    let output = command.output().unwrap();
    Answer::of(&command, output)
}

/// Bytes given as `NAME`, or in base64 under `NAME_b64`.
pub(crate) fn bytes(value: &Value, name: &str) -> Vec<u8> {
    match value.get(format!("{name}_b64")) {
        Some(coded) => BASE64.decode(text(coded).as_bytes()).unwrap(),
        None => text(&value[name]).as_bytes().to_vec(),
    }
}

/// Makes a tree of the vectors at `root`.
pub(crate) fn make_tree(tree: &Value, root: &Path) {
    for entry in each(&tree["entries"]) {
        let path = bytes(entry, "path");
        let path = match path.is_empty() {
            true => root.to_owned(),
            false => root.join(std::ffi::OsStr::from_bytes(&path)),
        };
        match text(&entry["type"]) {
            "dir" => fs::create_dir(&path).unwrap(),
            "symlink" => symlink(std::ffi::OsStr::from_bytes(&bytes(entry, "target")), &path).unwrap(),
            "file" => {
                fs::write(&path, bytes(entry, "data")).unwrap();
                let mode = if entry["executable"] == true { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
            other => panic!("{other}"),
        }
    }
}

/// A directory with the trees of the vectors, by name.
pub(crate) fn trees() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, tree) in vectors("trees").as_object().unwrap() {
        make_tree(tree, &directory.path().join(name));
    }
    directory
}

/// The default terms of a verification, for tests that call the library: one job, no store.
pub(crate) fn default_terms() -> Terms {
    Terms {
        dir: StoreDir::default(),
        trust: Trust::default(),
        limits: Limits::default(),
        scan: false,
        jobs: 1,
        watch: Arc::new(Unwatched),
        destination: None,
    }
}
