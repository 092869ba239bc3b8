//! Parameters of an automaton: their declarations, and the texts that contain them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::fields::Field;
use crate::emergence::base::refusal::{Code, Fault, Result};

/// A parameter that the caller binds at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// The type of its values.
    pub kind: ParameterKind,
    /// Its default value, as text.
    pub default: Option<String>,
    /// Whether the caller must give a value, even if there is a default.
    pub required: bool,
}

/// The type of a parameter's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// A number from 1 to 65535.
    Port,
    /// Any text without NUL.
    String,
    /// A signed 64-bit integer.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A path that is not empty.
    Path,
}

const KINDS: [(&str, ParameterKind); 5] = [
    ("port", ParameterKind::Port),
    ("string", ParameterKind::String),
    ("integer", ParameterKind::Integer),
    ("boolean", ParameterKind::Boolean),
    ("path", ParameterKind::Path),
];

impl ParameterKind {
    /// Its name in documents.
    pub fn word(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }

    /// The form of its values, for messages.
    pub(crate) fn form(self) -> &'static str {
        match self {
            Self::Port => "a number from 1 to 65535, without zeros before it",
            Self::String => "a string without NUL",
            Self::Integer => "a 64-bit integer, without + or zeros before it",
            Self::Boolean => "true or false",
            Self::Path => "a string without NUL, and not empty",
        }
    }

    /// Whether `text` is a value of this type in its canonical form.
    pub(crate) fn has(self, text: &str) -> bool {
        match self {
            Self::Port => text.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == text),
            Self::String => !text.contains('\0'),
            Self::Integer => text.parse::<i64>().is_ok_and(|number| number.to_string() == text),
            Self::Boolean => text == "true" || text == "false",
            Self::Path => !text.is_empty() && !text.contains('\0'),
        }
    }
}

/// Reads the list `parameters` of a document.
pub(crate) fn read(field: &Field<'_>) -> Result<Vec<Parameter>> {
    let mut names = BTreeSet::new();
    let mut parameters = Vec::new();
    for field in field.list()? {
        let mut members = field.members()?;
        let name = members.need("name")?;
        let kind = members.need("type")?.word(&KINDS)?;
        let parameter = Parameter {
            name: name.text()?.to_owned(),
            kind,
            default: members.read("default", |field| default(&field, kind))?,
            required: members.read("required", |field| field.truth())?.unwrap_or(false),
        };
        members.end()?;
        if !is_name(&parameter.name) {
            return Err(name.refuse("must be 1 to 64 letters, digits and _ - ."));
        }
        if !names.insert(parameter.name.clone()) {
            return Err(name.refuse_with(Code::DocParameter, format!("{} is declared twice", parameter.name)));
        }
        parameters.push(parameter);
    }
    Ok(parameters)
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    !text.is_empty() && text.len() <= 64 && text.bytes().all(plain)
}

fn default(field: &Field<'_>, kind: ParameterKind) -> Result<String> {
    let text = match (kind, field.value) {
        (ParameterKind::Port | ParameterKind::Integer, Value::Number(number)) => number.to_string(),
        (ParameterKind::Boolean, Value::Bool(truth)) => truth.to_string(),
        (ParameterKind::String | ParameterKind::Path, Value::String(text)) => text.clone(),
        _ => String::from('\0'),
    };
    if kind.has(&text) {
        Ok(text)
    } else {
        let words = format!("is not of type {}: that is {}", kind.word(), kind.form());
        Err(field.refuse_with(Code::DocParameter, words))
    }
}

/// A text that contains parameters: `--port={port}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Plain(String),
    Parameter(String),
}

impl Text {
    /// Parses `{name}`, and `{{` as a brace. Refused with `doc.parameter`; `path` is its path in
    /// the document.
    pub(crate) fn parse(text: &str, path: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('{') {
                plain.push('{');
                rest = after;
                continue;
            }
            let (name, after) = after.split_once('}').filter(|(name, _)| is_name(name)).ok_or_else(|| {
                let words = "has a brace that does not begin a {PARAMETER}; write {{ for a brace";
                Fault::refused(Code::DocParameter, path, words)
            })?;
            if !plain.is_empty() {
                parts.push(Part::Plain(std::mem::take(&mut plain)));
            }
            parts.push(Part::Parameter(name.to_owned()));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Plain(plain));
        }
        Ok(Self(parts))
    }

    /// The parameters in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Parameter(name) => Some(name.as_str()),
            Part::Plain(_) => None,
        })
    }

    /// The parameter, if the text consists of nothing else.
    pub fn only_parameter(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Parameter(name)] => Some(name),
            _ => None,
        }
    }

    /// The text with these values inserted. A parameter without a value is left as `{name}`.
    pub fn filled(&self, values: &BTreeMap<String, String>) -> String {
        let part = |part: &Part| match part {
            Part::Plain(text) => text.clone(),
            Part::Parameter(name) => values.get(name).cloned().unwrap_or_else(|| format!("{{{name}}}")),
        };
        self.0.iter().map(part).collect()
    }
}

/// A refusal that names a parameter.
pub(crate) fn refuse(name: &str, words: impl Into<String>) -> Fault {
    Fault::refused(Code::DocParameter, format!("parameter {name}"), words)
}

/// Checks that the parameter of a port's number has the type port.
pub(super) fn is_port(parameters: &[Parameter], name: &str, port: &str) -> Result<()> {
    match parameters.iter().find(|parameter| parameter.name == name) {
        Some(parameter) if parameter.kind != ParameterKind::Port => {
            let kind = parameter.kind.word();
            Err(refuse(name, format!("is the number of the port {port}, but of type {kind}")))
        }
        _ => Ok(()),
    }
}

/// Checks that the declared parameters are those used.
pub(super) fn all_used(parameters: &[Parameter], used: &BTreeSet<&str>) -> Result<()> {
    let declared: BTreeSet<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    if let Some(name) = used.difference(&declared).next() {
        return Err(refuse(name, "is used, but not declared"));
    }
    match declared.difference(used).next() {
        Some(name) => Err(refuse(name, "is declared, but not used")),
        None => Ok(()),
    }
}
