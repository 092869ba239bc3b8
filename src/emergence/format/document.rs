//! The document of an automaton: strictly typed, not verified.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::constraint::Constraints;
use super::declaration::Declaration;
use super::fields::{Field, Members};
use super::parameters::{self, Parameter, Text};
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::jcs::canonical;
use crate::emergence::base::json;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::keys::Signature;
use crate::emergence::nix::object::Object;
use crate::emergence::nix::store_path::{ContentAddress, Name, StoreDir, StorePath};
use crate::sys::signal_names;

/// The only schema version so far.
const SCHEMA: u64 = 1;

/// The contents of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Name of the automaton.
    pub name: Name,
    /// Its source, if declared.
    pub declaration: Option<Declaration>,
    /// Its output objects, at least one, by output name.
    pub outputs: BTreeMap<String, StorePath>,
    /// The outputs and their references, transitively, in the order of the document.
    pub closure: Vec<Object>,
    /// How to start it, if it can be started.
    pub init: Option<Init>,
    /// Parameters that the caller binds at the start, in the order of the document.
    pub parameters: Vec<Parameter>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Its requirements on a machine: JSON objects, not interpreted here.
    pub constraints: Vec<Value>,
    /// Its resource limits.
    pub resources: Resources,
    /// The whole document as JSON.
    value: Value,
}

/// How an automaton is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// The program, by its absolute path, and its first arguments. May be empty only if there is a
    /// group.
    pub entrypoint: Vec<String>,
    /// Further arguments, which may contain parameters.
    pub args: Vec<Text>,
    /// The environment; values may contain parameters.
    pub env: BTreeMap<String, Text>,
    /// The working directory, an absolute path.
    pub cwd: String,
    /// The user of the process: names or numbers, `user` or `user:group`.
    pub user: String,
    /// The stop signal, such as `SIGTERM`; `None`: the default.
    pub stop_signal: Option<String>,
    /// Programs that run under a supervisor, in start order.
    pub group: Vec<Member>,
    /// Which programs of the group restart when one ends.
    pub strategy: Strategy,
}

/// A program of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, unique in the group.
    pub name: String,
    /// The program, by its absolute path, and its arguments.
    pub entrypoint: Vec<String>,
    /// When it is restarted.
    pub restart: Restart,
}

/// When a program of a group is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Whenever it ends.
    Permanent,
    /// When it fails.
    Transient,
    /// Never.
    Temporary,
}

/// Which programs of a group restart when one of them does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Only that one.
    OneForOne,
    /// All of them.
    OneForAll,
    /// That one and those after it.
    RestForOne,
}

/// A port of an automaton.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name, unique among the ports.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: PortNumber,
}

/// The number of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortNumber {
    /// A fixed number.
    Fixed(u16),
    /// The value of this parameter.
    Parameter(String),
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    const WORDS: [(&'static str, Self); 3] = [("tcp", Self::Tcp), ("udp", Self::Udp), ("sctp", Self::Sctp)];

    /// Its name in documents.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, one)| *one == self).map_or("", |(word, _)| word)
    }
}

/// Resource limits of an automaton. `None`: not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Maximum memory, in bytes.
    pub memory_limit: Option<u64>,
    /// CPU weight relative to others, 1 to 10000; the default is 100.
    pub cpu_weight: Option<u64>,
    /// Maximum CPU time per period.
    pub cpu_max: Option<CpuMax>,
    /// Maximum number of processes and threads.
    pub pids_limit: Option<u64>,
    /// Block I/O weight relative to others, 1 to 10000; the default is 100.
    pub io_weight: Option<u64>,
}

/// CPU bandwidth: `"50000 100000"`, or `"max 100000"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuMax {
    /// Microseconds of CPU time in each period; `None`: unlimited.
    pub quota: Option<u64>,
    /// The period, in microseconds.
    pub period: u64,
}

impl Document {
    /// Parses a document, which messages call `subject`.
    ///
    /// Refused: `json.syntax` and `json.duplicate-key`; an unknown member (`doc.unknown-field`); a
    /// text instead of a list of arguments (`doc.shell-form`); parameters that are undeclared or
    /// unused (`doc.parameter`); nothing to start (`doc.entrypoint`); an input without a digest
    /// (`declaration.unpinned`); errors of [`StorePath`], [`struct@Hash`] and [`ContentAddress`].
    pub fn parse(bytes: &[u8], subject: &str, dir: &StoreDir) -> Result<Self> {
        Self::from_value(json::parse(bytes, subject)?, dir)
    }

    /// As [`Self::parse`], from the result of [`json::parse`].
    pub fn from_value(value: Value, dir: &StoreDir) -> Result<Self> {
        // Numbers without a canonical form are refused here, anywhere in the document.
        canonical(&value)?;
        let mut members = Field::root(&value).members()?;
        members.need("schemaVersion")?.number(SCHEMA, SCHEMA)?;
        let document = Self {
            name: Name::new(members.need("name")?.text()?)?,
            declaration: members.read("declaration", |field| Declaration::read(&field, dir))?,
            outputs: outputs(&members.need("outputs")?, dir)?,
            closure: closure(&members.need("closure")?, dir)?,
            init: members.read("init", |field| init(&field))?,
            parameters: members.read("parameters", |field| parameters::read(&field))?.unwrap_or_default(),
            ports: members.read("ports", |field| ports(&field))?.unwrap_or_default(),
            constraints: members.read("constraints", |field| constraints(&field))?.unwrap_or_default(),
            resources: members.read("resources", |field| resources(&field))?.unwrap_or_default(),
            value: Value::Null,
        };
        members.end()?;
        document.check_parameters()?;
        document.check_outputs(dir)?;
        Ok(Self { value, ..document })
    }

    /// The whole document as JSON.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Its canonical form, RFC 8785.
    pub fn canonical(&self) -> Result<Vec<u8>> {
        canonical(&self.value)
    }

    /// The declaration of an object in the closure.
    pub fn object(&self, path: &StorePath) -> Option<&Object> {
        self.closure.iter().find(|object| object.path == *path)
    }

    fn check_outputs(&self, dir: &StoreDir) -> Result<()> {
        match self.outputs.iter().find(|(_, path)| self.object(path).is_none()) {
            Some((name, path)) => {
                let words = format!("is the output {name}, but not in the closure");
                Err(Fault::refused(Code::ClosureIncomplete, dir.path(path), words))
            }
            None => Ok(()),
        }
    }

    fn check_parameters(&self) -> Result<()> {
        let texts = self.init.iter().flat_map(|init| init.args.iter().chain(init.env.values()));
        let mut used: BTreeSet<&str> = texts.flat_map(Text::names).collect();
        for port in &self.ports {
            if let PortNumber::Parameter(name) = &port.port {
                used.insert(name);
                parameters::is_port(&self.parameters, name, &port.name)?;
            }
        }
        parameters::all_used(&self.parameters, &used)
    }
}

fn outputs(field: &Field<'_>, dir: &StoreDir) -> Result<BTreeMap<String, StorePath>> {
    let mut outputs = BTreeMap::new();
    for (name, path) in field.entries()? {
        // Output names have the form of object names, because they become part of lines that are
        // hashed.
        Name::new(name)?;
        outputs.insert(name.to_owned(), dir.parse(path.text()?)?);
    }
    if outputs.is_empty() { Err(field.refuse("has no output")) } else { Ok(outputs) }
}

fn closure(field: &Field<'_>, dir: &StoreDir) -> Result<Vec<Object>> {
    let mut seen = BTreeSet::new();
    let mut objects = Vec::new();
    for field in field.list()? {
        let object = object(&field, dir)?;
        if !seen.insert(object.path.clone()) {
            return Err(field.refuse(format!("has {} a second time", dir.path(&object.path))));
        }
        objects.push(object);
    }
    Ok(objects)
}

fn object(field: &Field<'_>, dir: &StoreDir) -> Result<Object> {
    let mut members = field.members()?;
    let path = |field: Field<'_>| dir.parse(field.text()?);
    let object = Object {
        path: path(members.need("path")?)?,
        nar_hash: Hash::parse(members.need("narHash")?.text()?, Some(Algorithm::Sha256))?,
        nar_size: members.need("narSize")?.number(0, u64::MAX)?,
        references: each(&mut members, "references", path)?.into_iter().collect(),
        deriver: members.read("deriver", path)?,
        signatures: each(&mut members, "signatures", signature)?,
        ca: members.read("ca", |field| ContentAddress::parse(field.text()?))?,
    };
    members.end()?;
    Ok(object)
}

fn signature(field: Field<'_>) -> Result<Signature> {
    Signature::parse(field.text()?).ok_or_else(|| field.refuse("must be NAME:BASE64 of 64 bytes"))
}

/// Reads each element of a list; a missing list is empty.
fn each<'a, T>(
    members: &mut Members<'a>,
    name: &str,
    read: impl Fn(Field<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let list = members.read(name, |field| field.list()?.into_iter().map(&read).collect())?;
    Ok(list.unwrap_or_default())
}

fn init(field: &Field<'_>) -> Result<Init> {
    let mut members = field.members()?;
    let group = each(&mut members, "group", member)?;
    let mut names = BTreeSet::new();
    if let Some(twice) = group.iter().find(|member| !names.insert(&member.name)) {
        return Err(field.refuse(format!("two of the group are called {}", twice.name)));
    }
    let strategy = members.read("strategy", |field| {
        if group.is_empty() {
            Err(field.refuse("has no effect without a group"))
        } else {
            field.word(&[
                ("one_for_one", Strategy::OneForOne),
                ("one_for_all", Strategy::OneForAll),
                ("rest_for_one", Strategy::RestForOne),
            ])
        }
    })?;
    let init = Init {
        entrypoint: members.read("entrypoint", |field| entrypoint(&field))?.unwrap_or_default(),
        args: members.read("args", |field| texts(&field))?.unwrap_or_default(),
        env: members.read("env", |field| environment(&field))?.unwrap_or_default(),
        cwd: members.read("cwd", |field| absolute(&field))?.unwrap_or_else(|| "/".to_owned()),
        user: members.read("user", |field| user(&field))?.unwrap_or_else(|| "0:0".to_owned()),
        stop_signal: members.read("stopSignal", |field| stop_signal(&field))?,
        strategy: strategy.unwrap_or(Strategy::OneForOne),
        group,
    };
    members.end()?;
    if init.entrypoint.is_empty() && init.group.is_empty() {
        return Err(field.refuse_with(Code::DocEntrypoint, "has neither an entry point nor a group"));
    }
    Ok(init)
}

fn member(field: Field<'_>) -> Result<Member> {
    let mut members = field.members()?;
    let member = Member {
        name: name(&members.need("name")?)?,
        entrypoint: entrypoint(&members.need("entrypoint")?)?,
        restart: members
            .read("restart", |field| {
                field.word(&[
                    ("permanent", Restart::Permanent),
                    ("transient", Restart::Transient),
                    ("temporary", Restart::Temporary),
                ])
            })?
            .unwrap_or(Restart::Permanent),
    };
    members.end()?;
    Ok(member)
}

/// The name of a port or group member.
fn name(field: &Field<'_>) -> Result<String> {
    let text = field.text()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(field.refuse("must be 1 to 64 letters, digits and _ - ."))
    }
}

fn entrypoint(field: &Field<'_>) -> Result<Vec<String>> {
    let words = field.arguments()?;
    match words.first() {
        Some(program) if program.starts_with('/') => Ok(words),
        Some(_) => Err(field.refuse_with(Code::DocEntrypoint, "its first element must be an absolute path")),
        None => Err(field.refuse_with(Code::DocEntrypoint, "is empty")),
    }
}

fn texts(field: &Field<'_>) -> Result<Vec<Text>> {
    let arguments = field.arguments()?;
    let texts = arguments.iter().enumerate();
    texts.map(|(at, text)| Text::parse(text, &format!("{}[{at}]", field.path))).collect()
}

fn environment(field: &Field<'_>) -> Result<BTreeMap<String, Text>> {
    let mut environment = BTreeMap::new();
    for (name, value) in field.entries()? {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(value.refuse("is not the name of a variable"));
        }
        environment.insert(name.to_owned(), Text::parse(value.argument()?, &value.path)?);
    }
    Ok(environment)
}

fn absolute(field: &Field<'_>) -> Result<String> {
    let text = field.argument()?;
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err(field.refuse("must be an absolute path")) }
}

fn user(field: &Field<'_>) -> Result<String> {
    let text = field.argument()?;
    let plain =
        |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c.is_control());
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    if plain(user) && group.is_none_or(|group| plain(group) && !group.contains(':')) {
        Ok(text.to_owned())
    } else {
        Err(field.refuse("must be USER or USER:GROUP"))
    }
}

fn stop_signal(field: &Field<'_>) -> Result<String> {
    let text = field.text()?;
    if signal_names::number(text).is_some_and(|number| number > 0) {
        Ok(text.to_owned())
    } else {
        Err(field.refuse("must be the name or the number of a signal"))
    }
}

fn ports(field: &Field<'_>) -> Result<Vec<Port>> {
    let mut names = BTreeSet::new();
    let mut ports = Vec::new();
    for field in field.list()? {
        let mut members = field.members()?;
        let port = Port {
            name: name(&members.need("name")?)?,
            protocol: members
                .read("protocol", |field| field.word(&Protocol::WORDS))?
                .unwrap_or(Protocol::Tcp),
            port: port_number(&members.need("port")?)?,
        };
        members.end()?;
        if !names.insert(port.name.clone()) {
            return Err(field.refuse(format!("has the same name as another: {}", port.name)));
        }
        ports.push(port);
    }
    Ok(ports)
}

fn port_number(field: &Field<'_>) -> Result<PortNumber> {
    if let Some(text) = field.value.as_str() {
        let text = Text::parse(text, &field.path)?;
        let only = text.only_parameter().ok_or_else(|| field.refuse("must be a number, or {PARAMETER}"))?;
        return Ok(PortNumber::Parameter(only.to_owned()));
    }
    let number = field.number(1, u64::from(u16::MAX))?;
    Ok(PortNumber::Fixed(u16::try_from(number).unwrap_or(u16::MAX)))
}

fn constraints(field: &Field<'_>) -> Result<Vec<Value>> {
    // Whether a kind is known is checked on each machine; only the form is checked here.
    Constraints::parse(field.value, &field.path)?;
    Ok(field.list()?.iter().map(|element| element.value.clone()).collect())
}

fn resources(field: &Field<'_>) -> Result<Resources> {
    let mut found = Resources::default();
    let mut members = field.members()?;
    if let Some(memory) = members.take("memory") {
        let mut members = memory.members()?;
        found.memory_limit = members.read("limit", |field| field.number(1, i64::MAX as u64))?;
        members.end()?;
    }
    if let Some(cpu) = members.take("cpu") {
        let mut members = cpu.members()?;
        found.cpu_weight = members.read("weight", |field| field.number(1, 10_000))?;
        found.cpu_max = members.read("max", |field| cpu_max(&field))?;
        members.end()?;
    }
    if let Some(pids) = members.take("pids") {
        let mut members = pids.members()?;
        found.pids_limit = members.read("limit", |field| field.number(1, i64::MAX as u64))?;
        members.end()?;
    }
    if let Some(io) = members.take("io") {
        let mut members = io.members()?;
        found.io_weight = members.read("weight", |field| field.number(1, 10_000))?;
        members.end()?;
    }
    members.end()?;
    Ok(found)
}

fn cpu_max(field: &Field<'_>) -> Result<CpuMax> {
    let wrong = || field.refuse("must be \"QUOTA PERIOD\" in microseconds; QUOTA may be max");
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number: &u64| digits && *number > 0).ok_or_else(wrong)
    };
    let (quota, period) = field.text()?.split_once(' ').ok_or_else(wrong)?;
    let quota = if quota == "max" { None } else { Some(number(quota)?) };
    Ok(CpuMax { quota, period: number(period)? })
}
