//! Checks which room may import which, where `unsafe` and system calls are allowed, and who may read a clock. Cargo
//! cannot enforce this within one crate, so that this test reads the `crate::…` paths.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "architecture/circles.rs"]
mod circles;

/// Each room, and the rooms that it may import besides itself, `time`, `id`, `random` and `named_enum`.
///
/// `wire::Family` and `wire::MacAddr` are plain values that every room may name; they are not listed.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("id", &[]),
    ("random", &[]),
    ("named_enum", &[]),
    ("wire", &[]),
    ("flow", &["wire"]),
    ("nat", &["wire", "flow"]),
    ("path", &["flow"]),
    ("slb", &["flow", "nat", "path"]),
    ("session", &["flow", "nat", "path", "wire"]),
    ("neighbor", &["wire"]),
    ("health", &["wire"]),
    ("ha", &["wire", "flow", "nat", "path", "slb", "session"]),
    ("config", &["flow", "nat", "path", "slb", "session", "health", "ha"]),
    ("engine", &["wire", "flow", "nat", "path", "slb", "session", "neighbor", "health", "ha", "config"]),
    ("sim", &["wire", "flow", "nat", "path", "slb", "session", "neighbor", "health", "ha", "config", "engine"]),
    ("io", &["wire"]),
    ("api", &["config", "engine", "flow", "ha"]),
    ("runtime", &["engine", "io", "config", "api", "session", "path", "nat", "slb", "wire", "flow", "ha"]),
    ("client", &["api", "engine"]),
    ("lab", &["config", "io", "client", "api", "engine", "ha"]),
    ("cli", &["*"]),
];

/// Crates that only these rooms may use.
const CRATES: &[(&str, &[&str])] = &[
    ("libc", &["io"]),
    ("rustix", &["io"]),
    ("caps", &["io"]),
    ("seccompiler", &["io"]),
    ("pnet_datalink", &["io"]),
    ("netlink_sys", &["io"]),
    ("tokio", &["runtime", "api", "client", "lab", "cli"]),
    ("axum", &["api", "runtime"]),
    ("anyhow", &["cli"]),
    ("clap", &["cli"]),
    ("ratatui", &["cli"]),
    // Other rooms use it only as a derive macro: what HTTP serves is described where it is defined.
    ("utoipa", &["api", "engine", "config", "ha", "named_enum"]),
];

struct Source {
    room: String,
    /// Relative to `src`.
    path: PathBuf,
    /// The text without comments, which may mention anything.
    code: String,
}

fn sources() -> Vec<Source> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for path in fs::read_dir(directory).expect("src is readable").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let relative = path.strip_prefix(&root).expect("walked from root").to_owned();
            let first = relative.components().next().expect("a file has a name").as_os_str().to_string_lossy();
            let room = first.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            let code = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
            Source { room, path: relative, code }
        })
        .collect()
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The words of `code`: names, keywords and numbers.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|character| !is_word(character)).filter(|word| !word.is_empty())
}

/// The rooms named after `crate::` in `code`, grouped imports included.
fn imported(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => rooms.extend(room_of(&rest[..rest.find(';').unwrap_or(rest.len())])),
            Some(group) => rooms.extend(items(group).iter().filter_map(|item| room_of(item))),
        }
    }
    rooms
}

/// The comma-separated items of a `{…}` group, whose opening brace has been consumed. Nested groups stay whole.
fn items(group: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut depth = 1;
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match (depth, character) {
            (0, _) => break,
            (1, ',') => items.push(String::new()),
            _ => items.last_mut().expect("starts with one").push(character),
        }
    }
    items
}

/// The room that a path names; `None` for the plain values of `wire` that every room may name.
fn room_of(path: &str) -> Option<String> {
    let path = path.trim();
    let room: String = path.chars().take_while(|c| is_word(*c)).collect();
    let tail = path[room.len()..].trim_start_matches("::");
    let names = tail.strip_prefix('{').map_or_else(
        || vec![tail.chars().take_while(|c| c.is_alphanumeric()).collect::<String>()],
        |group| items(group).iter().map(|name| name.trim().to_owned()).collect(),
    );
    let plain_values = room == "wire" && names.iter().all(|name| matches!(name.as_str(), "Family" | "MacAddr"));
    (!room.is_empty() && !plain_values).then_some(room)
}

#[test]
fn every_room_imports_only_what_the_house_allows() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !matches!(source.room.as_str(), "lib" | "main")) {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(room, _)| *room == source.room) else {
            wrong.push(format!("{}: a room that the table does not know", source.path.display()));
            continue;
        };
        for import in imported(&source.code) {
            let free = matches!(import.as_str(), "time" | "id" | "random" | "named_enum")
                || import == source.room
                || allowed.contains(&"*");
            let is_room = MAY_IMPORT.iter().any(|(room, _)| *room == import);
            if is_room && !free && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{} imports {import}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the house:\n{}", wrong.join("\n"));
}

#[test]
fn no_part_of_the_controller_knows_one_above_it() {
    let above: &[(&str, &[&str])] = &[
        ("engine/controller/links", &["Paths", "paths", "Farm", "farm", "Controller"]),
        ("engine/controller/paths", &["Farm", "farm", "Controller"]),
        ("engine/controller/farm", &["Controller"]),
    ];
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((_, above)) = above.iter().find(|(part, _)| source.path.with_extension("").starts_with(part)) else {
            continue;
        };
        let words: BTreeSet<&str> = words(&source.code).collect();
        wrong.extend(above.iter().filter(|name| words.contains(*name)).map(|name| (source.path.clone(), *name)));
    }
    assert!(wrong.is_empty(), "parts of the controller that know what stands above them: {wrong:?}");
}

#[test]
fn crates_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (name, rooms) in CRATES {
            let named = source.code.contains(&format!("{name}::")) || source.code.contains(&format!("use {name}"));
            if named && !rooms.contains(&source.room.as_str()) && source.room != "main" {
                wrong.push(format!("{} names {name}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "crates outside their rooms:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_api_builds_its_document() {
    let derives_only = |code: &str| {
        let mut lines = code.lines().filter(|line| line.contains("utoipa"));
        lines.all(|line| line.trim_start().starts_with("#[derive(") && line.contains("utoipa::ToSchema"))
    };
    let wrong: Vec<_> =
        sources().into_iter().filter(|s| s.room != "api" && !derives_only(&s.code)).map(|source| source.path).collect();
    assert!(wrong.is_empty(), "utoipa as more than a derive: {wrong:?}");
}

#[test]
fn unsafe_code_lives_in_io_alone() {
    let is_unsafe = |code: &str| words(code).any(|word| word == "unsafe");
    let wrong: Vec<_> =
        sources().into_iter().filter(|s| s.room != "io" && is_unsafe(&s.code)).map(|source| source.path).collect();
    assert!(wrong.is_empty(), "unsafe outside io: {wrong:?}");
}

#[test]
fn the_core_never_reads_a_clock() {
    let outside = ["runtime", "lab", "cli", "client", "io"];
    let reads = |code: &str| code.contains("Instant::now()") || code.contains("SystemTime::now()");
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(|source| !outside.contains(&source.room.as_str()) && reads(&source.code))
        .map(|source| source.path)
        .collect();
    assert!(wrong.is_empty(), "the core reads a clock: {wrong:?}");
}

#[test]
fn ahash_never_chooses_a_path() {
    let chooses = [Path::new("flow/hash.rs"), Path::new("flow/key.rs")];
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(|source| source.room == "path" || chooses.contains(&source.path.as_path()))
        .filter(|source| source.code.contains("ahash"))
        .map(|source| source.path)
        .collect();
    assert!(wrong.is_empty(), "ahash where paths are chosen: {wrong:?}");
}
