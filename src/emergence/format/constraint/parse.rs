//! Parses constraints from JSON, strictly: ignoring an unknown member would ignore a requirement.

use serde_json::{Map, Value};

use super::values::{Values, version};
use super::{Constraint, Constraints, GpuNeed, Need, Test};
use crate::emergence::base::refusal::{Code, Fault, Result};

/// Maximum nesting of lists.
const DEEPEST: usize = 16;

/// Maximum number of constraints in all lists.
const MOST: usize = 10_000;

impl Constraints {
    /// Parses a list of constraints; `place`: its JSON path, for messages.
    ///
    /// `doc.unknown-field` for a member that its kind does not have; `json.syntax` for a malformed
    /// one. An unknown kind is not an error of the document: see [`Constraints::check`].
    pub fn parse(value: &Value, place: &str) -> Result<Self> {
        let mut left = MOST;
        list(value, place, Within { depth: 0, may_be_optional: true }, &mut left).map(Self)
    }
}

/// The position of a constraint.
#[derive(Clone, Copy)]
struct Within {
    depth: usize,
    /// False in `anyOf` and `noneOf`, where an optional constraint has no meaning.
    may_be_optional: bool,
}

fn wrong(place: &str, words: impl Into<String>) -> Fault {
    Fault::refused(Code::JsonSyntax, place, words)
}

fn list(value: &Value, place: &str, within: Within, left: &mut usize) -> Result<Vec<Constraint>> {
    let list = value.as_array().ok_or_else(|| wrong(place, "must be a list of constraints"))?;
    let numbered = list.iter().enumerate();
    numbered.map(|(at, value)| constraint(value, &format!("{place}[{at}]"), within, left)).collect()
}

/// Recursion is limited by [`DEEPEST`].
fn constraint(value: &Value, place: &str, within: Within, left: &mut usize) -> Result<Constraint> {
    *left = left.checked_sub(1).ok_or_else(|| wrong(place, format!("there are more than {MOST}")))?;
    let map = value.as_object().ok_or_else(|| wrong(place, "must be an object with a kind, or lists"))?;
    let members = Members { map, place };
    let optional = members.optional_flag()?;
    if optional && !within.may_be_optional {
        return Err(wrong(place, "only a constraint that must hold can be optional"));
    }
    let need = match members.text("kind")? {
        None => lists(&members, within, left)?,
        Some(kind) => parse_need(&kind, &members)?,
    };
    Ok(Constraint { shown: value.to_string(), optional, need })
}

fn lists(members: &Members<'_>, within: Within, left: &mut usize) -> Result<Need> {
    members.allow_members(&["anyOf", "allOf", "noneOf"])?;
    if within.depth == DEEPEST {
        return Err(wrong(members.place, format!("lists are nested more than {DEEPEST} deep")));
    }
    let mut of = |name: &str, may_be_optional| {
        let within = Within { depth: within.depth + 1, may_be_optional };
        let found = members.map.get(name);
        found.map(|value| list(value, &members.at(name), within, left)).transpose()
    };
    let (any, all, none) = (of("anyOf", false)?, of("allOf", within.may_be_optional)?, of("noneOf", false)?);
    if any.is_none() && all.is_none() && none.is_none() {
        return Err(wrong(members.place, "has no kind, and none of anyOf, allOf, noneOf"));
    }
    Ok(Need::Lists { any, all: all.unwrap_or_default(), none: none.unwrap_or_default() })
}

fn parse_need(kind: &str, members: &Members<'_>) -> Result<Need> {
    let words = |needed: bool| {
        members.allow_members(&["anyOf", "allOf", "noneOf"])?;
        members.values(needed)
    };
    Ok(Need::Test(match kind {
        "arch" => Test::Arch(words(true)?),
        "os" => Test::Os(words(true)?),
        "namespace" => Test::Namespace(words(true)?),
        "lsm" => Test::Lsm(words(true)?),
        "seccomp" => Test::Seccomp(words(false)?),
        "kernel" => {
            members.allow_members(&["min"])?;
            let min = members.needed_text("min")?;
            if version(&min).is_empty() {
                return Err(wrong(&members.at("min"), "must be a version such as 5.10"));
            }
            Test::Kernel { min }
        }
        "cpu" => {
            members.allow_members(&["count", "features"])?;
            let (count, features) = (members.number("count")?, members.words("features")?);
            members.some_of(count.is_some() || features.is_some(), "count or features")?;
            Test::Cpu { count: count.unwrap_or(0), features: features.unwrap_or_default() }
        }
        "memory" => Test::Memory { min: members.min()? },
        "disk" => Test::Disk { min: members.min()? },
        "gpu" => gpu(members)?,
        "device" => {
            members.allow_members(&["path"])?;
            let path = members.needed_text("path")?;
            let plain = path.strip_prefix("/dev/").is_some_and(|rest| {
                rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
            });
            if !plain {
                return Err(wrong(&members.at("path"), "must be a plain path below /dev"));
            }
            Test::Device { path }
        }
        "cgroup" => {
            members.allow_members(&["controllers"])?;
            let controllers = members.words("controllers")?;
            members.some_of(controllers.is_some(), "controllers")?;
            Test::Cgroup { controllers: controllers.unwrap_or_default() }
        }
        "label" => {
            members.allow_members(&["key", "value", "anyOf", "allOf", "noneOf"])?;
            let mut values = members.values(false)?;
            if let Some(value) = members.text("value")? {
                values.all.push(value);
            }
            Test::Label { key: members.needed_text("key")?, values }
        }
        unknown => return Ok(Need::Unknown(unknown.to_owned())),
    }))
}

fn gpu(members: &Members<'_>) -> Result<Test> {
    members.allow_members(&["vendor", "model", "count", "memory", "driver"])?;
    let count = members.number("count")?.unwrap_or(1);
    let count = usize::try_from(count).ok().filter(|count| *count > 0);
    Ok(Test::Gpu(GpuNeed {
        vendor: members.text("vendor")?,
        model: members.text("model")?,
        count: count.ok_or_else(|| wrong(&members.at("count"), "must be 1 or more"))?,
        memory: members.number("memory")?,
        driver: members.text("driver")?,
    }))
}

/// The JSON members of one constraint.
struct Members<'a> {
    map: &'a Map<String, Value>,
    place: &'a str,
}

impl Members<'_> {
    fn at(&self, name: &str) -> String {
        format!("{}.{name}", self.place)
    }

    /// Refuses members that are neither in `known` nor common to all kinds.
    fn allow_members(&self, known: &[&str]) -> Result<()> {
        let stranger = self.map.keys().find(|name| {
            !known.contains(&name.as_str())
                && *name != "kind"
                && *name != "optional"
                && !name.starts_with("x-")
        });
        match stranger {
            None => Ok(()),
            Some(name) => Err(Fault::refused(Code::DocUnknownField, self.at(name), "is unknown here")),
        }
    }

    fn some_of(&self, given: bool, names: &str) -> Result<()> {
        if given { Ok(()) } else { Err(wrong(self.place, format!("needs {names}"))) }
    }

    fn optional_flag(&self) -> Result<bool> {
        match self.map.get("optional") {
            None => Ok(false),
            Some(Value::Bool(optional)) => Ok(*optional),
            Some(_) => Err(wrong(&self.at("optional"), "must be true or false")),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        match self.map.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(_) => Err(wrong(&self.at(name), "must be a string")),
        }
    }

    fn needed_text(&self, name: &str) -> Result<String> {
        self.text(name)?.ok_or_else(|| wrong(self.place, format!("needs {name}")))
    }

    fn number(&self, name: &str) -> Result<Option<u64>> {
        let Some(value) = self.map.get(name) else { return Ok(None) };
        value.as_u64().map(Some).ok_or_else(|| wrong(&self.at(name), "must be an integer, 0 or more"))
    }

    fn min(&self) -> Result<u64> {
        self.allow_members(&["min"])?;
        self.number("min")?.ok_or_else(|| wrong(self.place, "needs min"))
    }

    fn words(&self, name: &str) -> Result<Option<Vec<String>>> {
        let Some(value) = self.map.get(name) else { return Ok(None) };
        let words = value.as_array().and_then(|list| {
            list.iter().map(|word| word.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        words.map(Some).ok_or_else(|| wrong(&self.at(name), "must be a list of strings"))
    }

    /// `needed`: one of the lists is required.
    fn values(&self, needed: bool) -> Result<Values> {
        let (any, all, none) = (self.words("anyOf")?, self.words("allOf")?, self.words("noneOf")?);
        let given = any.is_some() || all.is_some() || none.is_some();
        self.some_of(given || !needed, "anyOf, allOf or noneOf")?;
        Ok(Values { any, all: all.unwrap_or_default(), none: none.unwrap_or_default() })
    }
}
