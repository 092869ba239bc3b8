//! Writes config.json: the default of `spec`, changed by the document of an automaton or the
//! configuration of an image.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use super::{Network, Parts, Shape, resources, rootfs, user};
use crate::emergence::automaton;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::format::document::{Document, Init};
use crate::emergence::nix::store_path::USUAL_STORE;
use crate::emergence::oci::ImageConfig;
use crate::emergence::store::Store;
use crate::error::Doing;
use crate::spec::group::{self, ProgramGroup};
use crate::spec::verification::PREFIX;
use crate::spec::{Hook, Mount, Namespace, Process, Root, Spec, defaults};
use crate::sys::signal_names;

/// Maximum length of the closure annotation, in bytes; a longer one is omitted.
const LONGEST_CLOSURE: usize = 64 << 10;

/// Prefixes of annotations that control the runtime: those of an image are dropped.
const ORDERS: [&str; 4] = ["run.oci.", "org.criu.", "org.systemd.", "com.matrixai."];

/// Maximum number of restarts, and in how many seconds, as in Erlang's supervisors.
const RESTARTS: (u32, u32) = (1, 5);

/// Seconds that programs of a group have to end.
const GRACE: u32 = 5;

/// Creates the bundle of store objects in the directory `bundle`, whose final path will be `last`.
pub(crate) fn automaton(
    artifact: &Parts,
    store: &Store,
    shape: &Shape,
    bundle: &Path,
    last: &Path,
) -> Result<()> {
    let mut spec = base(shape);
    let mounts = rootfs::automaton_root(&artifact.objects, store, shape.rootfs, bundle, last)?;
    spec.mounts.extend(mounts);
    spec.mounts.push(temporary("/tmp", "mode=1777", &[]));
    spec.root = Some(Root { path: "rootfs".into(), readonly: shape.rootfs != super::Rootfs::Copy });
    spec.annotations = annotations(artifact, store)?;
    let init = artifact.document.as_ref().and_then(|document| document.init.as_ref());
    let process = spec.process.get_or_insert_default();
    process.args = arguments(artifact, init, shape)?;
    if let Some(init) = init {
        process.cwd.clone_from(&init.cwd);
        process.user = user::resolve(&bundle.join("rootfs"), &init.user)?;
        spec.annotations.extend(stop_signal(init.stop_signal.as_deref().unwrap_or_default()));
    }
    if let Some(bound) = &artifact.bound {
        set(process, bound.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    }
    if let Some(group) = init.and_then(|init| group_of(init, &process.args)).transpose()? {
        process.args = vec![group::PROGRAM.into()];
        supervise(&group, bundle, &mut spec.mounts)?;
    }
    if let (Some(document), Some(linux)) = (&artifact.document, &mut spec.linux) {
        let limits = linux.resources.get_or_insert_default();
        resources::limit(limits, &document.resources, &shape.granted, resources::is_unified());
        resources::give(linux, &shape.granted)?;
    }
    finish(spec, bundle)
}

/// Writes the config.json of an image to `bundle`. `tree` is the image's tree: the bundle's
/// `rootfs`, or bound there if `shape` says so.
pub(crate) fn image(config: &ImageConfig, shape: &Shape, bundle: &Path, tree: &Path) -> Result<()> {
    let wanted = &config.config;
    let mut spec = base(shape);
    let bound = shape.rootfs == super::Rootfs::Bind;
    spec.root = Some(Root { path: "rootfs".into(), readonly: bound });
    let process = spec.process.get_or_insert_default();
    process.args.clone_from(&wanted.entrypoint);
    process.args.extend(shape.args.as_ref().unwrap_or(&wanted.cmd).iter().cloned());
    if process.args.is_empty() {
        return Err(Fault::refused(Code::DocEntrypoint, "", "the image has no program; give one after --"));
    }
    if let Some(broken) = wanted.env.iter().find(|entry| !entry.contains('=')) {
        return Err(Fault::refused(Code::JsonSyntax, broken, "is not NAME=value"));
    }
    set(process, wanted.env.iter().filter_map(|entry| entry.split_once('=')));
    if !wanted.working_dir.is_empty() {
        process.cwd = Path::new("/").join(&wanted.working_dir).to_string_lossy().into_owned();
    }
    process.user = user::resolve(tree, &wanted.user)?;
    // The image's content of such a directory is copied.
    spec.mounts.extend(wanted.volumes.keys().map(|place| temporary(place, "mode=0755", &["tmpcopyup"])));
    if bound {
        let first = rootfs::image_root(tree, &bundle.join("rootfs"), &spec.mounts)?;
        spec.mounts.splice(0..0, first);
    }
    let gives_orders = |name: &String| ORDERS.iter().any(|start| name.starts_with(start));
    let labels = wanted.labels.iter().filter(|(name, _)| !gives_orders(name));
    spec.annotations.extend(labels.map(|(name, value)| (name.clone(), value.clone())));
    spec.annotations.extend(stop_signal(&wanted.stop_signal));
    if !wanted.exposed_ports.is_empty() {
        let ports: Vec<&str> = wanted.exposed_ports.keys().map(String::as_str).collect();
        spec.annotations.insert("org.opencontainers.image.exposedPorts".into(), ports.join(","));
    }
    finish(spec, bundle)
}

/// The configuration that all containers share.
fn base(shape: &Shape) -> Spec {
    let mut spec = defaults::spec();
    if let Some(process) = &mut spec.process {
        process.terminal = shape.terminal;
        if !shape.terminal {
            process.env.retain(|entry| !entry.starts_with("TERM="));
        }
    }
    if let Some(hook) = &shape.relay_hook {
        let hook = Hook { path: hook.to_string_lossy().into_owned(), ..Hook::default() };
        spec.hooks.get_or_insert_default().create_runtime.push(hook);
    }
    let euid = rustix::process::geteuid();
    if !euid.is_root() {
        defaults::rootless(&mut spec, euid.as_raw(), rustix::process::getegid().as_raw());
    }
    if let Some(linux) = &mut spec.linux {
        match &shape.network {
            Network::Private if euid.is_root() => {}
            network => {
                linux.namespaces.retain(|namespace| namespace.kind != "network");
                let path = match network {
                    Network::At(path) => Some(path.to_string_lossy().into_owned()),
                    Network::Private => Some(String::new()),
                    Network::Host => None,
                };
                linux.namespaces.extend(path.map(|path| Namespace { kind: "network".into(), path }));
            }
        }
    }
    spec
}

fn temporary(place: &str, mode: &str, more: &[&str]) -> Mount {
    let options = ["nosuid", "nodev", mode].into_iter().chain(more.iter().copied()).map(str::to_owned);
    Mount {
        destination: place.to_owned(),
        kind: "tmpfs".into(),
        source: "tmpfs".into(),
        options: options.collect(),
        ..Mount::default()
    }
}

/// Sets environment variables, replacing existing ones.
fn set<'a>(process: &mut Process, variables: impl Iterator<Item = (&'a str, &'a str)>) {
    for (name, value) in variables {
        process.env.retain(|entry| entry.split_once('=').is_none_or(|(known, _)| known != name));
        process.env.push(format!("{name}={value}"));
    }
}

fn stop_signal(signal: &str) -> Option<(String, String)> {
    let name = "org.opencontainers.image.stopSignal".to_owned();
    (!signal.is_empty()).then(|| (name, signal.to_owned()))
}

/// Checks that there is a program to start, before anything is created.
pub(crate) fn startable(parts: &Parts, shape: &Shape) -> Result<()> {
    let init = parts.document.as_ref().and_then(|document| document.init.as_ref());
    arguments(parts, init, shape).map(drop)
}

fn arguments(artifact: &Parts, init: Option<&Init>, shape: &Shape) -> Result<Vec<String>> {
    let given = shape.args.as_ref();
    let words = match (init, given, &artifact.bound) {
        (Some(init), Some(given), _) => init.entrypoint.iter().chain(given).cloned().collect(),
        (Some(_), None, Some(bound)) => bound.args.clone(),
        (_, Some(given), _) => given.clone(),
        _ => Vec::new(),
    };
    let has_group = init.is_some_and(|init| !init.group.is_empty());
    if words.is_empty() && !has_group {
        Err(Fault::refused(Code::DocEntrypoint, "", "it has no program; give one after --"))
    } else {
        Ok(words)
    }
}

fn annotations(artifact: &Parts, store: &Store) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    let mut own = |name: &str, value: String| all.insert(format!("{PREFIX}{name}"), value);
    if let Some(digests) = &artifact.digests {
        own("automaton", digests.automaton.to_string());
        own("output", digests.output.to_string());
        if let Some(declaration) = digests.declaration {
            own("declaration", declaration.to_string());
        }
    }
    if let Some(signature) = &artifact.signature {
        own("signature", signature.clone());
    }
    let closure =
        artifact.objects.iter().map(|one| format!("{} {} {}", one.path, one.nar_hash.nix32(), one.nar_size));
    let closure = closure.collect::<Vec<_>>().join(";");
    if closure.len() <= LONGEST_CLOSURE {
        own("closure", closure);
    }
    own("store", store.directory().to_string_lossy().into_owned());
    if store.dir().as_str() != USUAL_STORE {
        own("storeDir", store.dir().as_str().to_owned());
    }
    let Some(bound) = &artifact.bound else { return Ok(all) };
    for (name, value) in &bound.parameters {
        own(&format!("param.{name}"), value.clone());
    }
    if !bound.ports.is_empty() {
        let port = |port: &automaton::BoundPort| json!({"name": port.name, "protocol": port.protocol.word(), "port": port.port, "configurable": port.configurable});
        let ports: Vec<_> = bound.ports.iter().map(port).collect();
        all.insert("com.matrixai.relay.ports".into(), json!(ports).to_string());
    }
    Ok(all)
}

/// The group of an automaton. If it also has an entry point, this is the first member, restarted
/// when it fails.
fn group_of(init: &Init, args: &[String]) -> Option<Result<ProgramGroup>> {
    if init.group.is_empty() {
        return None;
    }
    let restart = |restart: automaton::Restart| match restart {
        automaton::Restart::Permanent => group::Restart::Permanent,
        automaton::Restart::Transient => group::Restart::Transient,
        automaton::Restart::Temporary => group::Restart::Temporary,
    };
    let main = group::Member { name: "main".into(), args: args.to_vec(), restart: group::Restart::Transient };
    let members = init.group.iter().map(|member| group::Member {
        name: member.name.clone(),
        args: member.entrypoint.clone(),
        restart: restart(member.restart),
    });
    let signal = init.stop_signal.as_deref().unwrap_or("SIGTERM");
    let number = signal_names::number(signal).filter(|number| *number > 0);
    let number = number.ok_or_else(|| {
        Fault::refused(Code::JsonSyntax, "init.stopSignal", format!("{signal} is not a signal"))
    });
    let (restarts, seconds) = RESTARTS;
    Some(number.map(|stop_signal| ProgramGroup {
        strategy: match init.strategy {
            automaton::Strategy::OneForOne => group::Strategy::OneForOne,
            automaton::Strategy::OneForAll => group::Strategy::OneForAll,
            automaton::Strategy::RestForOne => group::Strategy::RestForOne,
        },
        restarts,
        seconds,
        stop_signal,
        grace: GRACE,
        members: Some(main).filter(|main| !main.args.is_empty()).into_iter().chain(members).collect(),
    }))
}

/// Copies the runtime's own program and the group's document into the bundle, and mounts them. The
/// runtime's file itself must never be in a container.
fn supervise(group: &ProgramGroup, bundle: &Path, mounts: &mut Vec<Mount>) -> Result<()> {
    let program = bundle.join("init");
    fs::copy("/proc/self/exe", &program).doing(|| format!("copy this program to {}", program.display()))?;
    let text = serde_json::to_vec(group).map_err(std::io::Error::from).doing(|| "write the group")?;
    let document = bundle.join("group.json");
    fs::write(&document, text).doing(|| format!("write {}", document.display()))?;
    let points = bundle.join("rootfs/.emergence");
    fs::create_dir(&points).doing(|| format!("create {}", points.display()))?;
    for (file, mode, destination) in [(&program, 0o555, group::PROGRAM), (&document, 0o444, group::DOCUMENT)]
    {
        let doing = || format!("create {}", file.display());
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).doing(doing)?;
        let name = file.file_name().unwrap_or_default();
        let point = bundle.join("rootfs").join(destination.trim_start_matches('/'));
        fs::File::create_new(point).doing(doing)?;
        mounts.push(Mount {
            destination: destination.into(),
            kind: "bind".into(),
            // Relative to the bundle.
            source: name.to_string_lossy().into_owned(),
            options: ["bind", "ro", "nosuid", "nodev"].map(str::to_owned).into(),
            ..Mount::default()
        });
    }
    Ok(())
}

fn finish(spec: Spec, bundle: &Path) -> Result<()> {
    let text =
        serde_json::to_string_pretty(&spec).map_err(std::io::Error::from).doing(|| "write config.json")?;
    let file = bundle.join("config.json");
    Ok(fs::write(&file, text + "\n").doing(|| format!("write {}", file.display()))?)
}

/// The constraints of an automaton.
pub(crate) fn constraints(document: &Document) -> Result<crate::emergence::format::constraint::Constraints> {
    let list = serde_json::Value::Array(document.constraints.clone());
    crate::emergence::format::constraint::Constraints::parse(&list, "constraints")
}
