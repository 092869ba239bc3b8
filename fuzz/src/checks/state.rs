//! The state file of a container, as every command finds it. `state` and `list` read it through the
//! door that commands use.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use emergence_runc::cgroup::Driver;
use emergence_runc::container::{self, request::Settings};

use super::one_line;

pub fn check(bytes: &[u8]) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name =
        format!("emergence-runc-fuzz-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let root = std::env::temp_dir().join(name);
    let directory = root.join("web");
    fs::create_dir_all(&directory).expect("a state directory");
    fs::write(directory.join("state.json"), bytes).expect("a state file");
    let settings =
        Settings { root: root.clone(), root_is_named: true, driver: Driver::Disabled, rootless: false };
    let state = container::state(&settings, &"web".parse().expect("an id"));
    let list = container::list(&settings).expect("one broken state file does not hide the others");
    match &state {
        Ok(state) => {
            let text = serde_json::to_string(state).expect("what `state` prints");
            assert!(!text.contains('\n'));
        }
        Err(error) => one_line(&error.to_string()),
    }
    assert!(list.len() <= 1);
    fs::remove_dir_all(&root).expect("the directory again");
}
