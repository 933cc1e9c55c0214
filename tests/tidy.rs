//! The rules of this codebase that a machine can check, as a test over the text of `src/`.
//!
//! Contract: every fault is named with file, line, the rule and what to do instead; all faults are shown at once.
//! The rules: a module uses only modules of a lower rank; every file opens with a `//!` header; only the spool makes a
//! receipt; no unfinished code; no tokio in `smtp`; time comes from `clock`; no file is longer than 600 lines and no
//! function longer than 100; no file has a name that says nothing.
//! Test code is held to the same order, unless its line ends with a mark: `// tidy: <why>`.
//! Invariants: each rule has a sample that breaks it (at the end), so that a rule that never fires is noticed.
//! Not here: what clippy, rustfmt and the compiler already refuse.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Who may know whom: a module uses only modules of a lower rank, and never a sibling.
const RANKS: &[(&str, u8)] = &[
    ("clock", 0),
    ("mail", 0),
    ("packed", 0),
    ("smtp", 1),
    ("spool", 1),
    ("net", 1),
    ("tracking", 1),
    ("queue", 2),
    ("route", 2),
    ("accept", 3),
    ("deliver", 3),
    ("notice", 3),
    ("relay", 4),
    ("config", 5),
    ("submission", 5),
    ("admin", 6),
    ("lab", 6),
    ("pickup", 6),
    ("mailin", 6),
];

/// Names under which anything could stand.
const EMPTY_NAMES: &[&str] =
    &["utils", "util", "helpers", "common", "types", "misc", "manager", "core", "imp", "handler", "base"];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 100;

/// Words that may not stand in code, where, and what to do instead.
struct Ban {
    words: &'static str,
    applies: fn(&Source) -> bool,
    in_tests: bool,
    instead: &'static str,
}

const BANS: &[Ban] = &[
    Ban { words: "todo!", applies: everywhere, in_tests: true, instead: "unfinished code does not get in" },
    Ban {
        words: "unimplemented!",
        applies: everywhere,
        in_tests: true,
        instead: "unfinished code does not get in",
    },
    Ban { words: "dbg!", applies: everywhere, in_tests: true, instead: "use tracing, or remove it" },
    Ban {
        words: "Receipt::of_commit(",
        applies: |source| source.module != "spool",
        in_tests: false,
        instead: "only a commit of the spool makes a receipt, and only a receipt permits a 250",
    },
    Ban {
        words: "tokio",
        applies: |source| source.module == "smtp",
        in_tests: true,
        instead: "the dialogues are machines: bytes in, steps out; drive them from accept and deliver",
    },
    Ban {
        words: "Instant::now",
        // Where bytes are sent and received, deadlines are in real time; clippy.toml refuses std's Instant there too.
        // A connection and a disk live in real time, whatever the relay's clock says.
        applies: |source| {
            !matches!(source.module, "clock" | "net" | "accept" | "deliver")
                && !source.path.ends_with("spool/committer.rs")
        },
        in_tests: true,
        instead: "time comes from clock::Clock",
    },
    Ban {
        words: "SystemTime::now",
        applies: |source| source.module != "clock",
        in_tests: true,
        instead: "time comes from clock::Clock",
    },
];

fn everywhere(_: &Source) -> bool {
    true
}

/// One file of `src/`.
struct Source<'a> {
    /// With `/`, beginning with `src/`.
    path: &'a str,
    text: &'a str,
    /// The text with comments and literals blanked out: same length, same lines.
    code: String,
    /// The first part of the path below `src/`: `queue` for `src/queue/intake.rs`.
    module: &'a str,
    /// The bytes of `code` that are compiled only for tests.
    tests: Vec<Range<usize>>,
}

impl<'a> Source<'a> {
    fn new(path: &'a str, text: &'a str) -> Self {
        let code = blank(text);
        let below = path.strip_prefix("src/").expect("only files of src are read");
        let module = below.split('/').next().unwrap_or(below).trim_end_matches(".rs");
        let is_test_file = path.ends_with("/tests.rs") || below.contains("/tests/");
        let tests = if is_test_file { std::iter::once(0..code.len()).collect() } else { test_items(&code) };
        Self { path, text, code, module, tests }
    }

    fn is_program(&self) -> bool {
        matches!(self.module, "main" | "bin")
    }

    fn in_tests(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }

    /// A line of test code that says why it may.
    fn is_marked(&self, at: usize) -> bool {
        let line = self.text[..at].bytes().filter(|&byte| byte == b'\n').count();
        let mark = self.text.lines().nth(line).and_then(|line| line.split_once("// tidy:"));
        self.in_tests(at) && mark.is_some_and(|(_, why)| !why.trim().is_empty())
    }

    fn fault(&self, at: usize, what: String) -> String {
        let line = self.text[..at].bytes().filter(|&byte| byte == b'\n').count() + 1;
        format!("{}:{line}: {what}", self.path)
    }

    /// The names of modules from the root of the crate down to this file: `[queue, intake]`.
    fn depth(&self) -> usize {
        let below = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        match below {
            "lib" | "main" => 0,
            _ => below.split('/').filter(|&part| part != "mod").count(),
        }
    }
}

fn faults(path: &str, text: &str) -> Vec<String> {
    let source = Source::new(path, text);
    let rules: &[fn(&Source) -> Vec<String>] = &[order, header, bans, lengths, names];
    rules.iter().flat_map(|rule| rule(&source)).collect()
}

fn rank(module: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == module).map(|(_, rank)| *rank)
}

/// A module uses only modules of a lower rank.
fn order(source: &Source) -> Vec<String> {
    // The root declares everybody; the program sees only what is public, which the compiler keeps.
    if source.module == "lib" || source.is_program() {
        return Vec::new();
    }
    let Some(own) = rank(source.module) else {
        return vec![source.fault(0, format!("the module {} has no rank: DESIGN section 2", source.module))];
    };
    let mut faults = Vec::new();
    for (at, used) in top_level_uses(source) {
        let allowed = used == source.module || rank(&used).is_none_or(|other| other < own);
        if !allowed && !source.is_marked(at) {
            let (module, other) = (source.module, rank(&used).unwrap_or_default());
            faults.push(source.fault(
                at,
                format!("{module} (rank {own}) uses {used} (rank {other}): a module uses only lower ranks"),
            ));
        }
    }
    faults
}

/// Every name that follows a path to the root of the crate, with where it stands.
fn top_level_uses(source: &Source) -> Vec<(usize, String)> {
    let code = &source.code;
    let mut found = Vec::new();
    for at in words(code, "crate::") {
        names_after(code, at + "crate::".len(), &mut found);
    }
    for at in words(code, "super::") {
        if code[..at].ends_with("super::") {
            continue;
        }
        let steps = code[at..].split("::").take_while(|part| *part == "super").count();
        if steps >= source.depth() + inline_modules(code, at) {
            names_after(code, at + steps * "super::".len(), &mut found);
        }
    }
    found
}

/// `a`, or `a` and `b` of `{a::x, b}`.
fn names_after(code: &str, start: usize, found: &mut Vec<(usize, String)>) {
    let name_at = |at: usize| {
        let rest = &code[at..];
        let at = at + (rest.len() - rest.trim_start().len());
        let name: String = code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        (at, name)
    };
    if !code[start..].starts_with('{') {
        found.push(name_at(start));
        return;
    }
    let end = closing(code, start);
    found.push(name_at(start + 1));
    let mut depth = 0;
    for (at, character) in code[start + 1..end].char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => found.push(name_at(start + 1 + at + 1)),
            _ => {}
        }
    }
    found.retain(|(_, name)| !name.is_empty());
}

/// How many `mod name { ... }` of this file enclose a place.
fn inline_modules(code: &str, place: usize) -> usize {
    words(code, "mod ")
        .filter(|&at| {
            let open = code[at..].find(['{', ';']).map(|offset| at + offset);
            open.is_some_and(|open| {
                code[open..].starts_with('{') && (open..closing(code, open)).contains(&place)
            })
        })
        .count()
}

fn header(source: &Source) -> Vec<String> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![
        source.fault(0, "opens with no `//!` header: purpose, contract, invariants, what is not here".into()),
    ]
}

fn bans(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for ban in BANS.iter().filter(|ban| (ban.applies)(source)) {
        for at in words(&source.code, ban.words) {
            if source.in_tests(at) && (!ban.in_tests || source.is_marked(at)) {
                continue;
            }
            faults.push(source.fault(at, format!("`{}`: {}", ban.words, ban.instead)));
        }
    }
    faults
}

fn lengths(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        faults.push(source.fault(0, format!("{lines} lines; at most {FILE_LINES_MAX}: one noun per file")));
    }
    for at in words(&source.code, "fn ") {
        let Some(open) = source.code[at..].find(['{', ';']).map(|offset| at + offset) else { continue };
        // A declaration in a trait, or a function type.
        if source.code[open..].starts_with(';') {
            continue;
        }
        let lines = source.code[at..closing(&source.code, open)].matches('\n').count() + 1;
        if lines > FUNCTION_LINES_MAX {
            faults
                .push(source.fault(at, format!("a function of {lines} lines; at most {FUNCTION_LINES_MAX}")));
        }
    }
    faults
}

fn names(source: &Source) -> Vec<String> {
    let parts = source.path.trim_end_matches(".rs").split('/');
    parts
        .filter(|part| EMPTY_NAMES.contains(part))
        .map(|part| source.fault(0, format!("the name `{part}` says nothing: name the noun that is in it")))
        .collect()
}

/// Where `wanted` begins in `code`, not in the midst of a longer name.
fn words<'a>(code: &'a str, wanted: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(wanted).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|character| character.is_alphanumeric() || character == '_')
    })
}

/// The end of the braces that open at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (offset, byte) in code[open..].bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + offset;
        }
    }
    code.len()
}

/// What stands under `#[cfg(test)]`: up to the end of the item's braces, or to its semicolon.
fn test_items(code: &str) -> Vec<Range<usize>> {
    code.match_indices("#[cfg(test)]")
        .map(|(at, _)| match code[at..].find(['{', ';']).map(|offset| at + offset) {
            Some(open) if code[open..].starts_with('{') => at..closing(code, open),
            Some(end) => at..end,
            None => at..code.len(),
        })
        .collect()
}

/// The text with every character of comments, strings and character literals replaced by a space.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("literals and comments are blanked as a whole")
}

/// The end of the comment or literal that begins at `at`; `at` when none does.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let in_name = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return find(rest, b"*/").map_or(bytes.len(), |offset| at + offset + 2);
    }
    if rest[0] == b'"' {
        return quoted_end(bytes, at + 1, b'"');
    }
    if !in_name && matches!(rest[0], b'r' | b'b') {
        let letters = rest.iter().take_while(|byte| matches!(byte, b'r' | b'b')).count();
        let hashes = rest[letters..].iter().take_while(|&&byte| byte == b'#').count();
        if rest[..letters].contains(&b'r') && rest.get(letters + hashes) == Some(&b'"') {
            let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            let body = at + letters + hashes + 1;
            return find(&bytes[body..], &end).map_or(bytes.len(), |offset| body + offset + end.len());
        }
    }
    // A character, not a lifetime: 'x', '\n', 'é'.
    if rest[0] == b'\'' && rest.len() > 2 {
        let one = std::str::from_utf8(&rest[1..rest.len().min(5)]).unwrap_or_else(|error| {
            std::str::from_utf8(&rest[1..1 + error.valid_up_to()]).unwrap_or_default()
        });
        let width = one.chars().next().map_or(1, char::len_utf8);
        if rest[1] == b'\\' || rest.get(1 + width) == Some(&b'\'') {
            return quoted_end(bytes, at + 1, b'\'');
        }
    }
    at
}

/// Behind the quote that ends the literal whose inside begins at `at`.
fn quoted_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Every file below `folder`, as (path from the package, text).
fn sources(folder: &Path, path: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("src should be readable") {
        let entry = entry.expect("its entries too");
        let path = format!("{path}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("a type of file").is_dir() {
            sources(&entry.path(), &path, found);
        } else if path.ends_with(".rs") {
            found.push((path, fs::read_to_string(entry.path()).expect("a source is UTF-8")));
        }
    }
}

#[test]
fn the_sources_keep_the_rules() {
    let mut found = Vec::new();
    // TIDY_ROOT: another tree to look at, such as a colleague's.
    let root = std::env::var("TIDY_ROOT").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    sources(&Path::new(&root).join("src"), "src", &mut found);
    found.sort();
    assert!(found.len() > 5, "the sources were not found");
    let all: Vec<String> = found.iter().flat_map(|(path, text)| faults(path, text)).collect();
    assert!(all.is_empty(), "{} faults:\n{}", all.len(), all.join("\n"));
}

/// Cargo refuses a manifest of which one named file is missing, and the image is built from what `.dockerignore` lets in.
#[test]
fn the_image_is_built_with_every_file_that_the_manifest_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name| fs::read_to_string(root.join(name)).expect("the repository has it");
    let (manifest, ignored) = (read("Cargo.toml"), read(".dockerignore"));
    let let_in: Vec<&Path> =
        ignored.lines().filter_map(|line| line.strip_prefix('!')).map(Path::new).collect();
    let mut section = "";
    let mut named = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let folder = match section {
            "[[example]]" => "examples",
            "[[test]]" => "tests",
            "[[bench]]" => "benches",
            _ => continue,
        };
        if let Some(name) = line.strip_prefix("name = ") {
            named.push(Path::new(folder).join(format!("{}.rs", name.trim_matches('"'))));
        }
    }
    assert!(named.len() > 3, "the targets were not found: {named:?}");
    let missing = named.iter().filter(|file| !let_in.iter().any(|part| file.starts_with(part)));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&PathBuf>::new(), "add them to .dockerignore");
}

/// Asserts that this text, as that file, has exactly the faults that contain these fragments.
#[track_caller]
fn has(path: &str, text: &str, expected: &[&str]) {
    let text = if text.starts_with("//!") { text.to_owned() } else { format!("//! A sample.\n{text}") };
    let found = faults(path, &text);
    assert_eq!(found.len(), expected.len(), "{text}\n{found:?}");
    for (fault, fragment) in found.iter().zip(expected) {
        assert!(fault.contains(fragment), "{fault:?} should say {fragment:?}");
    }
}

#[test]
fn a_use_of_a_higher_rank_or_of_a_sibling_is_a_fault() {
    has("src/spool/log.rs", "use crate::queue::Queue;", &["spool (rank 1) uses queue (rank 2)"]);
    has("src/spool/log.rs", "use crate::{mail, net::Stream};", &["uses net"]);
    has(
        "src/spool/log.rs",
        "use crate::{\n    clock::{Clock, Timestamp},\n    smtp,\n};",
        &["src/spool/log.rs:4: "],
    );
    has("src/queue/mod.rs", "fn f() { crate::route::plan() }", &["uses route"]);
    has("src/queue/mod.rs", "use super::route;", &["uses route"]);
    has("src/queue/lease.rs", "use super::super::relay::Relay;", &["uses relay"]);
    has("src/queue/mod.rs", "mod a { use super::super::config; }", &["uses config"]);
    has("src/mail/mod.rs", "use crate::clock::Clock;", &["mail (rank 0) uses clock (rank 0)"]);
    has("src/queue/tests.rs", "use crate::deliver;", &["uses deliver"]);
    has("src/sundries/mod.rs", "", &["has no rank"]);
}

#[test]
fn a_use_of_a_lower_rank_or_of_itself_is_none() {
    has("src/queue/lease.rs", "use crate::{clock::Clock, mail, queue::Line};\nuse super::route;", &[]);
    has("src/lib.rs", "pub mod relay;\npub use crate::relay::Relay;", &[]);
    has("src/main.rs", "use posthouse::Relay;", &[]);
    has("src/spool/log.rs", "// crate::queue\nconst A: &str = \"crate::queue\";\nconst Q: char = '\"';", &[]);
    has("src/spool/log.rs", "#[cfg(test)]\nmod tests {\n    use crate::net; // tidy: a real socket\n}", &[]);
}

#[test]
fn a_mark_without_a_reason_or_outside_of_tests_does_not_help() {
    has("src/spool/log.rs", "use crate::net; // tidy: I may", &["uses net"]);
    has("src/spool/log.rs", "#[cfg(test)]\nmod tests {\n    use crate::net; // tidy:\n}", &["uses net"]);
}

#[test]
fn a_file_without_a_header_is_a_fault() {
    assert!(faults("src/mail/id.rs", "use std::fmt;\n")[0].contains("header"));
}

#[test]
fn a_receipt_made_outside_of_the_spool_is_a_fault() {
    let makes = "fn f() { let receipt = Receipt::of_commit(id); }";
    has("src/accept/session.rs", makes, &["only a commit of the spool"]);
    has("src/spool/log.rs", makes, &[]);
    has("src/accept/session.rs", &format!("#[cfg(test)]\nmod tests {{\n{makes}\n}}"), &[]);
}

#[test]
fn unfinished_code_is_a_fault() {
    has("src/mail/id.rs", "fn f() { todo!() }", &["todo!"]);
    has("src/mail/id.rs", "fn f() { unimplemented!() }", &["unimplemented!"]);
    has("src/mail/tests.rs", "fn f() { dbg!(1); }", &["dbg!"]);
}

#[test]
fn tokio_in_smtp_and_time_outside_of_clock_are_faults() {
    has("src/smtp/server.rs", "use tokio::io;", &["machines"]);
    has("src/net/mod.rs", "use tokio::io;", &[]);
    has("src/queue/mod.rs", "fn f() { tokio::time::Instant::now(); }", &["clock::Clock"]);
    has("src/net/mod.rs", "fn f() { tokio::time::Instant::now(); }", &[]);
    has("src/net/mod.rs", "fn f() { SystemTime::now(); }", &["clock::Clock"]);
    has("src/clock.rs", "fn f() { SystemTime::now(); }", &[]);
}

#[test]
fn a_file_or_a_function_that_is_too_long_is_a_fault() {
    has("src/mail/id.rs", &"//! A sample.\n".repeat(601), &["601 lines"]);
    has("src/mail/id.rs", &"//! A sample.\n".repeat(600), &[]);
    let function = |lines: usize| format!("fn f() {{\n{}}}", "    f();\n".repeat(lines - 2));
    has("src/mail/id.rs", &function(101), &["a function of 101 lines"]);
    has("src/mail/id.rs", &function(100), &[]);
}

#[test]
fn a_name_that_says_nothing_is_a_fault() {
    has("src/mail/utils.rs", "", &["`utils`"]);
    has("src/queue/common/mod.rs", "", &["`common`"]);
}

#[test]
fn literals_and_comments_are_no_code() {
    for text in
        ["// todo!", "/* todo! */", "\"todo!\"", "r#\"to\"do! todo!\"#", "b\"\\\"todo!\"", "'\\'' // todo!"]
    {
        let text = format!("let a = {text}\n;");
        assert!(!blank(&text).contains("todo!"), "{text}");
    }
    assert_eq!(blank("f::<'a>('x', 'é', \"\") + b"), "f::<'a>(   ,     ,   ) + b");
}
