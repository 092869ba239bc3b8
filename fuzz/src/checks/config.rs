//! config.json: a plan, or faults that name their fields.

use emergence_runc::plan::{Plan, StepError};
use emergence_runc::spec;

use super::seccomp::{LONGEST, sound};
use super::{ask, faults, hosts, misread};

pub fn check(bytes: &[u8]) {
    let parsed = spec::parse(bytes);
    surveyed(bytes, parsed.is_ok());
    let spec = match parsed {
        Ok(spec) => spec,
        Err(fault) => return misread(&fault),
    };
    for host in hosts() {
        match Plan::build(&spec, &ask(), &host) {
            Ok(plan) => {
                planned(&plan);
                // What an annotation brings is for the kernel to judge.
                if let (Some(filter), None) =
                    (&plan.seccomp, spec.annotations.get("run.oci.seccomp_bpf_data"))
                {
                    sound(&filter.program);
                }
            }
            Err(found) => faults(&found),
        }
    }
    // What we write, we read again as the same.
    let text = serde_json::to_vec(&spec).expect("it was read from JSON");
    let again = spec::parse(&text).expect("what was written");
    assert_eq!(serde_json::to_vec(&again).expect("the same"), text);
}

/// Who wants to know all faults finds one where others find one, and none elsewhere.
fn surveyed(bytes: &[u8], good: bool) {
    match spec::survey(bytes) {
        Ok(survey) => {
            assert_eq!(survey.faults.is_empty(), good, "{:?}", survey.faults);
            assert!(survey.spec.is_some() || !good);
            for fault in &survey.faults {
                assert!(fault.line > 0 && fault.column > 0, "no place: {fault:?}");
                misread(fault);
            }
        }
        Err(fault) => {
            assert!(!good, "{fault:?}");
            misread(&fault);
        }
    }
}

/// What holds for every plan.
pub fn planned(plan: &Plan) {
    if let Some(filter) = &plan.seccomp {
        assert!((1..=LONGEST).contains(&filter.program.len()));
    }
    for write in &plan.limits.writes {
        assert!(
            !write.file.is_empty() && !write.file.contains('/'),
            "a file of another directory: {write:?}"
        );
    }
    if let Some(process) = &plan.process {
        assert!(process.cwd.as_bytes().starts_with(b"/"));
        drop((process.argv(), process.envp()));
    }
    // The child may name any step and index.
    for number in 0..=u8::MAX {
        for index in [0, 1, u16::MAX] {
            let Some(step) = emergence_runc::plan::Step::from_number(number) else { continue };
            assert!(!StepError { step, index, errno: 1 }.explain(plan).is_empty());
        }
    }
}
