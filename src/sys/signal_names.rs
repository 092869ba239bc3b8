//! Signals by name and number, signal(7).

/// The first real-time signal for programs; glibc reserves two of the kernel's.
const RTMIN: i32 = 34;
/// The last signal.
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

/// The number of a signal given as a number (0 to 64; 0 only checks that the process exists), or as
/// a name with or without SIG in any case, real-time ones as `RTMIN+3` and `RTMAX-1`. `None`: there
/// is no such signal.
pub fn number(word: &str) -> Option<i32> {
    let upper = word.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    by_number(word)
        .or_else(|| NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number))
        .or_else(|| real_time(name))
}

/// Parses `9`, but not other forms that `str::parse` accepts, such as `+9`.
fn by_number(word: &str) -> Option<i32> {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|number| digits && *number <= RTMAX)
}

/// Parses `RTMIN+n` and `RTMAX-n`.
fn real_time(name: &str) -> Option<i32> {
    let number = if let Some(above) = name.strip_prefix("RTMIN+") {
        RTMIN.checked_add(by_number(above)?)?
    } else {
        RTMAX.checked_sub(by_number(name.strip_prefix("RTMAX-")?)?)?
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}
