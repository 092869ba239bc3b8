//! One call of a program, and what came of it.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Command, Stdio};

/// Seconds until a call that hangs is ended: the longest of them takes ten when the machine is not
/// busy.
const LIMIT: &str = "200";

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Output {
    /// Exit status; 124 when the call hung and was ended.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    words: String,
}

/// Runs a program with an empty standard input.
pub(crate) fn call(program: &str, args: &[&str]) -> Output {
    typed(program, args, "")
}

/// Runs a shell script.
pub(crate) fn shell(script: &str) -> Output {
    call("sh", &["-c", script])
}

/// Runs a command line at a terminal of its own, on which `input` is typed; what the terminal shows
/// is the standard output.
pub(crate) fn terminal(command: &str, input: &str) -> Output {
    typed("script", &["--quiet", "--return", "--command", command, "/dev/null"], input)
}

fn typed(program: &str, args: &[&str], input: &str) -> Output {
    // Files, as what a container's keeper holds open would keep a pipe's reader waiting.
    let file = || tempfile::tempfile().expect("make a temporary file");
    let (mut stdin, mut stdout, mut stderr) = (file(), file(), file());
    stdin.write_all(input.as_bytes()).and_then(|()| stdin.rewind()).expect("write the input");
    let stdio = |file: &File| Stdio::from(file.try_clone().expect("copy a descriptor"));
    let status = Command::new("timeout")
        .args(["--foreground", "--kill-after=5", LIMIT, program])
        .args(args)
        .stdin(stdio(&stdin))
        .stdout(stdio(&stdout))
        .stderr(stdio(&stderr))
        .status()
        .expect("run timeout");
    let text = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("read what was printed");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Output {
        code: status.code().unwrap_or(-1),
        stdout: text(&mut stdout),
        stderr: text(&mut stderr),
        words: format!("{program} {}", args.join(" ")),
    }
}

impl Output {
    /// Asserts success.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// Asserts an exit status.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\nstdout: {}\nstderr: {}", self.words, self.stdout, self.stderr);
        self
    }

    /// Asserts standard output, spaces at both ends aside.
    #[track_caller]
    pub(crate) fn prints(self, want: &str) -> Self {
        assert_eq!(self.text(), want, "{}\nstderr: {}", self.words, self.stderr);
        self
    }

    /// Asserts that standard output contains `words`.
    #[track_caller]
    pub(crate) fn shows(self, words: &str) -> Self {
        assert!(
            self.stdout.contains(words),
            "{}: should show {words:?}\nstdout: {}\nstderr: {}",
            self.words,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Asserts that standard error contains `words`.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "{}: should say {words:?}, says: {}", self.words, self.stderr);
        self
    }

    /// Standard output without spaces at the ends.
    pub(crate) fn text(&self) -> &str {
        self.stdout.trim()
    }
}
