//! Every pair of commands on one container, raced with random delays: whichever wins, no process,
//! cgroup or directory is forgotten.
//!
//! A round brings a container into a state, starts both commands with a random delay between them,
//! and waits for them. Then
//! 1. a process of the container that is alive is one of a container that `state` can name, and
//! 2. `delete --force` leaves no process, no cgroup and no directory.
//!
//! What breaks these is counted as a leftover, reported with its round and removed. The test fails
//! if there is one.
//!
//! | variable | meaning |
//! |---|---|
//! | `EMERGENCE_RACE_ROUNDS=N` | rounds of each pair; default 1, and not more than 40 s in all. 200 is the full form |
//! | `EMERGENCE_RACE_SECONDS=N` | as many rounds of each pair as fit into this time (3600: an hour) |
//! | `EMERGENCE_RACE_PAIRS=WORDS` | only pairs that contain these words, such as `create + delete --force` |
//! | `EMERGENCE_RACE_SEED=N` | the delays and the order of an earlier run, which printed it |
//!
//! `EMERGENCE_RACE_SECONDS=3600 nice cargo test --release --locked --test main -- --nocapture
//! pairs::` runs for an hour.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Bundle, Env, Running, on_test_machine};

/// How long the short form may take.
const SHORT: Duration = Duration::from_secs(40);

/// Longest delay between the two commands, in microseconds: about as long as one takes.
const DELAY: u64 = if cfg!(debug_assertions) { 60_000 } else { 15_000 };

/// A container's state before a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Nothing,
    Created,
    Running,
    Paused,
    Stopped,
}

struct Command {
    name: &'static str,
    from: From,
    /// `ID`, `BUNDLE`, `IMAGES` (restored from), `NEW` (dumped to) are replaced.
    words: &'static str,
}

const COMMANDS: [Command; 12] = [
    Command { name: "create", from: From::Nothing, words: "create -b BUNDLE ID" },
    Command { name: "run", from: From::Nothing, words: "run -d -b BUNDLE ID" },
    Command { name: "start", from: From::Created, words: "start ID" },
    Command { name: "exec", from: From::Running, words: "exec -d ID sleep 1000" },
    Command { name: "kill", from: From::Running, words: "kill ID KILL" },
    Command { name: "pause", from: From::Running, words: "pause ID" },
    Command { name: "resume", from: From::Paused, words: "resume ID" },
    Command { name: "update", from: From::Running, words: "update --pids-limit 100 ID" },
    Command { name: "delete", from: From::Stopped, words: "delete ID" },
    Command { name: "delete --force", from: From::Running, words: "delete --force ID" },
    Command { name: "checkpoint", from: From::Running, words: "checkpoint --image-path NEW ID" },
    Command { name: "restore", from: From::Nothing, words: "restore -d -b BUNDLE --image-path IMAGES ID" },
];

/// xorshift64, Marsaglia (2003): anything will do.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: no number")))
}

struct Harness<'a> {
    env: &'a Env,
    bundle: Bundle,
    images: Option<PathBuf>,
    random: Random,
    leftovers: BTreeMap<String, Vec<String>>,
}

impl<'a> Harness<'a> {
    fn new(env: &'a Env, random: Random) -> Self {
        // Nothing of the test's own is open in it, which criu could not restore.
        let bundle = env.script("exec </dev/null >/log 2>&1; exec sleep 1000");
        bundle.write();
        let mut harness = Self { env, bundle, images: None, random, leftovers: BTreeMap::new() };
        if env.program("/bin/sh", &["-c", "criu check"]).run().code == 0 {
            let images = env.dir().join("images");
            env.launch("first", &harness.bundle);
            env.runtime(&["checkpoint", "--image-path", images.to_str().unwrap(), "first"]).ok();
            harness.images = Some(images);
        } else {
            println!("restore is left out: criu is not installed, or does not work with this kernel");
        }
        harness
    }

    fn bring(&self, id: &str, to: From) {
        if to == From::Nothing {
            return;
        }
        self.env.create(id, &self.bundle).ok();
        if to == From::Created {
            return;
        }
        self.env.runtime(&["start", id]).ok();
        match to {
            From::Paused => drop(self.env.runtime(&["pause", id]).ok()),
            From::Stopped => {
                self.env.runtime(&["kill", id, "KILL"]).ok();
                self.env.wait_for(id, "stopped");
            }
            _ => {}
        }
    }

    fn words(&self, command: &Command, id: &str) -> Vec<String> {
        let images = self.images.clone().unwrap_or_default();
        let word = |word: &str| match word {
            "ID" => id.to_owned(),
            "BUNDLE" => self.bundle.str().to_owned(),
            "IMAGES" => images.to_str().unwrap().to_owned(),
            "NEW" => self.env.dir().join("run/new").to_str().unwrap().to_owned(),
            word => word.to_owned(),
        };
        command.words.split(' ').map(word).collect()
    }

    fn round(&mut self, pair: &str, one: &Command, other: &Command) {
        let id = self.env.id();
        let from = if self.random.below(2) == 0 { one.from } else { other.from };
        let (first, second) = if self.random.below(2) == 0 { (one, other) } else { (other, one) };
        let delay = Duration::from_micros(self.random.below(DELAY));
        self.bring(&id, from);
        let start = |command: &Command| {
            let words = self.words(command, &id);
            self.env.call(&words.iter().map(String::as_str).collect::<Vec<_>>()).start()
        };
        let running = start(first);
        std::thread::sleep(delay);
        let running = [running, start(second)];
        if pair.contains("pause") {
            self.resume_until_ended(&id, &running);
        }
        let outputs = running.map(Running::wait);
        let how = format!("{from:?}: {} {delay:?} {}", first.name, second.name);
        let mut left = Vec::new();
        // A killed process takes a moment.
        let end = Instant::now() + Duration::from_secs(5);
        let nameless = || !self.processes().is_empty() && self.env.runtime(&["state", &id]).code != 0;
        while nameless() {
            if Instant::now() > end {
                left.push(format!("processes {:?} that no command can name", self.processes()));
                break;
            }
        }
        let deleted = self.env.runtime(&["delete", "--force", &id]);
        if deleted.code != 0 {
            left.push(format!("delete --force: {}", deleted.stderr));
        }
        let end = Instant::now() + Duration::from_secs(5);
        while !self.left(&id).is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        left.extend(self.left(&id));
        if !left.is_empty() {
            println!("{how}: {left:?}\n{outputs:?}");
            self.leftovers.entry(pair.to_owned()).or_default().push(how);
            self.clean(&id);
        }
        self.tidy();
    }

    /// A process that enters while the container is paused waits for `resume`, and `exec` for the
    /// process.
    fn resume_until_ended(&self, id: &str, running: &[Running]) {
        let ended = |running: &Running| {
            let text = fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap_or_default();
            text.rsplit(") ").next().is_none_or(|rest| rest.starts_with('Z'))
        };
        let end = Instant::now() + Duration::from_secs(10);
        let mut next = Instant::now() + Duration::from_millis(500);
        while Instant::now() < end && !running.iter().all(ended) {
            std::thread::sleep(Duration::from_millis(5));
            if Instant::now() > next {
                let _it_may_be_gone = self.env.runtime(&["resume", id]);
                next = Instant::now() + Duration::from_millis(500);
            }
        }
    }

    /// What is left of a container that is deleted.
    fn left(&self, id: &str) -> Vec<String> {
        let processes = self.processes().into_iter().map(|pid| format!("process {pid}"));
        let cgroups = self.env.cgroups().into_iter().map(|path| format!("cgroup {}", path.display()));
        let directory = self.env.root().join(id);
        let directory = directory.exists().then(|| format!("directory {}", directory.display()));
        processes.chain(cgroups).chain(directory).collect()
    }

    /// The runtime's and the container's processes that are alive.
    fn processes(&self) -> Vec<i32> {
        let mark = self.env.dir().to_str().unwrap();
        let parent = self.env.cgroup_parent();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let ours = |pid: &i32| {
            let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let text = |name: &str| String::from_utf8_lossy(&read(name)).into_owned();
            // A zombie has no command line.
            !text("cmdline").is_empty()
                && (text("cgroup").contains(&parent) || text("cmdline").contains(mark))
        };
        pids.filter(ours).collect()
    }

    fn clean(&self, id: &str) {
        for pid in self.processes() {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(200));
        for cgroup in self.env.cgroups() {
            let _ = fs::remove_dir(cgroup);
        }
        let _ = fs::remove_dir_all(self.env.root().join(id));
    }

    /// The output of the commands, thousands of files in an hour.
    fn tidy(&self) {
        let run = self.env.dir().join("run");
        let _ = fs::remove_dir_all(run.join("new"));
        for entry in fs::read_dir(run).unwrap().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("out-") || name.starts_with("err-") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

#[test]
fn no_event_is_lost_in_a_race() {
    let Some(env) = Env::new() else { return };
    if !env.ours("a promise that the others do not make") {
        return;
    }
    let seed = number("EMERGENCE_RACE_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        now.as_nanos() as u64 | 1
    });
    println!("EMERGENCE_RACE_SEED={seed}");
    let (rounds, seconds) = (number("EMERGENCE_RACE_ROUNDS"), number("EMERGENCE_RACE_SECONDS"));
    let limit = match (rounds, seconds) {
        (_, Some(seconds)) => Some(Duration::from_secs(seconds)),
        (Some(_), None) => None,
        // On the emulated machine the short form would come to a few pairs only.
        (None, None) => Some(if on_test_machine() { SHORT * 3 } else { SHORT }),
    };
    let most = rounds.unwrap_or(if seconds.is_some() { u64::MAX } else { 1 });
    let wanted = std::env::var("EMERGENCE_RACE_PAIRS").unwrap_or_default();
    let mut harness = Harness::new(&env, Random(seed));
    let mut pairs = Vec::new();
    for (at, one) in COMMANDS.iter().enumerate() {
        for other in &COMMANDS[at..] {
            let name = format!("{} + {}", one.name, other.name);
            let can = harness.images.is_some() || (one.name != "restore" && other.name != "restore");
            if can && name.contains(&wanted) {
                pairs.push((name, one, other, 0u64));
            }
        }
    }
    // So that the short form, which may not come to all of them, does not always come to the same
    // ones.
    for at in (1..pairs.len()).rev() {
        let with = harness.random.below(at as u64 + 1) as usize;
        pairs.swap(at, with);
    }
    let begun = Instant::now();
    'all: for _ in 0..most {
        for (name, one, other, done) in &mut pairs {
            if limit.is_some_and(|limit| begun.elapsed() > limit) {
                break 'all;
            }
            harness.round(name, one, other);
            *done += 1;
        }
    }
    pairs.sort_by(|one, other| one.0.cmp(&other.0));
    for (name, _, _, done) in &pairs {
        println!("{name}: {done} rounds, {} leftovers", harness.leftovers.get(name).map_or(0, Vec::len));
    }
    let all: u64 = pairs.iter().map(|(.., done)| done).sum();
    println!("{} pairs, {all} rounds in {:?}", pairs.len(), begun.elapsed());
    assert!(harness.leftovers.is_empty(), "leftovers: {:#?}", harness.leftovers);
}
