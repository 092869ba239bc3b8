//! Documents of automata: what is taken, what is refused and why, and the digests.

use std::collections::BTreeMap;
use std::fs;

use emergence_runc::emergence::automaton::{Document, bind, output_digest};
use emergence_runc::emergence::hash::{Algorithm, Hash};
use emergence_runc::emergence::{Code, Digests, Fault, StoreDir};
use serde_json::{Value, json};

use crate::support::{text, vector, vectors};

const APP: &str = "/nix/store/py243j0vcxs3xpxsxl7n936dn95avljh-nested";

fn parse(document: &Value) -> Result<Document, Fault> {
    Document::parse(document.to_string().as_bytes(), "x.json", &StoreDir::default())
}

fn example() -> Value {
    serde_json::from_slice(&fs::read(vector("automaton.json")).unwrap()).unwrap()
}

/// The example with a member changed, by its JSON pointer; null takes it away.
fn changed(changes: &[(&str, Value)]) -> Value {
    let mut document = example();
    for (pointer, value) in changes {
        let (above, name) = pointer.rsplit_once('/').unwrap();
        match document.pointer_mut(above).unwrap() {
            Value::Object(members) => drop(members.insert(name.to_owned(), value.clone())),
            Value::Array(list) => list[name.parse::<usize>().unwrap()] = value.clone(),
            other => panic!("{other}"),
        }
    }
    document
}

#[test]
fn the_worked_example() {
    let vector_of = vectors("automaton");
    let bytes = fs::read(vector(text(&vector_of["file"]))).unwrap();
    let document = Document::parse(&bytes, "automaton.json", &StoreDir::default()).unwrap();
    assert_eq!(document.canonical().unwrap(), bytes);
    assert_eq!(Hash::sha256(&bytes).to_string(), text(&vector_of["documentDigest"]));
    let contents: BTreeMap<String, Hash> = vector_of["contents"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, hash)| (name.clone(), Hash::parse(text(hash), Some(Algorithm::Sha256)).unwrap()))
        .collect();
    let digests = Digests::of(&document, &contents).unwrap();
    let want = &vector_of["digests"];
    assert_eq!(digests.declaration.unwrap().to_string(), text(&want["declaration"]));
    assert_eq!(output_digest(&contents).to_string(), text(&want["output"]));
    assert_eq!(digests.output.to_string(), text(&want["output"]));
    assert_eq!(digests.interface.to_string(), text(&want["interface"]));
    assert_eq!(digests.automaton.to_string(), text(&want["automaton"]));
    // Another declaration is another automaton with the same output; another default is another
    // interface.
    let other = parse(&changed(&[("/declaration", Value::Null)])).unwrap();
    let other = Digests::of(&other, &contents).unwrap();
    assert_eq!((other.declaration, other.output), (None, digests.output));
    assert_ne!(other.automaton, digests.automaton);
    let other = parse(&changed(&[("/parameters/0/default", json!(8081))])).unwrap();
    let other = Digests::of(&other, &contents).unwrap();
    assert_eq!(other.output, digests.output);
    assert_ne!(other.interface, digests.interface);
}

#[test]
fn refusals_and_their_places() {
    use Code::*;
    let hash = "sha256:8780ba5fd30e7a4e4d144295b879c8f34e3d984d5f25b914c752245b870f6661";
    let inputs = |inputs: Value| json!({"kind": "opaque", "digest": hash, "inputs": inputs});
    let table: Vec<(&str, Value, Code, &str)> = vec![
        ("/extra", json!(1), DocUnknownField, "extra: "),
        ("/init/extra", json!(1), DocUnknownField, "init.extra: "),
        ("/closure/0/size", json!(1), DocUnknownField, "closure[0].size: "),
        ("/parameters/0/doc", json!(""), DocUnknownField, "parameters[0].doc: "),
        ("/ports/1/host", json!(""), DocUnknownField, "ports[1].host: "),
        ("/declaration/x", json!(""), DocUnknownField, "declaration.x: "),
        ("/resources/memory/max", json!(1), DocUnknownField, "resources.memory.max: "),
        ("/resources/net", json!({}), DocUnknownField, "resources.net: "),
        ("/init/entrypoint", json!("/bin/app --port 1"), DocShellForm, "init.entrypoint: "),
        ("/init/args", json!("--port {port}"), DocShellForm, "init.args: "),
        (
            "/init/group",
            json!([{"name": "a", "entrypoint": "/a b"}]),
            DocShellForm,
            "init.group[0].entrypoint: ",
        ),
        ("/init/args/1", json!("{other}"), DocParameter, "parameter other: "),
        ("/init/args/1", json!("{port"), DocParameter, "init.args[1]: "),
        ("/init/args/1", json!("{}"), DocParameter, "init.args[1]: "),
        ("/init/env/A", json!("{"), DocParameter, "init.env.A: "),
        ("/parameters", json!([]), DocParameter, "parameter port: "),
        ("/parameters/0/name", json!("p"), DocParameter, "parameter port: "),
        ("/parameters/0/default", json!("8080"), DocParameter, "parameters[0].default: "),
        ("/parameters/0/default", json!(65536), DocParameter, "parameters[0].default: "),
        ("/parameters/0/type", json!("integer"), DocParameter, "parameter port: "),
        ("/parameters/0/type", json!("text"), JsonSyntax, "parameters[0].type: "),
        ("/ports/0/port", json!("{port}0"), JsonSyntax, "ports[0].port: "),
        ("/ports/1/port", json!(0), JsonSyntax, "ports[1].port: "),
        ("/ports/1/port", json!(65536), JsonSyntax, "ports[1].port: "),
        ("/ports/1/name", json!("http"), JsonSyntax, "ports[1]: "),
        ("/ports/1/protocol", json!("icmp"), JsonSyntax, "ports[1].protocol: "),
        ("/init/entrypoint", json!([]), DocEntrypoint, "init.entrypoint: "),
        ("/init/entrypoint", json!(["app"]), DocEntrypoint, "init.entrypoint: "),
        ("/init", json!({}), DocEntrypoint, "init: "),
        ("/init/strategy", json!("one_for_one"), JsonSyntax, "init.strategy: "),
        ("/init/cwd", json!("data"), JsonSyntax, "init.cwd: "),
        ("/init/env/A", json!("\0"), JsonSyntax, "init.env.A: "),
        ("/init/user", json!("a:b:c"), JsonSyntax, "init.user: "),
        ("/schemaVersion", json!(2), JsonSyntax, "schemaVersion: "),
        ("/schemaVersion", Value::Null, JsonSyntax, "schemaVersion: "),
        ("/name", json!("a b"), PathName, "a b: "),
        ("/outputs", json!({}), JsonSyntax, "outputs: "),
        ("/outputs/a b", json!(APP), PathName, "a b: "),
        (
            "/outputs/dev",
            json!("/nix/store/py243j0vcxs3xpxsxl7n936dn95avljh-other"),
            ClosureIncomplete,
            "-other: ",
        ),
        ("/closure", Value::Null, JsonSyntax, "closure: "),
        ("/closure/0/narHash", json!("sha256:0"), HashSyntax, "sha256:0: "),
        ("/closure/0/ca", json!("sha256:0"), CaSyntax, "sha256:0: "),
        ("/closure/0/path", json!("/bin/app"), PathName, "/bin/app: "),
        ("/closure/0/signatures", json!(["a"]), JsonSyntax, "closure[0].signatures[0]: "),
        ("/constraints", json!(["x86_64-linux"]), JsonSyntax, "constraints[0]: "),
        ("/constraints/1/min", json!(1.5), JsonSyntax, "1.5: "),
        ("/resources/cpu", json!({"max": "1"}), JsonSyntax, "resources.cpu.max: "),
        ("/resources/cpu", json!({"max": "0 1"}), JsonSyntax, "resources.cpu.max: "),
        ("/declaration/kind", json!("makefile"), JsonSyntax, "declaration.kind: "),
        ("/declaration/digest", json!("sha1:hsax2d9wqkv5zmcwkmgm1xivvlb8bc3l"), JsonSyntax, "declaration: "),
        ("/declaration", inputs(json!([{"path": "./a"}])), DeclarationUnpinned, "declaration.inputs[0]: "),
        (
            "/declaration",
            inputs(json!([{"path": "./a", "digest": hash}])),
            DeclarationMismatch,
            "declaration: ",
        ),
        (
            "/declaration",
            inputs(json!([{"path": "a\nb", "digest": hash}])),
            JsonSyntax,
            "declaration.inputs[0].path: ",
        ),
    ];
    for (pointer, value, code, words) in table {
        let fault = parse(&changed(&[(pointer, value.clone())])).unwrap_err();
        assert_eq!(fault.code(), Some(code), "{pointer} {value}: {fault}");
        assert!(fault.to_string().contains(words), "{pointer} {value}: {fault}");
        assert_eq!(fault.to_string().lines().count(), 1);
    }
    let twice = br#"{"schemaVersion":1,"init":{"cwd":"/","cwd":"/"}}"#;
    let fault = Document::parse(twice, "x.json", &StoreDir::default()).unwrap_err();
    assert_eq!(fault.code(), Some(JsonDuplicateKey));
    assert!(fault.to_string().contains("init.cwd"), "{fault}");
}

#[test]
fn what_is_free() {
    let free = parse(&changed(&[("/x-note", json!({"a": 1})), ("/init/x-b", json!("c"))])).unwrap();
    assert_eq!(free.value()["x-note"]["a"], 1);
    let group = json!({"strategy": "rest_for_one", "group": [
        {"name": "a", "entrypoint": [format!("{APP}/bin/app")], "restart": "transient"},
        {"name": "b", "entrypoint": [format!("{APP}/bin/app"), "{not a parameter"]}]});
    let none = json!([]);
    let several =
        parse(&changed(&[("/init", group), ("/parameters", none.clone()), ("/ports", none)])).unwrap();
    assert_eq!(several.init.unwrap().group.len(), 2);
}

#[test]
fn parameters_are_bound() {
    let document = parse(&changed(&[
        ("/init/args", json!(["--listen={host}:{port}", "{{\"a\":{n}}", "}"])),
        ("/init/env/A", json!("{on}{dir}")),
        (
            "/parameters",
            json!([
                {"name": "port", "type": "port", "default": 8080},
                {"name": "host", "type": "string", "default": ""},
                {"name": "n", "type": "integer", "required": true, "default": 3},
                {"name": "on", "type": "boolean", "default": false},
                {"name": "dir", "type": "path"},
            ]),
        ),
    ]))
    .unwrap();
    let bound = |given: &[(&str, &str)]| {
        let given: Vec<_> = given.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        bind(&document, &given)
    };
    let all = bound(&[("n", "-4"), ("dir", "/d"), ("on", "true"), ("port", "80")]).unwrap();
    assert_eq!(all.args[1..], ["--listen=:80", "{\"a\":-4}", "}"]);
    assert_eq!(all.env["A"], "true/d");
    assert_eq!((all.ports[0].port, all.ports[0].configurable), (80, true));
    assert_eq!((all.ports[1].port, all.ports[1].configurable), (9000, false));
    assert_eq!(all.parameters["host"], "");
    let least = bound(&[("n", "0"), ("dir", "d")]).unwrap();
    assert_eq!((least.args[1].as_str(), least.env["A"].as_str()), ("--listen=:8080", "falsed"));
    for (given, words) in [
        (&[("n", "0")][..], "parameter dir: needs a value of type path"),
        (&[("dir", "d")], "parameter n: needs a value"),
        (&[("n", "0"), ("dir", "")], "\"\" is not of type path"),
        (&[("n", "1.5"), ("dir", "d")], "\"1.5\" is not of type integer"),
        (&[("n", "+1"), ("dir", "d")], "is not of type integer"),
        (&[("n", "0"), ("dir", "d"), ("port", "0")], "is not of type port"),
        (&[("n", "0"), ("dir", "d"), ("port", "080")], "is not of type port"),
        (&[("n", "0"), ("dir", "d"), ("on", "yes")], "is not of type boolean"),
        (&[("n", "0"), ("dir", "d"), ("n", "1")], "parameter n: is given twice"),
        (
            &[("n", "0"), ("dir", "d"), ("x", "1")],
            "parameter x: is not declared; there is port, host, n, on, dir",
        ),
        (&[("n", "0"), ("dir", "d"), ("a\nb", "1")], "parameter a\\nb: is not declared"),
    ] {
        let fault = bound(given).unwrap_err();
        assert_eq!(fault.code(), Some(Code::DocParameter), "{fault}");
        assert!(fault.to_string().contains(words), "{given:?}: {fault}");
    }
}

#[test]
fn values_at_the_borders_of_their_types() {
    let (long, far) = ("x".repeat(100_000), "9223372036854775808");
    let table: [(&str, &[&str], &[&str]); 5] = [
        (
            "port",
            &["1", "80", "65535"],
            &["0", "65536", "080", "-1", "+80", "80 ", "", "http", "8e1", "0x50"],
        ),
        (
            "integer",
            &[
                "0",
                "-1",
                "9007199254740991",
                "9007199254740992",
                "9223372036854775807",
                "-9223372036854775808",
            ],
            &[far, "-9223372036854775809", "-0", "00", "+1", "1.0", "1e3", "", " 1"],
        ),
        ("boolean", &["true", "false"], &["True", "TRUE", "1", "0", "yes", ""]),
        ("path", &["/", "a", "../..", "/a/../b", " "], &["", "/a\0b"]),
        ("string", &["", "{", "}", "{{", "{v}", "{{{v}}}", "\u{20ac}\n", &long], &["a\0b"]),
    ];
    for (kind, good, bad) in table {
        let document = parse(&changed(&[
            ("/init/args", json!(["<{v}>"])),
            ("/init/env/A", json!("{v}")),
            ("/parameters", json!([{"name": "v", "type": kind, "required": true}])),
            ("/ports", json!([])),
        ]))
        .unwrap();
        let given = |value: &str| bind(&document, &[("v".into(), value.into())]);
        for value in good {
            let bound = given(value).unwrap();
            // Any value is stored as it was given.
            assert_eq!(
                (bound.args[1].as_str(), bound.env["A"].as_str()),
                (format!("<{value}>").as_str(), *value)
            );
            assert_eq!(bound.parameters["v"], *value);
        }
        for value in bad {
            let fault = given(value).unwrap_err();
            assert_eq!(fault.code(), Some(Code::DocParameter), "{kind} {value:?}: {fault}");
            let words = format!("is not of type {kind}: that is ");
            assert!(fault.to_string().contains(&words), "{fault}");
            assert_eq!(fault.to_string().lines().count(), 1, "{fault}");
        }
    }
}

#[test]
fn defaults_and_ports_at_their_borders() {
    let parameter = |kind: &str, default: Value| {
        let parameter = json!([{"name": "v", "type": kind, "default": default}]);
        parse(&changed(&[("/init/args", json!(["{v}"])), ("/parameters", parameter), ("/ports", json!([]))]))
    };
    for (kind, default) in [
        ("port", json!(65535)),
        ("integer", json!(9_007_199_254_740_991u64)),
        ("integer", json!(-9_007_199_254_740_991i64)),
        ("boolean", json!(false)),
        ("string", json!("")),
        ("path", json!("x")),
    ] {
        parameter(kind, default.clone()).unwrap_or_else(|fault| panic!("{kind} {default}: {fault}"));
    }
    for (kind, default) in [
        ("port", json!(0)),
        ("port", json!(65536)),
        ("port", json!("80")),
        ("integer", json!(9_007_199_254_740_992u64)),
        ("integer", json!(1.5)),
        ("integer", json!("1")),
        ("boolean", json!("true")),
        ("boolean", json!(1)),
        ("string", json!(1)),
        ("string", json!("a\0b")),
        ("path", json!("")),
    ] {
        let fault = parameter(kind, default.clone()).unwrap_err();
        let code = fault.code().unwrap();
        assert!(matches!(code, Code::DocParameter | Code::JsonSyntax), "{kind} {default}: {fault}");
    }
    let ports = |port: Value, protocol: &str| {
        let none = json!([]);
        let ports = json!([{"name": "p", "protocol": protocol, "port": port}]);
        parse(&changed(&[("/init/args", none.clone()), ("/parameters", none), ("/ports", ports)]))
    };
    for (port, protocol) in [(1, "tcp"), (65535, "udp"), (7, "sctp")] {
        ports(json!(port), protocol).unwrap();
    }
    for (port, protocol) in [
        (json!(0), "tcp"),
        (json!(65536), "tcp"),
        (json!(-1), "tcp"),
        (json!("80"), "tcp"),
        (json!("{p"), "tcp"),
        (json!("{{p}"), "tcp"),
        (json!("1{p}"), "tcp"),
        (json!(80), "TCP"),
        (json!(80), "icmp"),
    ] {
        assert!(ports(port.clone(), protocol).is_err(), "{port} {protocol}");
    }
}
