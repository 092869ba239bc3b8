//! Several rules for one call: which of them decides, as libseccomp has it.
//!
//! The conditions of a rule stand in the order of their arguments, and rules that begin alike share
//! their beginning. That makes a tree, which is asked from the top: the first rule that holds
//! decides. What stands side by side is in the order of [`precedes`], not as written.

use super::emit::LONGEST;
use super::words::{Condition, Operator};

/// A condition and what is asked where it holds.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) condition: Condition,
    /// Asked first.
    pub(super) further: Vec<Branch>,
    /// The answer where nothing further holds; `None`: the branch beside this one is asked.
    pub(super) answer: Option<u32>,
}

/// Adds the rule that answers `action` where all of `conditions` hold, which are in the order of
/// their arguments.
///
/// `wide`: whether arguments have two words. A rule that asks less, or the same, and was written
/// before leaves nothing to it. `None`: more conditions stand side by side than a filter can have
/// instructions.
pub(super) fn add(
    branches: &mut Vec<Branch>,
    conditions: &[Condition],
    action: u32,
    wide: bool,
) -> Option<()> {
    let Some((first, rest)) = conditions.split_first() else { return Some(()) };
    let at = branches.iter().position(|branch| branch.condition == *first).unwrap_or_else(|| {
        let later = branches.iter().position(|branch| precedes(first, &branch.condition, wide));
        let at = later.unwrap_or(branches.len());
        branches.insert(at, Branch { condition: *first, further: Vec::new(), answer: None });
        at
    });
    match branches.get_mut(at) {
        Some(branch) if branch.answer.is_none() => match rest {
            [] => branch.answer = Some(action),
            _ => add(&mut branch.further, rest, action, wide)?,
        },
        _ => {}
    }
    (branches.len() <= LONGEST).then_some(())
}

/// Whether `new` is asked before `other`, which was written earlier: a later argument before an
/// earlier one; values before ranges; a higher value before a lower one, if both look at the high
/// word or neither does.
fn precedes(new: &Condition, other: &Condition, wide: bool) -> bool {
    let is_range = |condition: &Condition| {
        use Operator::{Above, AtLeast, AtMost, Below};
        matches!(condition.operator, Below | AtMost | AtLeast | Above)
    };
    let has_high = |condition: &Condition| wide && condition.mask >> 32 != 0;
    if new.index != other.index {
        return new.index > other.index;
    }
    if is_range(new) != is_range(other) {
        return is_range(other);
    }
    has_high(new) == has_high(other) && new.value > other.value
}
