//! The engines' settings in README.md do what README.md says of them.

use std::path::PathBuf;

use crate::support::{Output, Runtime, call, in_machine};

const README: &str = include_str!("../../README.md");

/// The settings that README.md shows for the file of this name.
fn settings(file: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("`{file}`")).expect("README.md names the file");
    let (_, rest) = rest.split_once("```").expect("settings follow");
    let (_, rest) = rest.split_once('\n').expect("they are lines");
    rest.split_once("```").expect("they end").0
}

/// A file with these settings.
fn written(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("readme-{}-{name}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

const PODMAN: &str = "/etc/containers/containers.conf.d/emergence.conf";

/// podman with the settings in `file` added to its own.
fn podman(file: &std::path::Path, args: &[&str]) -> Output {
    let settings = format!("CONTAINERS_CONF_OVERRIDE={}", file.display());
    call("env", &[&[settings.as_str(), "podman"], args].concat())
}

#[test]
fn all_name_the_program_where_it_is_installed() {
    for file in [
        PODMAN,
        "/etc/containerd/config.toml",
        "/etc/docker/daemon.json",
        "/etc/crio/crio.conf.d/10-emergence.conf",
    ] {
        assert!(settings(file).contains(&format!("\"{}\"", Runtime::Ours.path())), "{file}");
    }
    serde_json::from_str::<serde_json::Value>(settings("/etc/docker/daemon.json")).unwrap();
}

#[test]
fn podman_reads_errors_and_goes_without_cgroups() {
    if !in_machine() {
        return;
    }
    let file = written("podman", settings(PODMAN));
    let run = ["run", "--rm", "--network", "none", "localhost/busybox"];
    let by_path = [&["--runtime", Runtime::Ours.path()], &run[..]].concat();
    let said = podman(&file, &["info", "--format", "{{.Host.OCIRuntime.Path}}"]).ok();
    assert_eq!(said.text(), Runtime::Ours.path(), "it is the runtime for all containers");
    for words in [&run[..], &by_path] {
        let said = podman(&file, &[words, &["/no/such/program"]].concat()).exits(127);
        assert!(!said.stderr.contains("level=error"), "an error is no log line: {}", said.stderr);
        let (image, options) = words.split_last().unwrap();
        podman(&file, &[options, &["--cgroups=disabled", *image, "true"]].concat()).ok();
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn docker_takes_the_settings() {
    if !in_machine() {
        return;
    }
    let file = written("daemon.json", settings("/etc/docker/daemon.json"));
    call("dockerd", &["--validate", "--config-file", file.to_str().unwrap()]).ok();
    std::fs::remove_file(file).unwrap();
}

#[test]
fn containerd_takes_the_settings() {
    if !in_machine() {
        return;
    }
    let file = written("config.toml", settings("/etc/containerd/config.toml"));
    let all = call("containerd", &["--config", file.to_str().unwrap(), "config", "dump"]).ok().stdout;
    // The whole configuration of our runtime, from its name to the next one's.
    let (_, ours) = all.split_once("containerd.runtimes.emergence.options]").expect("the runtime is there");
    let ours = ours.split("\n\n").next().unwrap();
    assert!(ours.contains("BinaryName = \"/usr/local/bin/emergence-runc\""), "{ours}");
    assert!(ours.contains("SystemdCgroup = true"), "{ours}");
    std::fs::remove_file(file).unwrap();
}
