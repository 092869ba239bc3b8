//! `emergence inspect`: the documents of an artifact, as text and as JSON.

use std::io::IsTerminal;

use serde_json::{Value, json};

use super::common::CommonOptions;
use super::documents::{layer_document, object_document};
use super::opened::opened;
use crate::cli::args::{ArtifactArgs, InspectArgs};
use crate::emergence::automaton::Document;
use crate::emergence::oci::Image;
use crate::emergence::{Artifact, Closure, LayerReport, Result, lost_automaton};

pub(super) fn inspect(args: &InspectArgs, options: &CommonOptions) -> Result<()> {
    let artifact = ArtifactArgs { platform: args.platform.clone(), ..ArtifactArgs::default() };
    match opened(&args.reference, &artifact, options)? {
        Artifact::Image(image) => {
            let shown = Shown::of(&image);
            if !options.json && std::io::stdout().is_terminal() {
                options.answer(shown.lines().trim_end(), || Value::Null)
            } else {
                options.document(&shown.document())
            }
        }
        Artifact::Closure(closure) => inspect_closure(&*closure, options),
    }
}

/// Prints the declarations of an artifact. They agree with each other; nothing else is proved.
fn inspect_closure(closure: &dyn Closure, options: &CommonOptions) -> Result<()> {
    let document = closure.document().map(Document::value);
    options.document(&json!({
        "ok": true,
        "kind": closure.kind().word(),
        "digest": closure.digest().to_string(),
        "document": document,
        "objects": closure.objects().iter().map(|object| object_document(object, options)).collect::<Vec<_>>(),
        "layers": closure.layers().iter().map(layer_document).collect::<Vec<_>>(),
        "ports": document.and_then(|document| document.get("ports")).cloned().unwrap_or_else(|| json!([])),
        "signature": closure.signature(),
    }))
}

/// The properties of an image that are shown.
struct Shown<'a> {
    image: &'a Image,
    ports: Vec<(u16, String)>,
    warnings: Vec<String>,
}

impl<'a> Shown<'a> {
    fn of(image: &'a Image) -> Self {
        let execution = &image.config().config;
        let mut warnings: Vec<String> = lost_automaton(image).map(str::to_owned).into_iter().collect();
        let mut ports = Vec::new();
        for text in execution.exposed_ports.keys() {
            match port(text) {
                Some(port) => ports.push(port),
                None => warnings.push(format!("{} is not a port", text.escape_debug())),
            }
        }
        ports.sort();
        for (name, words) in [("Entrypoint", &execution.entrypoint), ("Cmd", &execution.cmd)] {
            if is_shell_form(words) {
                warnings
                    .push(format!("{name} is in shell form: a shell runs it, and does not forward signals"));
            }
        }
        Self { image, ports, warnings }
    }

    fn document(&self) -> Value {
        let (config, manifest) = (self.image.config(), self.image.manifest());
        json!({
            "ok": true,
            "kind": "oci-image",
            "digest": self.image.digest().to_string(),
            "configDigest": manifest.config.digest.to_string(),
            "chainId": self.image.chain_id().to_string(),
            "platform": config.platform().to_string(),
            "created": config.created,
            "config": config.config,
            "ports": self.ports.iter().map(|(port, protocol)| json!({ "port": port, "protocol": protocol }))
                .collect::<Vec<_>>(),
            "annotations": manifest.annotations,
            "layers": self.image.layers().iter().map(layer_document).collect::<Vec<_>>(),
            "warnings": self.warnings,
        })
    }

    /// Text output: one line for each value, after its name.
    fn lines(&self) -> String {
        let (config, manifest) = (self.image.config(), self.image.manifest());
        let execution = &config.config;
        let mut lines = Lines(String::new());
        lines.add("digest", &self.image.digest().to_string());
        lines.add("platform", &config.platform().to_string());
        lines.add("created", config.created.as_deref().unwrap_or_default());
        lines.add("entrypoint", &words(&execution.entrypoint));
        lines.add("cmd", &words(&execution.cmd));
        lines.add("user", &execution.user);
        lines.add("directory", &execution.working_dir);
        lines.add("stop signal", &execution.stop_signal);
        lines.add_list("env", execution.env.iter().cloned());
        lines.add_list("ports", self.ports.iter().map(|(port, protocol)| format!("{port}/{protocol}")));
        lines.add_list("volumes", execution.volumes.keys().cloned());
        lines.add_list("labels", execution.labels.iter().map(|(name, value)| format!("{name}={value}")));
        lines.add_list(
            "annotations",
            manifest.annotations.iter().map(|(name, value)| format!("{name}={value}")),
        );
        let kind = |layer: &LayerReport| layer.media_type.rsplit('.').next().unwrap_or_default().to_owned();
        lines.add_list(
            "layers",
            self.image.layers().iter().map(|layer| {
                format!("{} {} {}", layer.digest, indicatif::BinaryBytes(layer.size), kind(layer))
            }),
        );
        lines.add_list("warning", self.warnings.iter().cloned());
        lines.0
    }
}

struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            // Values of an image must not control the terminal.
            self.0.push_str(&format!("{name:<12} {}\n", plain(value)));
        }
    }

    fn add_list(&mut self, name: &str, values: impl Iterator<Item = String>) {
        for (at, value) in values.enumerate() {
            self.add(if at == 0 { name } else { "" }, &value);
        }
    }
}

/// Escapes control characters.
fn plain(text: &str) -> String {
    let one = |c: char| if c.is_control() { c.escape_debug().collect() } else { String::from(c) };
    text.chars().map(one).collect()
}

/// A command as typed in a shell, with quotes around empty words and words with spaces.
fn words(words: &[String]) -> String {
    let one = |word: &String| {
        if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c == '"') {
            format!("{word:?}")
        } else {
            word.clone()
        }
    };
    words.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Parses `PORT[/PROTOCOL]`; the default is TCP.
fn port(text: &str) -> Option<(u16, String)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let known = ["tcp", "udp", "sctp"].contains(&protocol);
    Some((port.parse().ok().filter(|_| known)?, protocol.to_owned()))
}

/// Whether a builder made the command from a line that is not a list: a shell with `-c` and the
/// line.
fn is_shell_form(words: &[String]) -> bool {
    let shell = words.first().and_then(|program| program.rsplit('/').next());
    let is_shell = shell.is_some_and(|name| ["sh", "bash", "ash", "dash", "zsh"].contains(&name));
    is_shell && words.get(1).is_some_and(|option| option == "-c") && words.len() == 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_shells() {
        assert_eq!(port("80"), Some((80, "tcp".into())));
        assert_eq!(port("53/udp"), Some((53, "udp".into())));
        assert_eq!((port("65536/tcp"), port("80/x"), port("")), (None, None, None));
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert!(is_shell_form(&words(&["/bin/sh", "-c", "app --port 80"])));
        assert!(!is_shell_form(&words(&["sh"])));
        assert!(!is_shell_form(&words(&["app", "-c", "x"])));
        assert_eq!(plain("a\x1b[1m\n"), "a\\u{1b}[1m\\n");
    }
}
