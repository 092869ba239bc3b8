//! Decides between several rules for one call, as libseccomp does.
//!
//! The conditions of a rule are sorted by argument, and rules with the same first conditions share
//! them. The result is a tree, evaluated from the top: the first rule that holds decides. Siblings
//! are in the order of [`precedes`], not as written.

use super::arch::Arch;
use super::emit::LONGEST;
use super::words::{Condition, Operator};

/// A condition and the decisions if it holds.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) condition: Condition,
    /// Evaluated first.
    pub(super) further: Vec<Branch>,
    /// The answer if no further branch holds; `None`: the next sibling is evaluated.
    pub(super) answer: Option<u32>,
}

/// Adds a rule that answers `action` if all `conditions` hold. They are sorted by argument.
///
/// An earlier rule with the same or fewer conditions makes this one unreachable. `None`: there are
/// more siblings than a filter can have instructions.
pub(super) fn add(
    branches: &mut Vec<Branch>,
    conditions: &[Condition],
    action: u32,
    arch: Arch,
) -> Option<()> {
    let Some((first, rest)) = conditions.split_first() else { return Some(()) };
    let at = branches.iter().position(|branch| branch.condition == *first).unwrap_or_else(|| {
        let later = branches.iter().position(|branch| precedes(first, &branch.condition, arch));
        let at = later.unwrap_or(branches.len());
        branches.insert(at, Branch { condition: *first, further: Vec::new(), answer: None });
        at
    });
    match branches.get_mut(at) {
        Some(branch) if branch.answer.is_none() => match rest {
            [] => branch.answer = Some(action),
            _ => add(&mut branch.further, rest, action, arch)?,
        },
        _ => {}
    }
    (branches.len() <= LONGEST).then_some(())
}

/// Whether `new` is evaluated before `other`, which was written earlier: later arguments before
/// earlier ones, values before ranges, and higher values before lower ones if both or neither use
/// the high word.
fn precedes(new: &Condition, other: &Condition, arch: Arch) -> bool {
    let is_range = |condition: &Condition| {
        use Operator::{Above, AtLeast, AtMost, Below};
        matches!(condition.operator, Below | AtMost | AtLeast | Above)
    };
    let has_high = |condition: &Condition| arch.wide() && condition.mask >> 32 != 0;
    if new.index != other.index {
        return new.index > other.index;
    }
    if is_range(new) != is_range(other) {
        return is_range(other);
    }
    has_high(new) == has_high(other) && new.value > other.value
}
