//! What a profile says to a call, read rule by rule: the oracle where libseccomp is none.

use emergence_runc::spec::{SeccompArg, SeccompRule};

/// The rule that decides: the first without conditions, else the first that holds. `None`: the default action does.
pub fn rule<'r>(
    rules: impl IntoIterator<Item = &'r SeccompRule>,
    name: &str,
    args: &[u64; 6],
) -> Option<&'r SeccompRule> {
    let named = |rule: &&SeccompRule| rule.names.iter().any(|other| other == name);
    let rules: Vec<&SeccompRule> = rules.into_iter().filter(named).collect();
    let always = rules.iter().find(|rule| rule.args.is_empty());
    always.or_else(|| rules.iter().find(|rule| applies(rule, args))).copied()
}

/// All conditions hold; or any, where two are about one argument.
fn applies(rule: &SeccompRule, args: &[u64; 6]) -> bool {
    let holds = |arg: &SeccompArg| {
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
    };
    let repeats =
        (1..rule.args.len()).any(|at| rule.args[..at].iter().any(|arg| arg.index == rule.args[at].index));
    if repeats { rule.args.iter().any(holds) } else { rule.args.iter().all(holds) }
}
