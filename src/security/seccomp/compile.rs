//! Compiles a profile to a decision graph: architecture, then call number, then arguments.

use super::SockFilter;
use super::arch::{Arch, X32_BIT};
use super::choice::{self, Branch};
use super::emit::{Graph, Id, Test};
use super::syscalls::Name;
use super::words::{self, Condition, Operator, Profile, Rule};

/// Offsets in `struct seccomp_data`, seccomp(2).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// Approximate number of multiplexed calls.
const CARRIED: usize = 32;

/// The program; `None` if it would exceed the kernel's limit.
pub(super) fn program(profile: &Profile) -> Option<Vec<SockFilter>> {
    let mut graph = Graph::default();
    let mut root = graph.answer(words::KILL);
    let numbered = |arch: &&Arch| **arch != Arch::X32 || profile.architectures.first() == Some(&Arch::X32);
    // The native architecture is tested first, so it is built last.
    for arch in profile.architectures.iter().filter(numbered).rev() {
        let calls = ranges(&mut graph, profile, *arch)?;
        let tree = tree(&mut graph, &calls);
        let tree = graph.load(NUMBER, tree);
        root = graph.choose(Test::Equal, arch.audit(), tree, root);
    }
    let root = graph.load(ARCHITECTURE, root);
    graph.assemble(root)
}

/// The outcome from a call number on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    then: Id,
}

/// The whole range of call numbers of the processes that share `arch`'s audit number.
fn ranges(graph: &mut Graph, profile: &Profile, arch: Arch) -> Option<Vec<Range>> {
    let mut list = Ranges(Vec::new());
    let has = |arch| profile.architectures.contains(&arch);
    if !matches!(arch, Arch::X86_64 | Arch::X32) {
        list.calls(graph, profile, arch)?;
        return Some(list.0);
    }
    let killed = graph.answer(words::KILL);
    let default = graph.answer(profile.default);
    if has(Arch::X86_64) {
        list.calls(graph, profile, Arch::X86_64)?;
    } else {
        list.from(0, killed);
    }
    if has(Arch::X32) {
        list.calls(graph, profile, Arch::X32)?;
    } else {
        list.from(X32_BIT, killed);
        // A tracer sets the number to -1 to skip a call.
        list.from(u32::MAX, default);
    }
    Some(list.0)
}

struct Ranges(Vec<Range>);

impl Ranges {
    /// Sets the outcome from `first` on; adjacent ranges with the same outcome are merged.
    fn from(&mut self, first: u32, then: Id) {
        if self.0.last().is_some_and(|last| last.first == first) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|last| last.then != then) {
            self.0.push(Range { first, then });
        }
    }

    /// Adds the calls of one architecture, and the ranges between and after them.
    fn calls(&mut self, graph: &mut Graph, profile: &Profile, arch: Arch) -> Option<()> {
        let base = if arch == Arch::X32 { X32_BIT } else { 0 };
        let default = graph.answer(profile.default);
        self.from(base, default);
        let rules = numbered_rules(profile, arch);
        for call in rules.chunk_by(|one, other| one.number == other.number) {
            let Some(first) = call.first() else { continue };
            let then = outcome(graph, arch, call, default)?;
            if graph.too_long() {
                return None;
            }
            self.from(first.number, then);
            self.from(first.number + 1, default);
        }
        if profile.hides_new_calls()
            && let Some(newest) = newest(profile, arch)
        {
            let hidden = graph.answer(words::NO_SUCH_CALL);
            self.hide_after(newest, hidden, default);
            if arch == Arch::S390x {
                self.hide_first(hidden);
            }
        }
        Some(())
    }

    /// Sets the outcome of call 0 to `hidden`. On s390x, a filter sees a number unknown to the
    /// kernel as 0, and call 0, setup(2), no longer exists. runc does the same since 1.1.3.
    fn hide_first(&mut self, hidden: Id) {
        let Some(first) = self.0.first_mut() else { return };
        let then = std::mem::replace(&mut first.then, hidden);
        if self.0.get(1).is_none_or(|second| second.first > 1) {
            self.0.insert(1, Range { first: 1, then });
        }
    }

    /// Replaces `default` by `hidden` after the call `newest`.
    fn hide_after(&mut self, newest: u32, hidden: Id, default: Id) {
        let from = self.0.partition_point(|range| range.first <= newest);
        let later = self.0.split_off(from);
        let open = self.0.last().is_some_and(|last| last.then == default);
        if open || later.is_empty() {
            self.from(newest + 1, hidden);
        }
        for range in later {
            self.from(range.first, if range.then == default { hidden } else { range.then });
        }
    }
}

/// The highest number of the calls that the profile names.
fn newest(profile: &Profile, arch: Arch) -> Option<u32> {
    let number = |name: &Name| arch.number(*name).filter(|number| arch.counts_as_newest(*number));
    profile.named.iter().filter_map(number).max()
}

/// A rule for one call number of one architecture.
#[derive(Clone, Copy, Debug)]
struct Numbered<'a> {
    number: u32,
    rule: &'a Rule,
    /// The value of the first argument for a multiplexed call.
    inner: Option<u64>,
}

impl Numbered<'_> {
    fn always_holds(&self) -> bool {
        self.inner.is_none() && self.rule.conditions.is_empty()
    }

    /// The conditions, as libseccomp computes them: the number of a multiplexed call replaces
    /// conditions on the first argument. The other arguments of the inner call are in memory, where
    /// a filter cannot read them, yet conditions on them are kept.
    fn conditions(&self) -> Vec<Condition> {
        let inner =
            self.inner.map(|value| Condition { index: 0, operator: Operator::Equal, mask: u64::MAX, value });
        let own = self.rule.conditions.iter().copied();
        inner.into_iter().chain(own.filter(|condition| inner.is_none() || condition.index != 0)).collect()
    }
}

/// The rules by number, and for one number in the order written.
fn numbered_rules(profile: &Profile, arch: Arch) -> Vec<Numbered<'_>> {
    let mut list = Vec::with_capacity(profile.rules.len() + CARRIED);
    for rule in &profile.rules {
        if let Some(number) = arch.number(rule.name) {
            list.push(Numbered { number, rule, inner: None });
        }
        if let Some((number, inner)) = arch.carrier(rule.name) {
            list.push(Numbered { number, rule, inner: Some(inner) });
        }
    }
    // Each number with the rule's position, as one integer: that is faster than a stable sort.
    let mut order: Vec<u64> =
        (0..).zip(&list).map(|(at, rule): (u64, _)| u64::from(rule.number) << 32 | at).collect();
    order.sort_unstable();
    order.iter().filter_map(|key| list.get(*key as u32 as usize).copied()).collect()
}

/// The outcome of one call; `None` if it exceeds a filter. The first rule without conditions
/// decides, as in libseccomp; otherwise the rule that [`choice`] selects.
fn outcome(graph: &mut Graph, arch: Arch, rules: &[Numbered], default: Id) -> Option<Id> {
    if let Some(always) = rules.iter().find(|numbered| numbered.always_holds()) {
        return Some(graph.answer(always.rule.action));
    }
    let mut branches = Vec::new();
    for numbered in rules {
        choice::add(&mut branches, &numbered.conditions(), numbered.rule.action, arch)?;
    }
    Some(ask(graph, arch, &branches, default))
}

/// Evaluates `branches` in order; goes to `none` if no rule holds.
fn ask(graph: &mut Graph, arch: Arch, branches: &[Branch], none: Id) -> Id {
    let runs: Vec<&[Branch]> =
        branches.chunk_by(|one, next| excludes(&one.condition, &next.condition)).collect();
    runs.into_iter().rev().fold(none, |beside, run| match run {
        [branch] => {
            let then = outcome_of(graph, arch, branch, beside);
            holds(graph, arch, &branch.condition, then, beside)
        }
        _ => select(graph, arch, run, beside),
    })
}

/// The outcome of a branch whose condition holds; `beside` if it has no answer.
fn outcome_of(graph: &mut Graph, arch: Arch, branch: &Branch, beside: Id) -> Id {
    let answer = branch.answer.map_or(beside, |action| graph.answer(action));
    ask(graph, arch, &branch.further, answer)
}

/// Whether two different conditions compare the same bits of an argument for equality. At most one
/// of them can hold, so their order does not matter.
fn excludes(one: &Condition, other: &Condition) -> bool {
    matches!(one.operator, Operator::Equal | Operator::MaskedEqual)
        && (one.operator, one.index, one.mask) == (other.operator, other.index, other.mask)
}

/// Selects among mutually exclusive `branches`: by the high word, then by the low word, each read
/// once.
fn select(graph: &mut Graph, arch: Arch, branches: &[Branch], none: Id) -> Id {
    let Some(Condition { index, mask, .. }) = branches.first().map(|branch| branch.condition) else {
        return none;
    };
    let mut cases: Vec<(u64, Id)> = Vec::with_capacity(branches.len());
    for branch in branches {
        let value = branch.condition.value & mask;
        // A 32-bit argument never equals a larger value.
        if arch.wide() || value >> 32 == 0 {
            cases.push((value, outcome_of(graph, arch, branch, none)));
        }
    }
    cases.sort_unstable_by_key(|(value, _)| *value);
    let (low_at, high_at) = arch.argument(index);
    let (low_mask, high_mask) = halves(mask);
    let mut by_high: Vec<(u32, Id)> = Vec::new();
    for alike in cases.chunk_by(|(one, _), (next, _)| one >> 32 == next >> 32) {
        let lows: Vec<(u32, Id)> = alike.iter().map(|(value, then)| (halves(*value).0, *then)).collect();
        let low = match lows.as_slice() {
            [(_, then)] if low_mask == 0 => *then,
            _ => word(graph, low_at, low_mask, |graph| among(graph, &lows, none)),
        };
        by_high.extend(alike.first().map(|(value, _)| (halves(*value).1, low)));
    }
    match by_high.as_slice() {
        [] => none,
        [(_, low)] if !arch.wide() || high_mask == 0 => *low,
        _ => word(graph, high_at, high_mask, |graph| among(graph, &by_high, none)),
    }
}

/// The outcome for the value in the accumulator: one of `cases`, which are ascending, or `none`.
fn among(graph: &mut Graph, cases: &[(u32, Id)], none: Id) -> Id {
    /// Values compared one by one in a leaf of the tree: a quarter of the order comparisons, for
    /// two more steps.
    const SINGLES: usize = 4;
    let mut ranges = Ranges(Vec::with_capacity(2 * cases.len() + 1));
    ranges.from(0, none);
    for (value, then) in cases {
        ranges.from(*value, *then);
        if let Some(next) = value.checked_add(1) {
            ranges.from(next, none);
        }
    }
    search(graph, &leaves(&ranges.0, SINGLES))
}

/// Goes to `yes` if `condition` holds, otherwise to `no`.
fn holds(graph: &mut Graph, arch: Arch, condition: &Condition, yes: Id, no: Id) -> Id {
    let (test, yes, no) = match condition.operator {
        Operator::Equal | Operator::MaskedEqual => (Test::Equal, yes, no),
        Operator::NotEqual => (Test::Equal, no, yes),
        Operator::AtLeast => (Test::AtLeast, yes, no),
        Operator::Below => (Test::AtLeast, no, yes),
        Operator::Above => (Test::Above, yes, no),
        Operator::AtMost => (Test::Above, no, yes),
    };
    let (low_at, high_at) = arch.argument(condition.index);
    let (low_mask, high_mask) = halves(condition.mask);
    let (low, high) = halves(condition.value & condition.mask);
    // A word whose mask is 0 would compare 0 with 0.
    let low = if low_mask == 0 {
        yes
    } else {
        word(graph, low_at, low_mask, |graph| graph.choose(test, low, yes, no))
    };
    if !arch.wide() {
        // A 32-bit argument never equals a larger value.
        return if high == 0 { low } else { no };
    }
    if high_mask == 0 {
        return low;
    }
    word(graph, high_at, high_mask, |graph| {
        let equal = graph.choose(Test::Equal, high, low, no);
        if test == Test::Equal { equal } else { graph.choose(Test::Above, high, yes, equal) }
    })
}

/// Reads one word and decides on the bits in `mask`.
fn word(graph: &mut Graph, offset: u32, mask: u32, decide: impl FnOnce(&mut Graph) -> Id) -> Id {
    let decided = decide(graph);
    let masked = graph.and(mask, decided);
    graph.load(offset, masked)
}

fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

/// A search for the range of the number in the accumulator.
fn tree(graph: &mut Graph, ranges: &[Range]) -> Id {
    // One single number per leaf: every call takes this path, so it should be short.
    let leaves = leaves(ranges, 1);
    search(graph, &leaves)
}

/// Ranges decided together: `rest`, except for single numbers.
#[derive(Clone, Copy)]
struct Leaf<'a> {
    first: u32,
    rest: Id,
    /// Pairs of ranges: one of a single number, and one of `rest` after it.
    singles: &'a [Range],
}

/// Merges up to `most` single numbers between ranges with the same outcome into one leaf with
/// these; each takes one comparison.
fn leaves(ranges: &[Range], most: usize) -> Vec<Leaf<'_>> {
    let mut list = Vec::with_capacity(ranges.len());
    let mut left = ranges;
    while let Some((range, following)) = left.split_first() {
        let (pairs, _) = following.as_chunks::<2>();
        let is_single =
            |[lone, after]: &&[Range; 2]| after.then == range.then && after.first == lone.first + 1;
        let count = 2 * pairs.iter().take(most).take_while(is_single).count();
        let (singles, rest) = following.split_at(count);
        left = rest;
        list.push(Leaf { first: range.first, rest: range.then, singles });
    }
    list
}

fn search(graph: &mut Graph, leaves: &[Leaf]) -> Id {
    match leaves {
        [] => graph.answer(words::KILL),
        [leaf] => leaf
            .singles
            .iter()
            .step_by(2)
            .rev()
            .fold(leaf.rest, |rest, lone| graph.choose(Test::Equal, lone.first, lone.then, rest)),
        _ => {
            let (lower, upper) = leaves.split_at(leaves.len() / 2);
            let bound = upper.first().map_or(0, |leaf| leaf.first);
            let lower = search(graph, lower);
            let upper = search(graph, upper);
            graph.choose(Test::AtLeast, bound, upper, lower)
        }
    }
}
