//! The calls of systemd's manager that a container needs. Source: org.freedesktop.systemd1(5).

use std::time::{Duration, Instant};

use super::bus::{Bus, Connection};
use super::message::{Call, MethodError, MethodReply};
use super::properties::Property;
use super::value::Value;
use crate::error::{Doing, Error, Kind, Result};

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// Errors of a call to the object of a unit that is no longer loaded.
const NO_OBJECT: [&str; 4] = [
    NO_SUCH_UNIT,
    "org.freedesktop.DBus.Error.UnknownObject",
    "org.freedesktop.DBus.Error.UnknownInterface",
    "org.freedesktop.DBus.Error.UnknownMethod",
];

/// Time limit for a job of a unit: creating a scope takes milliseconds, stopping one as long as its
/// processes take to die.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an ended unit of the same name may take to disappear by itself.
const PATIENCE_WITH_OLD: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// A connection to systemd, the system's or a user's.
#[derive(Debug)]
pub(crate) struct Manager {
    connection: Connection,
    listens: bool,
}

impl Manager {
    /// Connects to the systemd on this bus.
    pub(crate) fn connect(bus: &Bus) -> Result<Self> {
        Ok(Self { connection: Connection::open(bus)?, listens: false })
    }

    /// systemd's own cgroup, the parent of all its units; the hierarchy's root is empty.
    pub(crate) fn own_cgroup(&mut self) -> Result<String> {
        match self.get(MANAGER_PATH, MANAGER, "ControlGroup")? {
            Some(Value::Str(path)) => Ok(path.trim_matches('/').to_owned()),
            _ => Err(Error::new(Kind::System, "systemd does not report its cgroup")),
        }
    }

    /// The version number of systemd; 0 if it has no number.
    pub(crate) fn version(&mut self) -> Result<u32> {
        let Some(Value::Str(text)) = self.get(MANAGER_PATH, MANAGER, "Version")? else { return Ok(0) };
        let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        Ok(digits.get(..end).and_then(|number| number.parse().ok()).unwrap_or(0))
    }

    /// A unit's Description and its present cgroup. `None`: there is no such unit.
    pub(crate) fn unit(&mut self, unit: &str) -> Result<Option<(String, String)>> {
        let Some(path) = self.path(unit)? else { return Ok(None) };
        let mut text = |interface: &str, name: &str| match self.get(&path, interface, name)? {
            Some(Value::Str(text)) => Ok(Some(text)),
            Some(_) => Err(unexpected(name)),
            None => Ok(None),
        };
        let Some(description) = text("org.freedesktop.systemd1.Unit", "Description")? else {
            return Ok(None);
        };
        let Some(cgroup) = text(interface(unit), "ControlGroup")? else { return Ok(None) };
        Ok(Some((description, cgroup.trim_matches('/').to_owned())))
    }

    /// A property that only scopes or slices have. `None`: there is no such unit.
    pub(crate) fn property(&mut self, unit: &str, name: &str) -> Result<Option<Value>> {
        let Some(path) = self.path(unit)? else { return Ok(None) };
        self.get(&path, interface(unit), name)
    }

    /// The path of a unit's object. `None`: there is no such unit.
    fn path(&mut self, unit: &str) -> Result<Option<String>> {
        match self.ask("GetUnit", &[Value::text(unit)])? {
            Ok(values) => match values.into_iter().next() {
                Some(Value::Path(path)) => Ok(Some(path)),
                _ => Err(unexpected("GetUnit")),
            },
            Err(refusal) if refusal.name == NO_SUCH_UNIT => Ok(None),
            Err(refusal) => Err(refused(refusal)).doing(|| format!("look for unit {unit}")),
        }
    }

    /// Creates a transient unit and waits until it exists. `Kind::Exists`: another container's unit
    /// has the name.
    ///
    /// An ended unit of the same name, failed or disappearing, is removed first; `in_use` says
    /// whether one has processes.
    pub(crate) fn start(
        &mut self,
        unit: &str,
        properties: &[Property],
        in_use: impl Fn() -> bool,
    ) -> Result<()> {
        self.listen()?;
        let properties =
            properties.iter().map(|property| property_value(&property.name, &property.value)).collect();
        let arguments = [
            Value::text(unit),
            Value::text("fail"),
            Value::Array("(sv)".into(), properties),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        let until = Instant::now() + PATIENCE_WITH_OLD;
        let job = loop {
            match self.ask("StartTransientUnit", &arguments)? {
                Ok(values) => break job(values, "StartTransientUnit")?,
                Err(refusal) if refusal.name == UNIT_EXISTS && !in_use() && Instant::now() < until => {
                    self.reset(unit);
                    std::thread::sleep(PAUSE);
                }
                Err(refusal) => {
                    let step = format!("systemd: create unit {unit}");
                    if refusal.name == UNIT_EXISTS {
                        let words = "another container or service has a unit of this name; use another linux.cgroupsPath";
                        return Err(Error::new(Kind::Exists, words).within(step));
                    }
                    return Err(refused(refusal).within(step));
                }
            }
        };
        match self.wait(&job)?.as_str() {
            "done" => Ok(()),
            result => {
                self.reset(unit);
                let words = format!(
                    "systemd: create unit {unit}: the job ended as {result:?}; see journalctl -u {unit}"
                );
                Err(Error::new(Kind::System, words))
            }
        }
    }

    /// Stops a unit, waits until it has stopped, then resets its failed state. No error if there is
    /// no such unit.
    pub(crate) fn stop(&mut self, unit: &str) -> Result<()> {
        self.listen()?;
        let job = match self.ask("StopUnit", &[Value::text(unit), Value::text("replace")])? {
            Ok(values) => job(values, "StopUnit")?,
            Err(refusal) if refusal.name == NO_SUCH_UNIT => return Ok(()),
            Err(refusal) => return Err(refused(refusal)).doing(|| format!("systemd: stop unit {unit}")),
        };
        let result = self.wait(&job)?;
        // Also if the job failed: a failed unit would stay.
        self.reset(unit);
        // "canceled": another job, such as a stop by another process, has replaced it.
        if matches!(result.as_str(), "done" | "canceled") {
            return Ok(());
        }
        Err(Error::new(Kind::System, format!("systemd: stop unit {unit}: the job ended as {result:?}")))
    }

    /// Changes properties of a unit for its remaining lifetime.
    pub(crate) fn set(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        let properties =
            properties.iter().map(|property| property_value(&property.name, &property.value)).collect();
        let runtime = Value::Bool(true);
        match self.ask(
            "SetUnitProperties",
            &[Value::text(unit), runtime, Value::Array("(sv)".into(), properties)],
        )? {
            Ok(_) => Ok(()),
            Err(refusal) => Err(refused(refusal)).doing(|| format!("systemd: set properties of unit {unit}")),
        }
    }

    /// Clears the failed state, so that systemd can unload the unit. A unit that has not failed, or
    /// does not exist, is no error.
    fn reset(&mut self, unit: &str) {
        if let Err(error) = self.ask("ResetFailedUnit", &[Value::text(unit)]) {
            tracing::debug!("ResetFailedUnit {unit}: {error}");
        }
    }

    /// Subscribes to the end of jobs; before the first job, so that none is missed.
    fn listen(&mut self) -> Result<()> {
        if self.listens {
            return Ok(());
        }
        self.listens = true;
        if !self.connection.has_bus() {
            return Ok(());
        }
        let rule = format!(
            "type='signal',sender='{DESTINATION}',interface='{MANAGER}',member='JobRemoved',path='{MANAGER_PATH}'"
        );
        let bus = "org.freedesktop.DBus";
        let body = [Value::Str(rule)];
        let call = Call {
            destination: bus,
            path: "/org/freedesktop/DBus",
            interface: bus,
            member: "AddMatch",
            body: &body,
        };
        if let MethodReply::Error(refusal) = self.connection.call(&call)? {
            return Err(refused(refusal).within("listen to systemd's signals"));
        }
        self.ask("Subscribe", &[])?
            .map(drop)
            .map_err(|refusal| refused(refusal).within("subscribe to systemd's signals"))
    }

    /// Waits for the job; returns its result: `done`, `failed`, `timeout`, …
    fn wait(&mut self, job: &str) -> Result<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let (name, values) = self.connection.signal(until).doing(|| "wait for systemd's job")?;
            match values.as_slice() {
                [Value::U32(_), Value::Path(path), Value::Str(_), Value::Str(result)]
                    if name == "JobRemoved" && path == job =>
                {
                    return Ok(result.clone());
                }
                _ => {}
            }
        }
    }

    fn ask(&mut self, member: &str, body: &[Value]) -> Result<std::result::Result<Vec<Value>, MethodError>> {
        let call = Call { destination: DESTINATION, path: MANAGER_PATH, interface: MANAGER, member, body };
        Ok(match self.connection.call(&call)? {
            MethodReply::Values(values) => Ok(values),
            MethodReply::Error(refusal) => Err(refusal),
        })
    }

    /// Reads a property. `None`: the unit was removed after its object was looked up.
    fn get(&mut self, path: &str, interface: &str, name: &str) -> Result<Option<Value>> {
        let body = [Value::text(interface), Value::text(name)];
        let call = Call { destination: DESTINATION, path, interface: PROPERTIES, member: "Get", body: &body };
        match self.connection.call(&call)? {
            MethodReply::Values(values) => match values.into_iter().next() {
                Some(Value::Variant(value)) => Ok(Some(*value)),
                _ => Err(unexpected(name)),
            },
            MethodReply::Error(refusal) if NO_OBJECT.contains(&refusal.name.as_str()) => Ok(None),
            MethodReply::Error(refusal) => Err(refused(refusal)).doing(|| format!("ask systemd for {name}")),
        }
    }
}

fn property_value(name: &str, value: &Value) -> Value {
    Value::Struct(vec![Value::text(name), Value::Variant(Box::new(value.clone()))])
}

/// The D-Bus interface of this kind of unit.
fn interface(unit: &str) -> &'static str {
    if unit.ends_with(".slice") { "org.freedesktop.systemd1.Slice" } else { "org.freedesktop.systemd1.Scope" }
}

fn job(values: Vec<Value>, member: &str) -> Result<String> {
    match values.into_iter().next() {
        Some(Value::Path(job)) => Ok(job),
        _ => Err(unexpected(member)),
    }
}

fn unexpected(what: &str) -> Error {
    Error::new(Kind::System, format!("systemd's answer to {what} does not match systemd's documentation"))
}

/// Uses systemd's message; the error's name if there is no message.
fn refused(refusal: MethodError) -> Error {
    Error::new(Kind::System, if refusal.words.is_empty() { refusal.name } else { refusal.words })
}
