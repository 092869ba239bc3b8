//! Binds the parameters of an automaton to values when it is started.

use std::collections::BTreeMap;

use super::document::{Document, PortNumber, Protocol};
use super::parameters::{Parameter, refuse};
use crate::emergence::base::refusal::{Fault, Result};

/// A document with values for all parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The program and its arguments. Empty if only the group has programs.
    pub args: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Its ports.
    pub ports: Vec<BoundPort>,
    /// The value of each parameter.
    pub parameters: BTreeMap<String, String>,
}

/// A port with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundPort {
    /// Its name.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// Whether a parameter sets the number.
    pub configurable: bool,
}

/// Binds the parameters of `document` to the given values, and the others to their defaults.
///
/// Refused with `doc.parameter`: an undeclared parameter, one that is given twice, a value of the
/// wrong type, and a missing value. A parameter that is `required` does not take its default.
pub fn bind(document: &Document, given: &[(String, String)]) -> Result<Bound> {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in given {
        let parameter = document.parameters.iter().find(|parameter| parameter.name == *name);
        let parameter = parameter.ok_or_else(|| not_declared(name, document))?;
        if !parameter.kind.has(value) {
            let (value, kind, form) = (value.escape_debug(), parameter.kind.word(), parameter.kind.form());
            return Err(refuse(name, format!("\"{value}\" is not of type {kind}: that is {form}")));
        }
        if values.insert(name.clone(), value.clone()).is_some() {
            return Err(refuse(name, "is given twice"));
        }
    }
    for parameter in &document.parameters {
        if values.contains_key(&parameter.name) {
            continue;
        }
        let default = parameter.default.clone().filter(|_| !parameter.required);
        let value = default.ok_or_else(|| {
            let (name, kind) = (&parameter.name, parameter.kind.word());
            refuse(name, format!("needs a value of type {kind}; give --param {name}=VALUE"))
        })?;
        values.insert(parameter.name.clone(), value);
    }
    fill(document, values)
}

fn not_declared(name: &str, document: &Document) -> Fault {
    let known: Vec<&str> = document.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    let known = if known.is_empty() { "are none".to_owned() } else { format!("is {}", known.join(", ")) };
    refuse(&name.escape_debug().to_string(), format!("is not declared; there {known}"))
}

/// Binds parameters to their defaults. Those without a default keep their `{name}`, and their ports
/// are left out.
pub(crate) fn defaults(document: &Document) -> Result<Bound> {
    let default = |parameter: &Parameter| Some((parameter.name.clone(), parameter.default.clone()?));
    fill(document, document.parameters.iter().filter_map(default).collect())
}

fn fill(document: &Document, values: BTreeMap<String, String>) -> Result<Bound> {
    let mut bound =
        Bound { args: Vec::new(), env: BTreeMap::new(), ports: Vec::new(), parameters: BTreeMap::new() };
    if let Some(init) = &document.init {
        bound.args.clone_from(&init.entrypoint);
        bound.args.extend(init.args.iter().map(|text| text.filled(&values)));
        bound.env = init.env.iter().map(|(name, text)| (name.clone(), text.filled(&values))).collect();
    }
    for port in &document.ports {
        let (number, configurable) = match &port.port {
            PortNumber::Fixed(number) => (*number, false),
            PortNumber::Parameter(name) => match values.get(name) {
                Some(value) => (value.parse().map_err(|_| refuse(name, "is not of type port"))?, true),
                None => continue,
            },
        };
        let (name, protocol) = (port.name.clone(), port.protocol);
        bound.ports.push(BoundPort { name, protocol, port: number, configurable });
    }
    bound.parameters = values;
    Ok(bound)
}
