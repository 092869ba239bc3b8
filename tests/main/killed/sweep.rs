//! One command, killed at chosen calls.

use std::fmt::Write as _;
use std::time::Instant;

use super::stage::{Before, Kind, Stage};
use crate::support::{Env, Killed, Moment};

/// How many calls are chosen, and which.
pub(crate) enum Chosen {
    Spread(usize),
    All,
    Random(usize, u64),
}

impl Chosen {
    fn wanted() -> Self {
        let Ok(text) = std::env::var("EMERGENCE_TEST_KILLS") else { return Chosen::Spread(1) };
        let words: Vec<&str> = text.split(':').collect();
        let number = |text: &str| text.parse().expect("EMERGENCE_TEST_KILLS: a number, all, random:N");
        match words.as_slice() {
            ["all"] => Chosen::All,
            ["random", count] => {
                let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
                let seed = since.as_nanos() as u64;
                println!("seed {seed}");
                Chosen::Random(number(count) as usize, seed)
            }
            ["random", count, seed] => Chosen::Random(number(count) as usize, number(seed)),
            [count] => Chosen::Spread(number(count) as usize),
            _ => panic!("EMERGENCE_TEST_KILLS={text}: a number, all, random:N or random:N:SEED"),
        }
    }

    fn of(&mut self, calls: &[u32]) -> Vec<u32> {
        match self {
            Chosen::All => calls.to_vec(),
            // The middle of each of as many equal parts.
            Chosen::Spread(count) => {
                let at = |part: usize| calls.get(calls.len() * (2 * part + 1) / (2 * *count)).copied();
                (0..*count).filter_map(at).collect()
            }
            Chosen::Random(count, seed) => (0..*count)
                .filter_map(|_| {
                    // Knuth's generator; its high bits are the better ones.
                    *seed =
                        seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    calls.get((*seed >> 33) as usize % calls.len().max(1)).copied()
                })
                .collect(),
        }
    }
}

/// How the runtime is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// While its child runs.
    ChildRuns,
    /// Before its child runs, which wakes before the container is deleted.
    ChildWakes,
    /// The same, but the child wakes after that.
    ChildWakesLate,
    /// At a call of its child.
    ChildsCall,
}

/// A command to be killed.
pub(crate) struct Sweep<'a> {
    stage: Stage<'a>,
    before: Before,
    args: Vec<String>,
}

impl<'a> Sweep<'a> {
    /// Kills `command` for this kind of container at the chosen moments.
    pub(crate) fn run(
        env: &'a Env,
        kind: Kind,
        before: Before,
        program: &[&str],
        command: impl Fn(&Stage<'_>) -> Vec<String>,
    ) {
        let stage = Stage::new(env, kind, program);
        let args = command(&stage);
        let sweep = Self { stage, before, args };
        let mut chosen = Chosen::wanted();
        let begin = Instant::now();
        let counted = sweep.kill(Moment::Never, Manner::ChildWakes);
        let asleep: Vec<u32> = counted.asleep.iter().copied().collect();
        let mut line = format!("{} {kind:?}:", sweep.args.join(" "));
        let childs = sweep.kill(Moment::ChildNever, Manner::ChildsCall).calls;
        // A container that is there waits for the end of what was to enter it.
        let late = if before == Before::Nothing { asleep.clone() } else { Vec::new() };
        type Way = (Manner, Vec<u32>, fn(u32) -> Moment);
        let manners: [Way; 4] = [
            (Manner::ChildRuns, (1..=counted.calls).collect(), Moment::Call),
            (Manner::ChildWakes, asleep, Moment::ChildAsleep),
            (Manner::ChildWakesLate, late, Moment::ChildAsleep),
            (Manner::ChildsCall, (1..=childs).collect(), Moment::ChildsCall),
        ];
        for (manner, calls, moment) in manners {
            let chosen = chosen.of(&calls);
            let reached = chosen.iter().filter(|call| sweep.kill(moment(**call), manner).killed).count();
            write!(line, " {manner:?} {reached} of {},", calls.len()).unwrap();
            // The count differs a little each time; most of the calls must be reached all the same.
            assert!(reached * 2 >= chosen.len(), "{line} of which were chosen {chosen:?}");
        }
        println!("{} {:?}", line, begin.elapsed());
    }

    fn kill(&self, moment: Moment, manner: Manner) -> Killed {
        self.stage.prepare(self.before);
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let mut killed = self.stage.call(&args).killed_at(moment);
        let what = format!("{} killed at {moment:?}, {manner:?}", args.join(" "));
        assert!(killed.killed || killed.succeeded, "{what}: it fails by itself: {}", killed.stderr);
        self.stage.clean(&what, &mut killed, manner);
        killed
    }
}
