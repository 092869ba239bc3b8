//! Profiles to compile: the one that container engines ship, and random ones from a seed.

use emergence_runc::spec::{Seccomp, SeccompArg, SeccompRule};
use serde_json::Value;

/// Capabilities engines give a container, as far as the profile asks for them.
const CAPABILITIES: [&str; 2] = ["CAP_SYS_CHROOT", "CAP_AUDIT_WRITE"];

/// The profile of containers-common for x86_64 in the OCI's form; `None`, with the reason printed, where it is not installed.
pub fn engine() -> Option<Seccomp> {
    let path = "/usr/share/containers/seccomp.json";
    let Ok(text) = std::fs::read_to_string(path) else {
        assert!(std::env::var_os("EMERGENCE_TEST_NO_SKIP").is_none(), "{path} is missing");
        eprintln!("skipped: {path} is missing");
        return None;
    };
    let extended: Value = serde_json::from_str(&text).unwrap();
    let list = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap_or_default() };
    let names_us = |value: &Value| {
        list(&value["arches"]).iter().any(|arch| arch == "amd64")
            || list(&value["caps"]).iter().any(|cap| CAPABILITIES.contains(&cap.as_str()))
    };
    let applies = |rule: &&Value| {
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        let asks = !list(&includes["arches"]).is_empty() || !list(&includes["caps"]).is_empty();
        (!asks || names_us(includes)) && !names_us(excludes)
    };
    let rules = extended["syscalls"].as_array().unwrap().iter().filter(applies);
    Some(Seccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        default_errno_ret: Some(extended["defaultErrnoRet"].as_u64().unwrap_or(1) as u32),
        architectures: ["X86_64", "X86", "X32"].map(|arch| format!("SCMP_ARCH_{arch}")).into(),
        syscalls: rules.map(|rule| serde_json::from_value(rule.clone()).unwrap()).collect(),
        ..Seccomp::default()
    })
}

/// Numbers from a seed, the same on every run (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

const ACTIONS: [&str; 8] = ["KILL", "KILL_PROCESS", "TRAP", "ERRNO", "TRACE", "LOG", "ALLOW", "NOTIFY"];
const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

/// How a random profile is made.
pub struct Recipe<'a> {
    pub names: &'a [&'a str],
    pub architectures: &'a [&'a str],
    /// Whether rules with arguments for one call may have different actions.
    pub quarrels: bool,
    /// Whether values may exceed 32 bits.
    pub wide: bool,
}

fn value(dice: &mut Dice) -> u64 {
    let small = dice.roll() % 4;
    match dice.below(6) {
        0..3 => small,
        3 => (1 << 32) + small - 2,
        4 => ((dice.roll() % 3) << 32) + small,
        _ => *dice.pick(&[u64::MAX, u64::from(u32::MAX), 1 << 63, u64::MAX << 32, 0x7fff_ffff]),
    }
}

fn arg(dice: &mut Dice, wide: bool) -> SeccompArg {
    let bits = if wide { u64::MAX } else { u64::from(u32::MAX) };
    let op = format!("SCMP_CMP_{}", dice.pick(&OPERATORS));
    SeccompArg { index: dice.below(6) as u32, value: value(dice) & bits, value_two: value(dice) & bits, op }
}

/// A profile with few calls and many rules for each.
pub fn random(dice: &mut Dice, recipe: &Recipe) -> Seccomp {
    let mut profile = Seccomp {
        default_action: format!("SCMP_ACT_{}", dice.pick(&ACTIONS[..7])),
        architectures: recipe
            .architectures
            .iter()
            .filter(|_| !dice.chance(3))
            .map(|a| format!("SCMP_ARCH_{a}"))
            .collect(),
        ..Seccomp::default()
    };
    if profile.default_action == "SCMP_ACT_ERRNO" && dice.chance(2) {
        profile.default_errno_ret = Some(*dice.pick(&[1, 2, 38, 4095]));
    }
    let common = format!("SCMP_ACT_{}", dice.pick(&ACTIONS));
    for _ in 0..1 + dice.below(6) {
        let action = match recipe.quarrels && dice.chance(2) {
            true => format!("SCMP_ACT_{}", dice.pick(&ACTIONS)),
            false => common.clone(),
        };
        let errno_ret = (action == "SCMP_ACT_ERRNO" && recipe.quarrels).then(|| 1 + dice.below(50) as u32);
        let names = (0..1 + dice.below(4)).map(|_| (*dice.pick(recipe.names)).to_owned()).collect();
        let args = if dice.chance(3) {
            Vec::new()
        } else {
            (0..1 + dice.below(3)).map(|_| arg(dice, recipe.wide)).collect()
        };
        profile.syscalls.push(SeccompRule { names, action, errno_ret, args });
    }
    profile
}
