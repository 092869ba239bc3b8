//! The values to write into a cgroup, and the errors in `linux.resources`.

use std::borrow::Cow;
use std::fmt;

use crate::error::{Error, Kind};

/// A value of `linux.resources` that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLimit {
    /// JSON path, such as `linux.resources.memory.limit`.
    pub field: String,
    /// The reason, and what to write instead.
    pub words: String,
    /// [`Kind::Invalid`], or [`Kind::Unsupported`] if another kernel or cgroup version could apply
    /// it.
    pub kind: Kind,
}

impl BadLimit {
    /// A value that is always invalid.
    pub fn invalid(field: impl Into<String>, words: impl Into<String>) -> Self {
        Self { field: field.into(), words: words.into(), kind: Kind::Invalid }
    }

    /// A value without a counterpart in this cgroup version.
    pub fn unsupported(field: impl Into<String>, words: impl Into<String>) -> Self {
        Self { field: field.into(), words: words.into(), kind: Kind::Unsupported }
    }
}

impl fmt::Display for BadLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.words)
    }
}

impl From<BadLimit> for Error {
    fn from(bad: BadLimit) -> Self {
        Error::new(bad.kind, bad.to_string())
    }
}

/// How to handle a missing file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// Refuse: the limit was requested.
    #[default]
    Refuse,
    /// Continue: without the file, the request already holds.
    Skip,
    /// Write another file: (file, value).
    Instead(&'static str, String),
}

/// One write into a cgroup's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// File name; its part before the first dot is the controller.
    pub file: Cow<'static, str>,
    /// The value; each line is a separate write.
    pub value: String,
    /// JSON path of the field that requests it.
    pub field: Cow<'static, str>,
    /// How to handle a missing file.
    pub missing: Missing,
}

impl Setting {
    /// The controller that must be enabled for the file to exist; empty for the core's own files
    /// (`cgroup.…`).
    pub fn controller(&self) -> &str {
        match self.file.split('.').next() {
            Some("cgroup") | None => "",
            Some(name) => name,
        }
    }
}

/// The maximum that a group may use, in bytes. `None`: any amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory.
    pub memory: Option<u64>,
    /// Memory and swap together.
    pub sum: Option<u64>,
}

/// All settings of `linux.resources`, in the order of writing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupSettings {
    /// The writes.
    pub writes: Vec<Setting>,
    /// With `memory.checkBeforeUpdate`: nothing is written if the group uses more.
    pub usage_at_most: Usage,
    /// Settings without a kernel file that can safely be ignored; for the log.
    pub warnings: Vec<String>,
}

impl CgroupSettings {
    pub(super) fn put(
        &mut self,
        field: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
        value: impl fmt::Display,
    ) {
        self.put_or(field, file, value, Missing::Refuse);
    }

    pub(super) fn put_or(
        &mut self,
        field: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
        value: impl fmt::Display,
        missing: Missing,
    ) {
        self.writes.push(Setting {
            file: file.into(),
            value: value.to_string(),
            field: field.into(),
            missing,
        });
    }
}
