//! Signals by name and number, signal(7).

use crate::error::{Error, Kind, Result};

/// The first real-time signal that programs may use; glibc keeps two of the kernel's for itself.
const RTMIN: i32 = 34;
/// The last signal of all.
const RTMAX: i32 = 64;

const NAMES: [(&str, i32); 36] = [
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("BUS", libc::SIGBUS),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("IO", libc::SIGIO),
    ("IOT", libc::SIGIOT),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("POLL", libc::SIGPOLL),
    ("PROF", libc::SIGPROF),
    ("PWR", libc::SIGPWR),
    ("QUIT", libc::SIGQUIT),
    ("RTMAX", RTMAX),
    ("RTMIN", RTMIN),
    ("SEGV", libc::SIGSEGV),
    ("STKFLT", libc::SIGSTKFLT),
    ("STOP", libc::SIGSTOP),
    ("SYS", libc::SIGSYS),
    ("TERM", libc::SIGTERM),
    ("TRAP", libc::SIGTRAP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("VTALRM", libc::SIGVTALRM),
    ("WINCH", libc::SIGWINCH),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
];

/// The number of a signal given as a number (0 to 64; 0 only asks whether the process is there), or as a name with or
/// without SIG in any case, real-time ones as `RTMIN+3` and `RTMAX-1`.
pub fn parse(word: &str) -> Result<i32> {
    let upper = word.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    by_number(word)
        .or_else(|| NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number))
        .or_else(|| real_time(name))
        .ok_or_else(|| Error::new(Kind::Usage, format!("unknown signal {word:?}")))
}

/// `9`, and not what else `parse` takes, such as `+9`.
fn by_number(word: &str) -> Option<i32> {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|number| digits && *number <= RTMAX)
}

/// `RTMIN+n` and `RTMAX-n`.
fn real_time(name: &str) -> Option<i32> {
    let number = if let Some(above) = name.strip_prefix("RTMIN+") {
        RTMIN.checked_add(by_number(above)?)?
    } else {
        RTMAX.checked_sub(by_number(name.strip_prefix("RTMAX-")?)?)?
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let table = [
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("Hup", 1),
            ("usr1", libc::SIGUSR1),
            ("9", 9),
            ("0", 0),
            ("37", 37),
            ("64", 64),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmin+30", 64),
            ("RTMAX", 64),
            ("SIGRTMAX-1", 63),
            ("RTMAX-30", 34),
        ];
        for (word, want) in table {
            assert_eq!(parse(word).unwrap(), want, "{word}");
        }
        for bad in
            ["", "SIG", "FOO", "-9", "+9", "65", "99999999999", "RTMIN+31", "RTMAX-31", "RTMIN+-1", "RTMIN3"]
        {
            assert_eq!(parse(bad).unwrap_err().to_string(), format!("unknown signal {bad:?}"));
        }
    }
}
