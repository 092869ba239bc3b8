//! Chooses the message bus of the right systemd, and connects to it; calls are blocking.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::message::{self, Arrived, Call, MethodReply};
use super::value::Value;
use crate::error::{Doing, Error, Kind, Result};
use crate::sys::fd;

/// D-Bus specification, "Well-known Message Bus Instances"; the older /var/run is a link to it.
const SYSTEM_ADDRESS: &str = "unix:path=/run/dbus/system_bus_socket";
/// systemd's own socket for root: for a host without a bus, or before the bus has started.
const SYSTEM_PRIVATE: &str = "/run/systemd/private";

/// Time limit for an answer. A systemd that is reloading answers afterwards; on a big host that
/// takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest answer to the authentication, in bytes; dbus-daemon's own limit.
const LONGEST_LINE: usize = 16 * 1024;

/// The systemd that creates the scope.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum Bus {
    /// The system's.
    System,
    /// A user's own: the address of the bus, in D-Bus notation.
    User(String),
}

impl Bus {
    /// The systemd for this process, see [`choose`].
    pub(crate) fn of_caller() -> Result<Self> {
        let is_root = rustix::process::geteuid().is_root();
        let map = || std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        choose(is_root, map, |name| std::env::var_os(name), |path| path.exists())
    }

    /// The slice of units that name none.
    pub(crate) fn default_slice(&self) -> &'static str {
        match self {
            Self::System => "system.slice",
            Self::User(_) => "user.slice",
        }
    }
}

/// Chooses the system's systemd for root, the user's own for every other user.
///
/// The root of a user namespace that an unprivileged user created, as rootless podman does, counts
/// as that user. It is recognized by the user's XDG_RUNTIME_DIR, as for the state directory; the
/// root of a container that has its own systemd has no such variable, or that of user 0.
fn choose(
    is_root: bool,
    uid_map: impl FnOnce() -> String,
    env: impl Fn(&str) -> Option<OsString>,
    exists: impl Fn(&Path) -> bool,
) -> Result<Bus> {
    let text =
        |name: &str| env(name).and_then(|value| value.into_string().ok()).filter(|text| !text.is_empty());
    let runtime = text("XDG_RUNTIME_DIR").filter(|path| path.starts_with('/'));
    let mut owner = None;
    if is_root {
        let named = runtime.as_ref().is_some_and(|path| path != "/run/user/0");
        if !named || text("USER").is_some_and(|user| user == "root") {
            return Ok(Bus::System);
        }
        owner = outside(&uid_map()).filter(|outside| *outside != 0);
        if owner.is_none() {
            return Ok(Bus::System);
        }
    }
    if let Some(address) = text("DBUS_SESSION_BUS_ADDRESS") {
        return Ok(Bus::User(address));
    }
    let usual = owner.map(|owner| format!("/run/user/{owner}"));
    let mut directories = runtime.into_iter().chain(usual).map(|directory| format!("{directory}/bus"));
    match directories.find(|bus| exists(Path::new(bus))) {
        Some(bus) => Ok(Bus::User(format!("unix:path={}", escape(&bus)))),
        None => Err(Error::new(
            Kind::Unsupported,
            "the systemd cgroup driver found no message bus of this user: set DBUS_SESSION_BUS_ADDRESS, or XDG_RUNTIME_DIR \
             to a directory with the socket `bus` (a login session has one; loginctl enable-linger keeps it), or use \
             --cgroup-manager cgroupfs",
        )),
    }
}

/// The outside ID of ID 0, from the text of a uid_map, unless it is the initial user namespace's.
fn outside(map: &str) -> Option<u32> {
    let numbers = map
        .lines()
        .map(|line| line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u32>>());
    numbers.into_iter().find_map(|line| match line.as_slice() {
        [0, outside, _] => Some(*outside),
        _ => None,
    })
}

/// Escapes a path as a value in an address, D-Bus specification, "Server Addresses".
fn escape(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/.\\*".contains(&byte);
    path.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect()
}

/// Undoes the escaping. `None`: not correctly escaped.
fn unescape(value: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push((digit()? * 16 + digit()?) as u8);
    }
    Some(bytes)
}

/// A connection: calls are sent one by one, and signals that arrive meanwhile are kept.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    /// Connected to systemd itself, without a bus, so names have no meaning.
    direct: bool,
    serial: u32,
    /// Received bytes that do not form a whole message yet.
    input: Vec<u8>,
    signals: VecDeque<(String, Vec<Value>)>,
}

impl Connection {
    /// Connects and authenticates: the peer reads our identity from the socket's credentials, which
    /// are right in every user namespace.
    pub(crate) fn open(bus: &Bus) -> Result<Self> {
        let (stream, direct) = match bus {
            Bus::User(address) => {
                (connect(address).doing(|| format!("connect to the user's bus {address:?}"))?, false)
            }
            Bus::System => system()?,
        };
        if fd::peer_pid(stream.as_fd()).doing(|| "get the peer of the message bus")? == 0 {
            // systemd would interpret our PID of the container's process in its own PID namespace,
            // and move another process.
            let words = "the systemd cgroup driver cannot be used here: systemd is in another pid namespace; use \
                --cgroup-manager cgroupfs";
            return Err(Error::new(Kind::Unsupported, words));
        }
        let mut connection = Self { stream, direct, serial: 0, input: Vec::new(), signals: VecDeque::new() };
        let until = Instant::now() + PATIENCE;
        connection.authenticate(until).doing(|| "authenticate at the message bus")?;
        if !direct {
            let bus = "org.freedesktop.DBus";
            let hello = Call {
                destination: bus,
                path: "/org/freedesktop/DBus",
                interface: bus,
                member: "Hello",
                body: &[],
            };
            if let MethodReply::Error(refusal) = connection.call(&hello)? {
                return Err(Error::new(
                    Kind::System,
                    format!("the message bus refuses us: {}", refusal.words),
                ));
            }
        }
        Ok(connection)
    }

    /// Whether there is a bus in between.
    pub(crate) fn has_bus(&self) -> bool {
        !self.direct
    }

    /// Calls a method and waits for its answer.
    pub(crate) fn call(&mut self, call: &Call<'_>) -> Result<MethodReply> {
        let doing = || format!("call {}.{} over D-Bus", call.interface, call.member);
        let until = Instant::now() + PATIENCE;
        self.serial += 1;
        let serial = self.serial;
        let call = Call { destination: if self.direct { "" } else { call.destination }, ..*call };
        self.send(&message::encode(&call, serial), until).doing(doing)?;
        loop {
            match self.next(until).doing(doing)? {
                Arrived::Answer(to, answer) if to == serial => return Ok(answer),
                Arrived::Signal(name, values) => self.signals.push_back((name, values)),
                Arrived::Answer(..) | Arrived::Other => {}
            }
        }
    }

    /// The next signal; one that arrived during a call comes first.
    pub(crate) fn signal(&mut self, until: Instant) -> Result<(String, Vec<Value>)> {
        if let Some(signal) = self.signals.pop_front() {
            return Ok(signal);
        }
        loop {
            if let Arrived::Signal(name, values) = self.next(until)? {
                return Ok((name, values));
            }
        }
    }

    /// SASL in its shortest form: mechanism EXTERNAL with no identity given, so that the server
    /// uses the socket's credentials; then the messages begin. All of it is sent at once. D-Bus
    /// specification, "Authentication Protocol".
    fn authenticate(&mut self, until: Instant) -> Result<()> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n", until)?;
        loop {
            while let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..end + 2).collect();
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                match line.split(' ').next() {
                    Some("OK") => return Ok(()),
                    Some("DATA") => {}
                    _ => return Err(Error::new(Kind::System, format!("it answers {line:?}"))),
                }
            }
            if self.input.len() > LONGEST_LINE {
                return Err(Error::new(Kind::System, "it answers without an end"));
            }
            self.receive(until)?;
        }
    }

    fn next(&mut self, until: Instant) -> Result<Arrived> {
        let broken = || Error::new(Kind::System, "the message bus sent something that is not a message");
        loop {
            if let Some(head) = self.input.get(..message::FIXED) {
                let length = message::length(head).ok_or_else(broken)?;
                if self.input.len() >= length {
                    let bytes: Vec<u8> = self.input.drain(..length).collect();
                    return message::decode(&bytes).ok_or_else(broken);
                }
            }
            self.receive(until)?;
        }
    }

    fn receive(&mut self, until: Instant) -> Result<()> {
        let mut piece = [0; 4096];
        loop {
            self.stream.set_read_timeout(Some(time_left(until)?))?;
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(Error::new(Kind::System, "the message bus closed the connection")),
                Ok(count) => {
                    self.input.extend(piece.get(..count).unwrap_or_default());
                    return Ok(());
                }
                // The loop checks the remaining time again.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn send(&mut self, bytes: &[u8], until: Instant) -> Result<()> {
        self.stream.set_write_timeout(Some(time_left(until)?))?;
        match self.stream.write_all(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(too_long()),
            done => Ok(done?),
        }
    }
}

/// Connects to the system bus, or to systemd's own socket if there is no bus. True: the latter.
fn system() -> Result<(UnixStream, bool)> {
    let named = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok().filter(|address| !address.is_empty());
    let address = named.as_deref().unwrap_or(SYSTEM_ADDRESS);
    match connect(address) {
        Ok(stream) => Ok((stream, false)),
        Err(error) => match UnixStream::connect(SYSTEM_PRIVATE) {
            Ok(stream) => Ok((stream, true)),
            Err(_) => {
                Err(error.within(format!("connect to the system bus {address:?} (is systemd running?)")))
            }
        },
    }
}

fn time_left(until: Instant) -> Result<Duration> {
    Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero()).ok_or_else(too_long)
}

fn too_long() -> Error {
    Error::new(Kind::System, format!("no answer in {} s", PATIENCE.as_secs()))
}

/// Connects to the first reachable address: `unix:path=…` or `unix:abstract=…`, separated by `;`.
fn connect(addresses: &str) -> Result<UnixStream> {
    let mut last =
        Error::new(Kind::Invalid, "none of these addresses is of the form unix:path=… or unix:abstract=…");
    for address in addresses.split(';') {
        let Some(values) = address.strip_prefix("unix:") else { continue };
        for (key, value) in values.split(',').filter_map(|pair| pair.split_once('=')) {
            let Some(name) = unescape(value) else { continue };
            let connected = match key {
                "path" => {
                    use std::os::unix::ffi::OsStrExt;
                    fd::connect_unix(Path::new(std::ffi::OsStr::from_bytes(&name))).map(UnixStream::from)
                }
                "abstract" => {
                    SocketAddr::from_abstract_name(name).and_then(|name| UnixStream::connect_addr(&name))
                }
                _ => continue,
            };
            match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error.into(),
            }
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_systemd_is_meant() {
        let rootless = "0 1000 1\n1 100000 65536\n";
        let (whole, nested) = ("0 0 4294967295\n", "0 100000 65536\n");
        let (none, a, b, c) =
            (Some("none"), Some("unix:path=/run/user/1000/bus"), Some("unix:path=/x/bus"), None);
        let table = [
            ("root", true, whole, vec![], c),
            ("root by sudo", true, whole, vec![("XDG_RUNTIME_DIR", "/run/user/1000"), ("USER", "u")], c),
            ("root with a session", true, whole, vec![("XDG_RUNTIME_DIR", "/run/user/0")], c),
            ("user", false, whole, vec![("XDG_RUNTIME_DIR", "/run/user/1000")], a),
            ("user, by address", false, whole, vec![("DBUS_SESSION_BUS_ADDRESS", "unix:path=/x/bus")], b),
            ("user without a session", false, whole, vec![], none),
            ("user with another directory", false, whole, vec![("XDG_RUNTIME_DIR", "/nowhere")], none),
            (
                "root inside, of a user",
                true,
                rootless,
                vec![("XDG_RUNTIME_DIR", "/run/user/1000"), ("USER", "u")],
                a,
            ),
            ("root inside, directory elsewhere", true, rootless, vec![("XDG_RUNTIME_DIR", "/nowhere")], a),
            ("root of a container", true, nested, vec![], c),
            (
                "root of a container, logged in",
                true,
                nested,
                vec![("XDG_RUNTIME_DIR", "/run/user/0"), ("USER", "root")],
                c,
            ),
        ];
        for (name, is_root, map, env, want) in table {
            let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
            let got = choose(is_root, || map.into(), env, |path| path.starts_with("/run/user/1000"));
            match want {
                None => assert_eq!(got.unwrap(), Bus::System, "{name}"),
                Some("none") => assert!(got.unwrap_err().to_string().contains("XDG_RUNTIME_DIR"), "{name}"),
                Some(address) => assert_eq!(got.unwrap(), Bus::User(address.into()), "{name}"),
            }
        }
    }

    #[test]
    fn addresses_are_escaped() {
        assert_eq!(escape("/run/a b,c"), "/run/a%20b%2cc");
        assert_eq!(unescape("/run/a%20b%2cc").unwrap(), b"/run/a b,c");
        assert_eq!(unescape("%2"), None);
        assert_eq!(unescape("%zz"), None);
    }

    #[test]
    fn a_bus_that_refuses_is_an_error() {
        use std::os::unix::net::UnixListener;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let endless = [b'x'; LONGEST_LINE + 1];
            for answer in [
                &b"DATA\r\nREJECTED EXTERNAL\r\n"[..],
                b"DATA\r\nOK 1\r\nrubbish that is long enough",
                &endless,
                b"",
            ] {
                let (mut client, _) = listener.accept().unwrap();
                let mut asked = [0; 29];
                client.read_exact(&mut asked).unwrap();
                client.write_all(answer).unwrap();
                if !answer.is_empty() {
                    // The rest of the client's messages gets no answer; the client closes the
                    // connection.
                    std::io::copy(&mut client, &mut std::io::sink()).unwrap();
                }
            }
        });
        for words in ["REJECTED", "not a message", "without an end", "closed the connection"] {
            let error = Connection::open(&Bus::User(format!("unix:path={}", path.display()))).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        server.join().unwrap();
        for nowhere in ["tcp:host=localhost", "unix:path=/nowhere/bus", ""] {
            Connection::open(&Bus::User(nowhere.into())).unwrap_err();
        }
    }
}
