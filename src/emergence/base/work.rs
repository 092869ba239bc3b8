//! Many pieces of work, a few at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::refusal::{Fault, Result};
use crate::error::{Doing, Error};

/// Runs `work` for 0 to `count` - 1, `jobs` at once. After an error no new piece is started. Of
/// several errors, that of the lowest number is returned.
pub(crate) fn each(jobs: usize, count: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    if jobs <= 1 || count <= 1 {
        return (0..count).try_for_each(work);
    }
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let first: Mutex<Option<(usize, Fault)>> = Mutex::new(None);
    let keep = |at: usize, fault: Fault| {
        stop.store(true, Ordering::Relaxed);
        if let Ok(mut first) = first.lock()
            && first.as_ref().is_none_or(|(earlier, _)| at < *earlier)
        {
            *first = Some((at, fault));
        }
    };
    let run = || {
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                break;
            }
            if let Err(fault) = work(at) {
                keep(at, fault);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.min(count) {
            let started = std::thread::Builder::new().name("job".into()).spawn_scoped(scope, run);
            if let Err(error) = started.doing(|| "start a thread") {
                keep(count, error.into());
                break;
            }
        }
        run();
    });
    match first.into_inner() {
        Ok(None) => Ok(()),
        Ok(Some((_, fault))) => Err(fault),
        Err(_) => Err(Error::from(std::io::Error::other("a thread has ended")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_runs_once_and_the_first_error_is_returned() {
        for jobs in [1, 3, 20] {
            let sum = AtomicUsize::new(0);
            each(jobs, 100, |at| {
                sum.fetch_add(at + 1, Ordering::Relaxed);
                Ok(())
            })
            .unwrap();
            assert_eq!(sum.into_inner(), 5050);
            let fault =
                each(jobs, 100, |at| if at >= 40 { Err(Fault::usage(format!("{at}"))) } else { Ok(()) });
            assert_eq!(fault.unwrap_err().to_string(), "40");
        }
        each(2, 0, |_| Err(Fault::usage("never"))).unwrap();
    }
}
