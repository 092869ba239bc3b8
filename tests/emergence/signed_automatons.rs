//! Automata with signatures, and what a demand or a policy accepts.

use std::fs;

use serde_json::{Value, json};

use crate::automatons::{FORMS, Work, report};
use crate::support::{emergence, text, vector, vectors};

#[test]
fn signatures_are_added_and_demanded() {
    let work = Work::new();
    let key = |name: &str, file: &str| {
        let file = work.text(file);
        fs::write(&file, emergence(&["key", "generate", name]).ok()).unwrap();
        let public = emergence(&["key", "public", &file]).ok().to_owned();
        (file, public)
    };
    let ((mine, public), (_, forged), (theirs, other)) =
        (key("mine", "1.sk"), key("mine", "2.sk"), key("theirs", "3.sk"));
    for form in FORMS {
        for archive in [false, true] {
            let reference = match archive {
                true => format!("oci-archive:{}:{form}", work.text(&format!("{form}.tar"))),
                false => format!("{}:{form}", work.output("out")),
            };
            let plain = work.pack(&reference, &["--form", form]).ok().to_owned();
            let before = report(&reference, &[]);
            let check = |key: &str, more: &[&str]| {
                emergence(
                    &[&["verify", &reference, "--trust", "signed", "--trusted-key", key], more].concat(),
                )
            };
            check(&public, &[]).refused(6, "trust.unproved");
            let signature = emergence(&["sign", &reference, &mine]).ok().to_owned();
            assert!(signature.starts_with("mine:"));
            check(&public, &[]).ok();
            check(&other, &[]).refused(6, "trust.unproved");
            check(&forged, &[]).refused(6, "trust.signature");
            emergence(&["verify", &reference, "--trusted-key", &forged, "--trust", "none"])
                .refused(6, "trust.signature");
            // Another signature comes to it, the same one does not come twice.
            emergence(&["sign", &reference, &theirs]).ok();
            emergence(&["sign", &reference, &mine]).ok();
            check(&public, &[]).ok();
            check(&other, &[]).ok();
            let after = report(&reference, &[]);
            assert_eq!((&after["automaton"], &after["layers"]), (&before["automaton"], &before["layers"]));
            assert_ne!(after["digest"], before["digest"]);
            // Signed while it is packed, it is the same.
            let signed = work.pack(&reference, &["--form", form, "--sign", &mine]).ok().to_owned();
            assert_ne!(signed, plain);
            check(&public, &[]).ok();
        }
    }
    let reference = format!("{}:image", work.output("out"));
    let known = report(&reference, &[]);
    for expected in ["automaton", "digest"] {
        emergence(&["verify", &reference, "--expect", text(&known[expected])]).ok();
    }
    emergence(&["verify", &reference, "--expect", text(&known["output"])]).refused(6, "trust.expect");
    let before = work.listing();
    emergence(&["sign", &work.output("none"), &mine]).fails(4, "none");
    emergence(&["sign", &format!("{}:none", work.output("out")), &mine]).refused(4, "oci.no-tag");
    assert_eq!(work.listing(), before);
}

#[test]
fn a_demand_for_signatures_names_the_keys() {
    let work = Work::new();
    let key = vector("keys/test-1.sk").display().to_string();
    work.pack(&work.output("out"), &["--sign", &key]).ok();
    let keys = vectors("keys");
    let trusted = ["--trusted-key", text(&keys["test-1"])];
    let shown = |options: &[&str]| {
        let report = report(&work.output("out"), &[&trusted[..], options].concat());
        let object = report["objects"][0].clone();
        (report["trust"].clone(), object["proof"].clone(), object["signedBy"].clone())
    };
    assert_eq!(shown(&[]), (json!("content"), json!("content"), Value::Null));
    assert_eq!(shown(&["--trust", "signed"]), (json!("signature"), json!("signature"), json!("test-1")));
}

#[test]
fn a_policy_knows_an_automaton_by_its_own_name() {
    let work = Work::new();
    work.pack(&work.output("out"), &[]).ok();
    let policy = work.text("policy.json");
    let verify = |names: &str| {
        fs::write(&policy, format!(r#"{{"allow":{{"names":["{names}"]}}}}"#)).unwrap();
        emergence(&["--policy", &policy, "verify", &work.output("out")])
    };
    verify("greet*").ok();
    verify("app").refused(6, "trust.policy");
}
