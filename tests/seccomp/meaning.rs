//! What a profile says to a call, read rule by rule: the oracle where libseccomp is none.

use emergence_runc::spec::{SeccompArg, SeccompRule};

/// The rules that hold, one of which must give the answer, in the order they are written: the first
/// that asks nothing alone, else all whose conditions hold. None: the default action answers.
pub(crate) fn holding<'r>(
    rules: impl IntoIterator<Item = &'r SeccompRule>,
    name: &str,
    args: &[u64; 6],
) -> Vec<&'r SeccompRule> {
    let named = |rule: &&SeccompRule| rule.names.iter().any(|other| other == name);
    let rules: Vec<&SeccompRule> = rules.into_iter().filter(named).collect();
    if let Some(always) = rules.iter().find(|rule| alternatives(rule).iter().any(Vec::is_empty)) {
        return vec![always];
    }
    let applies = |rule: &&SeccompRule| {
        alternatives(rule).iter().any(|conditions| conditions.iter().all(|arg| holds(arg, args)))
    };
    rules.into_iter().filter(applies).collect()
}

/// Lists of conditions, of which one must hold: each by itself where two are about one argument,
/// else all together.
fn alternatives(rule: &SeccompRule) -> Vec<Vec<&SeccompArg>> {
    // A mask without bits is no condition.
    let asks = |arg: &&SeccompArg| arg.op != "SCMP_CMP_MASKED_EQ" || arg.value != 0;
    let args = &rule.args;
    let repeats = (1..args.len()).any(|at| args[..at].iter().any(|arg| arg.index == args[at].index));
    match repeats {
        true => args.iter().map(|arg| Some(arg).into_iter().filter(asks).collect()).collect(),
        false => vec![args.iter().filter(asks).collect()],
    }
}

fn holds(arg: &SeccompArg, args: &[u64; 6]) -> bool {
    let is = args[arg.index as usize];
    match arg.op.as_str() {
        "SCMP_CMP_NE" => is != arg.value,
        "SCMP_CMP_LT" => is < arg.value,
        "SCMP_CMP_LE" => is <= arg.value,
        "SCMP_CMP_EQ" => is == arg.value,
        "SCMP_CMP_GE" => is >= arg.value,
        "SCMP_CMP_GT" => is > arg.value,
        _ => is & arg.value == arg.value_two & arg.value,
    }
}
