//! `check` and `features`: the errors in a bundle, and the abilities of this build. Nothing is
//! started.

use std::fs;
use std::path::Path;

use super::{facts, members, request};
use crate::cgroup::Driver;
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::{Ask, BadField, Judge, Plan, limits, options, passed, schedule};
use crate::security::seccomp;
use crate::spec::features::{Cgroup, IntelRdt, MemoryPolicy, SeccompWords, Support};
use crate::spec::{self, Position, Spec};

/// The findings of `check`, one line each.
#[derive(Debug, Default)]
pub struct Findings {
    /// Errors that prevent the container's creation.
    pub faults: Vec<String>,
    /// Warnings: unknown members, and warnings of the plan.
    pub warnings: Vec<String>,
}

/// All errors in the configuration at `config`, for its bundle.
pub fn check(config: &Path, bundle: &Path) -> Findings {
    let mut findings = Findings::default();
    if let Err(error) = judge(config, bundle, &mut findings) {
        findings.faults.push(error.to_string());
    }
    findings
}

fn judge(config: &Path, bundle: &Path, findings: &mut Findings) -> Result<()> {
    let name = config.display();
    let bundle = std::path::absolute(bundle)?;
    let bytes = fs::read(config).doing(|| format!("read {name}"))?;
    let survey =
        spec::survey(&bytes).map_err(|fault| Error::new(Kind::Invalid, format!("{name}: {fault}")))?;
    let at = |path: &str| {
        let Position { line, column } = survey.place(path);
        format!("{name}: line {line} column {column}")
    };
    findings.faults.extend(survey.faults.iter().map(|fault| format!("{name}: {fault}")));
    findings.warnings.extend(
        survey.unknown.iter().map(|unknown| format!("{}: {}", at(&unknown.path()), members::words(unknown))),
    );
    let Some(spec) = &survey.spec else { return Ok(()) };
    let (faults, warnings) = plan(spec, &bundle)?;
    let in_config = faults.iter().filter(|fault| !survey.is_about_stand_in(&fault.path));
    findings.faults.extend(in_config.map(|fault| format!("{}: {fault}", at(&fault.path))));
    if survey.faults.is_empty() {
        findings.warnings.extend(warnings);
    }
    Ok(())
}

/// The errors and warnings of a plan for this configuration.
fn plan(spec: &Spec, bundle: &Path) -> Result<(Vec<BadField>, Vec<String>)> {
    // No cgroup is looked for: its place depends on options.
    let settings = request::Settings {
        root: "/".into(),
        root_is_named: true,
        driver: Driver::Disabled,
        rootless: rustix::process::geteuid().as_raw() != 0,
    };
    let facts = facts::host(spec, &settings, "check")?;
    let ask = Ask { id: "check", bundle, no_pivot: false, new_keyring: true, passed: &passed::NOTHING };
    let (mut faults, warnings) = match Plan::build(spec, &ask, &facts.host) {
        Ok(plan) => (Vec::new(), plan.warnings),
        Err(faults) => (faults, Vec::new()),
    };
    let resources = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    let mut judge = Judge::default();
    limits::resources(resources, facts::limiting()?, &mut judge);
    faults.extend(judge.faults);
    if let Some(root) = &spec.root {
        let path = bundle.join(&root.path);
        let words = match fs::metadata(&path) {
            Ok(found) if found.is_dir() => None,
            Ok(_) => Some("not a directory".to_owned()),
            Err(error) => Some(Error::from(error).to_string()),
        };
        faults.extend(words.map(|words| BadField {
            path: "root.path".into(),
            words: format!("{}: {words}", path.display()),
        }));
    }
    Ok((faults, warnings))
}

/// Annotations that change the runtime's behaviour, and so must not be set by untrusted parties. A
/// name that ends with a dot is a prefix. Source: runtime-spec features.md, "Unsafe annotations in
/// config.json".
const UNSAFE_ANNOTATIONS: [&str; 3] = ["org.criu.config", "org.systemd.property.", "run.oci."];

/// The abilities of this build, for the features document.
pub fn support() -> Support {
    Support {
        mount_options: options::WORDS.iter().map(|(name, _)| *name).collect(),
        capabilities: {
            let mut all: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
            all.sort();
            all
        },
        cgroup: Cgroup { v1: true, v2: true, systemd: true, systemd_user: true, rdma: true },
        seccomp: Some(SeccompWords {
            actions: seccomp::actions().collect(),
            operators: seccomp::operators().collect(),
            archs: seccomp::architectures().collect(),
            known_flags: seccomp::flags().collect(),
            supported_flags: seccomp::flags().collect(),
        }),
        apparmor: true,
        selinux: true,
        intel_rdt: IntelRdt { enabled: true, schemata: true, monitoring: true },
        memory_policy: Some(MemoryPolicy {
            modes: schedule::POLICY_MODES.iter().map(|(name, _)| *name).collect(),
            flags: schedule::POLICY_FLAGS.iter().map(|(name, _)| *name).collect(),
        }),
        idmap: true,
        net_devices: true,
        unsafe_annotations: UNSAFE_ANNOTATIONS.to_vec(),
    }
}
