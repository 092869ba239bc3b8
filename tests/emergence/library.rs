//! A program that uses the library: from a REF to a bundle, without the command line.

use std::fs;
use std::time::Duration;

use emergence_runc::emergence::hash::Hash;
use emergence_runc::emergence::launch::{Machine, Network, Prepared, Request};
use emergence_runc::emergence::oci::Platform;
use emergence_runc::emergence::{
    Allow, ContentAddress, Declared, Method, Name, OpenOptions, Reference, References, StoreDir,
    StoreLocation, StoreTarget, Sync, open_artifact,
};
use serde_json::Value;

use crate::support::{default_terms, emergence};

#[test]
fn a_reference_becomes_a_bundle() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir_all(path("tree/bin")).unwrap();
    fs::write(path("tree/bin/greet"), "#!/bin/sh\n").unwrap();
    emergence(&["nar", "dump", path("tree").to_str().unwrap(), "--output", path("nar").to_str().unwrap()])
        .ok();
    let dir = StoreDir::default();
    let ca = ContentAddress::Fixed(Method::Nar, Hash::sha256(&fs::read(path("nar")).unwrap()));
    let object = ca.path(&dir, Name::new("greeting").unwrap(), &References::default()).unwrap();

    let place =
        StoreLocation { directory: path("store"), dir, wait: Duration::from_secs(9), sync: Sync::None };
    let target = StoreTarget::open(place).unwrap();
    let terms = target.terms(&default_terms());
    let declared = Declared { path: Some(object.clone()), ca: Some(ca), ..Declared::default() };
    let said = OpenOptions { declared: &declared, platform: &Platform::here(), store: None };
    let reference = Reference::parse(path("nar").to_str().unwrap(), &terms.dir).unwrap();
    let opened = || {
        let artifact = open_artifact(&reference, &said, &terms).unwrap();
        artifact.admit(&reference, &Allow::default(), &terms).unwrap();
        artifact
    };
    let program = format!("{}/bin/greet", terms.dir.path(&object));
    let request = Request {
        parameters: Vec::new(),
        machine: Machine::Here { disk: "/".into() },
        rootfs: None,
        strict: false,
        network: Network::Private,
        relay_hook: None,
        args: Some(vec![program.clone()]),
        terminal: false,
        private: false,
    };
    let prepare =
        |request: &Request| Prepared::new(opened(), request, &terms, &target, &|line| panic!("{line}"));

    // Nothing is created for a request that cannot be met.
    let wrong = Request { parameters: vec![("port".into(), "1".into())], ..request.clone() };
    assert!(prepare(&wrong).is_err());
    assert!(target.existing().is_none() && !path("store").exists());

    let prepared = prepare(&request).unwrap();
    let bundle = prepared.make_bundle(&path("bundle"), &terms).unwrap();
    let config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["process"]["args"], serde_json::json!([program]));
    assert!(prepared.store().meta(&object).unwrap().is_some());
    // The store that was created is the one that the target has from now on.
    assert!(std::ptr::eq(prepared.store(), &**target.existing().unwrap()));
    assert!(prepared.make_bundle(&bundle, &terms).is_err(), "a bundle is never replaced");
}
