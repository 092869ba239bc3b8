//! Reads a JSON document member by member: each must have its type, and none may remain.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::emergence::base::refusal::{Code, Fault, Result};

/// Prefix of members that are ignored.
const FREE: &str = "x-";

/// A value and its path in the document: `init.group[0].name`.
pub(crate) struct Field<'a> {
    pub path: String,
    pub value: &'a Value,
}

/// An object whose members are taken one by one.
pub(crate) struct Members<'a> {
    path: String,
    left: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Field<'a> {
    /// The whole document.
    pub(crate) fn root(value: &'a Value) -> Self {
        Self { path: String::new(), value }
    }

    /// A `json.syntax` refusal of the value.
    pub(crate) fn refuse(&self, words: impl Into<String>) -> Fault {
        self.refuse_with(Code::JsonSyntax, words)
    }

    /// A refusal with another code.
    pub(crate) fn refuse_with(&self, code: Code, words: impl Into<String>) -> Fault {
        let subject = if self.path.is_empty() { "the document" } else { &self.path };
        Fault::refused(code, subject, words)
    }

    /// A text.
    pub(crate) fn text(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.refuse("must be a string"))
    }

    /// A text without NUL, which can be passed to a program.
    pub(crate) fn argument(&self) -> Result<&'a str> {
        let text = self.text()?;
        if text.contains('\0') { Err(self.refuse("must not have a NUL byte")) } else { Ok(text) }
    }

    /// One of these words.
    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.refuse(format!("is \"{}\"; can be {}", text.escape_debug(), known.join(", ")))
        })
    }

    /// An integer within these bounds, both included.
    pub(crate) fn number(&self, least: u64, most: u64) -> Result<u64> {
        let number = self.value.as_u64().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| self.refuse(format!("must be an integer from {least} to {most}")))
    }

    /// True or false.
    pub(crate) fn truth(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.refuse("must be true or false"))
    }

    /// The elements of a list.
    pub(crate) fn list(&self) -> Result<Vec<Field<'a>>> {
        let list = self.value.as_array().ok_or_else(|| self.refuse("must be a list"))?;
        let element = |(at, value)| Field { path: format!("{}[{at}]", self.path), value };
        Ok(list.iter().enumerate().map(element).collect())
    }

    /// A list of arguments. A single text is refused: there is no shell to split it.
    pub(crate) fn arguments(&self) -> Result<Vec<String>> {
        if self.value.is_string() {
            return Err(self.refuse_with(Code::DocShellForm, "is a string; must be a list of arguments"));
        }
        self.list()?.iter().map(|argument| argument.argument().map(str::to_owned)).collect()
    }

    /// The members of an object with arbitrary names.
    pub(crate) fn entries(&self) -> Result<Vec<(&'a str, Field<'a>)>> {
        let member = |(name, value): (&'a String, &'a Value)| {
            (name.as_str(), Field { path: below(&self.path, name), value })
        };
        Ok(self.object()?.iter().map(member).collect())
    }

    /// The members of an object, to be taken.
    pub(crate) fn members(&self) -> Result<Members<'a>> {
        let left = self.object()?.iter().map(|(name, value)| (name.as_str(), value)).collect();
        Ok(Members { path: self.path.clone(), left })
    }

    fn object(&self) -> Result<&'a Map<String, Value>> {
        self.value.as_object().ok_or_else(|| self.refuse("must be an object"))
    }
}

fn below(path: &str, name: &str) -> String {
    let dot = if path.is_empty() { "" } else { "." };
    format!("{path}{dot}{}", name.escape_debug())
}

impl<'a> Members<'a> {
    /// Takes a member; `None`: it is missing or null.
    pub(crate) fn take(&mut self, name: &str) -> Option<Field<'a>> {
        let value = self.left.remove(name).filter(|value| !value.is_null())?;
        Some(Field { path: below(&self.path, name), value })
    }

    /// Takes a required member.
    pub(crate) fn need(&mut self, name: &str) -> Result<Field<'a>> {
        let path = below(&self.path, name);
        self.take(name).ok_or_else(|| Fault::refused(Code::JsonSyntax, path, "is missing"))
    }

    /// Takes a member, if present, and reads it.
    pub(crate) fn read<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Field<'a>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.take(name).map(read).transpose()
    }

    /// Refuses remaining members, except those that are ignored.
    pub(crate) fn end(self) -> Result<()> {
        match self.left.keys().find(|name| !name.starts_with(FREE)) {
            Some(name) => {
                let words = "is an unknown member";
                Err(Fault::refused(Code::DocUnknownField, below(&self.path, name), words))
            }
            None => Ok(()),
        }
    }
}
