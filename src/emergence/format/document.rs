//! The document of an automaton as it is written: strictly typed, nothing of it proved. Source:
//! emergence's contract, 4.4.

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

/// The only form that there is so far.
const SCHEMA: u64 = 1;

/// What a document declares.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What the automaton is called.
    pub name: Name,
    /// What it was made from, if that is told.
    pub declaration: Option<Declaration>,
    /// What it is: at least one object, by the name of the output.
    pub outputs: BTreeMap<String, StorePath>,
    /// The outputs and all that they refer to, in the order of the document.
    pub closure: Vec<Object>,
    /// What is started, if anything is.
    pub init: Option<Init>,
    /// What is given when it is started, in the order of the document.
    pub parameters: Vec<Parameter>,
    /// Where it can be reached.
    pub ports: Vec<Port>,
    /// What it needs of a machine: objects, which are not looked into here.
    pub constraints: Vec<Value>,
    /// What it may use of a machine.
    pub resources: Resources,
    /// All of it, as it was written.
    value: Value,
}

/// How an automaton is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// The program, by its absolute path, and its first arguments. Empty only when there is a
    /// group.
    pub entrypoint: Vec<String>,
    /// More arguments, with parameters in them.
    pub args: Vec<Text>,
    /// The environment, with parameters in the values.
    pub env: BTreeMap<String, Text>,
    /// The working folder, an absolute path.
    pub cwd: String,
    /// Who runs it: names or numbers, `user` or `user:group`.
    pub user: String,
    /// What ends it: `SIGTERM`. `None`: whatever usually does.
    pub stop_signal: Option<String>,
    /// Several programs under a supervisor, in the order in which they are started.
    pub group: Vec<Member>,
    /// Which of the group are started again when one ends.
    pub strategy: Strategy,
}

/// A program of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it is called, as no other of the group is.
    pub name: String,
    /// The program, by its absolute path, and its arguments.
    pub entrypoint: Vec<String>,
    /// When it is started again.
    pub restart: Restart,
}

/// When a program of a group is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Whenever it ends.
    Permanent,
    /// When it fails.
    Transient,
    /// Never.
    Temporary,
}

/// Which programs of a group are started again when one of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// That one.
    OneForOne,
    /// All.
    OneForAll,
    /// That one, and those behind it.
    RestForOne,
}

/// Where an automaton can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// What it is called, as no other port is.
    pub name: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Its number.
    pub port: PortNumber,
}

/// What a port's number is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortNumber {
    /// This one, always.
    Fixed(u16),
    /// What this parameter says.
    Parameter(String),
}

/// A protocol that has ports.
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

    /// Its word in documents.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, one)| *one == self).map_or("", |(word, _)| word)
    }
}

/// What an automaton may use of a machine. `None`: nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Memory at most, in bytes.
    pub memory_limit: Option<u64>,
    /// Share of the processors among others, 1 to 10000; 100 is usual.
    pub cpu_weight: Option<u64>,
    /// Time on processors at most: microseconds of `max`, in each period of microseconds.
    pub cpu_max: Option<CpuMax>,
    /// Processes and threads at most.
    pub pids_limit: Option<u64>,
    /// Share of block devices among others, 1 to 10000; 100 is usual.
    pub io_weight: Option<u64>,
}

/// Time on processors: `"50000 100000"`, or `"max 100000"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuMax {
    /// Microseconds in each period; `None`: as many as there are.
    pub quota: Option<u64>,
    /// Microseconds.
    pub period: u64,
}

impl Document {
    /// Reads a document, which messages call `subject`.
    ///
    /// Refused: `json.syntax` and `json.duplicate-key`; what is not known (`doc.unknown-field`); a
    /// text where a list of arguments belongs (`doc.shell-form`); parameters that are not declared
    /// or not used (`doc.parameter`); nothing to start (`doc.entrypoint`); an input without a
    /// digest (`declaration.unpinned`); what [`StorePath`], [`Hash`] and [`ContentAddress`] refuse.
    pub fn parse(bytes: &[u8], subject: &str, dir: &StoreDir) -> Result<Self> {
        Self::from_value(json::parse(bytes, subject)?, dir)
    }

    /// The same for what is read already, as [`json::parse`] does.
    pub fn from_value(value: Value, dir: &StoreDir) -> Result<Self> {
        // Numbers that have no canonical form are refused here, wherever they stand.
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

    /// All of it, as it was written.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The one way to write it, RFC 8785.
    pub fn canonical(&self) -> Result<Vec<u8>> {
        canonical(&self.value)
    }

    /// What is declared of an object of the closure.
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
        // What is no name of an object is none of an output: it stands in lines that are hashed.
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

/// Reads each element of a list, which may be missing.
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
    let strategy = members.read("strategy", |field| match group.is_empty() {
        true => Err(field.refuse("has nothing to act on: there is no group")),
        false => field.word(&[
            ("one_for_one", Strategy::OneForOne),
            ("one_for_all", Strategy::OneForAll),
            ("rest_for_one", Strategy::RestForOne),
        ]),
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

/// What people call a part of an automaton.
fn name(field: &Field<'_>) -> Result<String> {
    let text = field.text()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    match !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(field.refuse("must be 1 to 64 letters, digits and _ - .")),
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
            return Err(value.refuse("is no name of a variable"));
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
    match plain(user) && group.is_none_or(|group| plain(group) && !group.contains(':')) {
        true => Ok(text.to_owned()),
        false => Err(field.refuse("must be USER or USER:GROUP")),
    }
}

fn stop_signal(field: &Field<'_>) -> Result<String> {
    let text = field.text()?;
    match signal_names::number(text).is_some_and(|number| number > 0) {
        true => Ok(text.to_owned()),
        false => Err(field.refuse("must be the name or the number of a signal")),
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
            return Err(field.refuse(format!("is called {}, as another is", port.name)));
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
    // A kind that is not known here is a matter of each machine; how it is written is the
    // document's.
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
