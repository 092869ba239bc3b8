//! Unsafe code, read in the sources: each piece says why it is sound, and docs/security.md counts
//! them truly. What runs between clone and exec names nothing that takes memory or a lock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One file of src.
struct Source {
    /// Below src.
    path: PathBuf,
    /// The directory below src, or the file's own name.
    room: String,
    /// Its lines as they are, up to its tests.
    text: Vec<String>,
    /// The same without comments and without the content of strings.
    code: Vec<String>,
}

impl Source {
    fn line(&self, at: usize) -> String {
        format!("{}:{}: {}", self.path.display(), at + 1, self.text[at].trim())
    }
}

fn sources() -> Vec<Source> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => walk(&path, found),
                false => found.push(path),
            }
        }
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&top, &mut paths);
    paths.sort();
    let is_code =
        |path: &PathBuf| path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests.rs");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(&top).unwrap().to_owned();
        let first = path.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let text: Vec<String> =
            text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).map(str::to_owned).collect();
        let code = text.iter().map(|line| bare(line)).collect();
        Source { path, room: first.trim_end_matches(".rs").to_owned(), text, code }
    };
    paths.into_iter().filter(is_code).map(read).collect()
}

/// A line without its comment and without what is between quotes.
fn bare(line: &str) -> String {
    let (mut code, mut inside, mut escaped) = (String::new(), false, false);
    let mut before = ' ';
    for c in line.chars() {
        if !inside && before == '/' && c == '/' {
            code.pop();
            break;
        }
        match c {
            '"' if !escaped && before != '\'' => inside = !inside,
            _ if inside => {}
            _ => code.push(c),
        }
        escaped = c == '\\' && !escaped;
        before = c;
    }
    code
}

/// Whether `word` is there as a separate word.
fn names(code: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(part_of_word);
        let after = code[at + word.len()..].chars().next().is_some_and(part_of_word);
        let (first, last) = (word.starts_with(part_of_word), word.ends_with(part_of_word));
        !(before && first || after && last)
    })
}

/// What `unsafe` begins on this line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Block,
    Function,
    Impl,
    /// Of a function that a trait declares unsafe.
    Method,
}

fn kind(source: &Source, at: usize) -> Option<Kind> {
    let code = &source.code[at];
    if !names(code, "unsafe") {
        return None;
    }
    let rest = code.split_once("unsafe").unwrap().1.trim_start();
    // The type of a function pointer, which is called in a block.
    if rest.split_once("fn").is_some_and(|(_, after)| after.starts_with('(')) {
        return None;
    }
    if rest.starts_with("extern") && !names(rest, "fn") {
        return Some(Kind::Block); // declarations
    }
    Some(match rest.split([' ', '{', '<']).next().unwrap() {
        "fn" | "extern" => {
            match source.code[..at].iter().rev().find(|line| line.starts_with("unsafe impl")) {
                Some(_) if code.starts_with(' ') => Kind::Method,
                _ => Kind::Function,
            }
        }
        "impl" => Kind::Impl,
        // An attribute that may break what the linker or the C library relies on.
        "" | "(link_section" => Kind::Block,
        other => panic!("{}: a use of `unsafe` that this test does not know: {other}", source.line(at)),
    })
}

/// The comment above line `at`, or above the first line of the statement that it belongs to.
fn comment(source: &Source, at: usize) -> String {
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    let mut top = at;
    while top > 0 && !is_comment(&source.text[top - 1]) {
        let before = source.code[top - 1].trim_end();
        let attribute = before.trim_start().starts_with("#[");
        if before.is_empty() || (before.ends_with([';', '{', '}']) && !attribute) {
            break;
        }
        top -= 1;
    }
    let lines = source.text[..top].iter().rev().take_while(|line| is_comment(line));
    let mut lines: Vec<&str> = lines.map(|line| line.trim()).collect();
    lines.reverse();
    lines.join("\n")
}

#[test]
fn each_unsafe_block_has_a_safety_line() {
    let mut silent = Vec::new();
    for source in sources() {
        for at in 0..source.code.len() {
            let said = comment(&source, at);
            let good = match kind(&source, at) {
                None | Some(Kind::Method) => true,
                Some(Kind::Function) => said.contains("/// # Safety\n"),
                Some(Kind::Block | Kind::Impl) => said.contains("// SAFETY: "),
            };
            if !good {
                silent.push(source.line(at));
            }
        }
    }
    assert!(silent.is_empty(), "no SAFETY comment immediately before: {silent:#?}");
}

/// Room, blocks, functions, implementations: as the table in docs/security.md has them.
type Table = BTreeMap<String, [usize; 3]>;

fn counted() -> Table {
    let mut table = Table::new();
    for source in sources() {
        for kind in (0..source.code.len()).filter_map(|at| kind(&source, at)) {
            let column = match kind {
                Kind::Block => 0,
                Kind::Function | Kind::Method => 1,
                Kind::Impl => 2,
            };
            table.entry(source.room.clone()).or_default()[column] += 1;
        }
    }
    table
}

/// The rows of the table below the heading "Unsafe code": a room in backticks, then three numbers.
fn documented() -> Table {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md")).unwrap();
    let section = text.split_once("\n## Unsafe code\n").expect("a section \"Unsafe code\"").1;
    let section = section.split("\n## ").next().unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let room = cells.next()?.trim_end_matches('`').to_owned();
        let mut number = || cells.next()?.parse().ok();
        Some((room, [number()?, number()?, number()?]))
    };
    section.lines().filter_map(row).collect()
}

#[test]
fn the_document_counts_truly() {
    assert_eq!(documented(), counted(), "docs/security.md (left) says otherwise than src (right)");
}

#[test]
fn rooms_without_it_forbid_it() {
    let (all, counted) = (sources(), counted());
    let heads = all.iter().filter(|source| {
        source.path.ends_with("mod.rs") && source.path.components().count() == 2
            || source.path == Path::new("error.rs")
    });
    for head in heads {
        let forbids = head.code.iter().any(|line| line == "#![forbid(unsafe_code)]");
        let count = counted.get(&head.room).copied().unwrap_or_default();
        assert_eq!(forbids, count == [0; 3], "{}: {count:?}", head.path.display());
    }
}

/// What takes memory, takes a lock, may have to be made first, panics, or speaks through the C
/// library's buffers.
const FORBIDDEN: [&str; 42] = [
    "Arc",
    "BTreeMap",
    "Box",
    "CString",
    "Cell",
    "Command",
    "HashMap",
    "LazyLock",
    "Mutex",
    "Once",
    "OnceCell",
    "OnceLock",
    "PathBuf",
    "Rc",
    "RefCell",
    "RwLock",
    "String",
    "VecDeque",
    "assert!",
    "assert_eq!",
    "collect",
    "dbg!",
    "eprint!",
    "eprintln!",
    "expect",
    "format!",
    "panic!",
    "print!",
    "println!",
    "std::env",
    "std::fs",
    "std::thread",
    "thread_local!",
    "to_owned",
    "to_string",
    "to_vec",
    "tracing",
    "unreachable!",
    "unwrap",
    "vec!",
    "write!",
    "writeln!",
];

/// Rooms of sys that the runtime alone calls.
const RUNTIME_ONLY: [&str; 10] = [
    "arena",
    "base64",
    "bpf",
    "command",
    "mountinfo",
    "region",
    "remove",
    "signal",
    "signal_names",
    "small_file",
];

/// Functions in the other files of sys that take memory, by the name that callers use; the runtime
/// alone calls them.
const WITH_HEAP: [(&str, &str); 3] =
    [("new", "Pointers::new"), ("connect_unix", "connect_unix"), ("connect_within", "connect_within")];

/// The child's own rooms, and what it calls in sys.
fn of_the_child(source: &Source) -> bool {
    let stem = source.path.file_stem().unwrap().to_string_lossy();
    matches!(source.room.as_str(), "init" | "rootfs")
        || (source.room == "sys" && !RUNTIME_ONLY.contains(&stem.as_ref()))
}

#[test]
fn the_child_names_nothing_that_takes_memory_or_a_lock() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| of_the_child(source)) {
        let mut function = String::new();
        for (at, code) in source.code.iter().enumerate() {
            if let Some((_, name)) = code.split_once("fn ") {
                function = name.split(['(', '<']).next().unwrap().to_owned();
            }
            if source.room == "sys" && WITH_HEAP.iter().any(|(name, _)| *name == function) {
                continue;
            }
            // The type of a member: what the runtime has filled before the clone.
            let member =
                code.starts_with("pub struct ") || (code.ends_with(',') && !code.contains(['=', '(']));
            let tuples = code.trim_start().starts_with("pub joined: Vec<(");
            let list = names(code, "Vec") && !member && !tuples;
            let calls = RUNTIME_ONLY.iter().any(|file| names(code, &format!("sys::{file}")))
                || WITH_HEAP.iter().any(|(_, call)| names(code, call));
            if list || calls || FORBIDDEN.iter().any(|word| names(code, word)) {
                found.push(source.line(at));
            }
        }
    }
    assert!(found.is_empty(), "between clone and exec: {found:#?}");
}

/// Functions of the C library that are one system call, or less: no lock, no buffer, no
/// point of cancellation.
const BARE: [&str; 12] = [
    "_exit",
    "dup2",
    "execve",
    "fcntl",
    "getauxval",
    "getsockopt",
    "ioctl",
    "personality",
    "prctl",
    "setns",
    "syscall",
    "unshare",
];

#[test]
fn the_child_uses_the_c_library_for_system_calls_only() {
    for source in sources().iter().filter(|source| of_the_child(source)) {
        for (at, code) in source.code.iter().enumerate() {
            for (start, _) in code.match_indices("libc::") {
                let name = &code[start + "libc::".len()..];
                let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
                let called = name[end..].starts_with('(') && name.starts_with(|c: char| !c.is_uppercase());
                assert!(!called || BARE.contains(&&name[..end]), "{}", source.line(at));
            }
        }
    }
}

/// What the plan holds is data: reading it cannot wait for anybody.
#[test]
fn the_plan_has_no_lock() {
    const LOCKS: [&str; 9] =
        ["Cell", "LazyCell", "LazyLock", "Mutex", "Once", "OnceCell", "OnceLock", "RwLock", "thread_local!"];
    for source in sources().iter().filter(|source| source.room == "plan") {
        for (at, code) in source.code.iter().enumerate() {
            assert!(!LOCKS.iter().any(|word| names(code, word)), "{}", source.line(at));
        }
    }
}

#[test]
fn the_reader_of_sources_reads() {
    assert_eq!(bare(r#"let a = "unsafe // x"; // unsafe"#), "let a = ; ");
    assert_eq!(bare(r#"let a = "\"unsafe"; b"#), "let a = ; b");
    assert!(names("unsafe {", "unsafe") && !names("unsafe_annotations", "unsafe"));
    assert!(names("x = format!(a)", "format!") && !names("reformat!(a)", "format!"));
    let text = ["// SAFETY: why", "let x =", "    unsafe { f() };", "let y = 1;", "unsafe { g() };"];
    let text: Vec<String> = text.map(str::to_owned).into();
    let source = Source {
        path: "a.rs".into(),
        room: "a".into(),
        code: text.iter().map(|line| bare(line)).collect(),
        text,
    };
    assert_eq!(comment(&source, 2), "// SAFETY: why");
    assert_eq!(comment(&source, 4), "");
    assert_eq!((kind(&source, 2), kind(&source, 1)), (Some(Kind::Block), None));
}
