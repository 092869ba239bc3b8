//! Profiles to compile: the engines' own, and random ones from a seed.

use emergence_runc::spec::{Seccomp, SeccompArg, SeccompRule};

/// What Docker and podman give a container when nothing else is asked, for x86_64;
/// profiles/README.md says where they are from.
pub(crate) fn engines() -> [(&'static str, Seccomp); 2] {
    [("docker", include_str!("profiles/docker.json")), ("podman", include_str!("profiles/podman.json"))]
        .map(|(name, text)| (name, serde_json::from_str(text).unwrap()))
}

/// Docker's.
pub(crate) fn docker() -> Seccomp {
    let [(_, profile), _] = engines();
    profile
}

/// Numbers from a seed, the same on every run (splitmix64).
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

const ACTIONS: [&str; 8] = ["KILL", "KILL_PROCESS", "TRAP", "ERRNO", "TRACE", "LOG", "ALLOW", "NOTIFY"];
const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

/// How a random profile is made.
pub(crate) struct Recipe<'a> {
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
pub(crate) fn random(dice: &mut Dice, recipe: &Recipe) -> Seccomp {
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
