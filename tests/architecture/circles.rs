//! Finds circles of modules: modules beside each other that import one another, straight or through others. What stands
//! in a circle can only be read, moved and tested whole.
//!
//! A module counts with everything in it, and is one with its parent: a child may use what its parent defines, and a
//! parent what its children do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{is_word, items, sources, words};

/// Steps through re-exports that are followed; a name behind more of them is not counted.
const REEXPORTS_MAX: usize = 8;

/// The production code of one file, by the path of its module such as `["flow", "key"]`.
struct File {
    path: PathBuf,
    imports: Vec<Import>,
    /// The code without its `use` declarations.
    body: String,
}

/// One name that a `use` declaration brings into a module.
struct Import {
    name: String,
    path: Vec<String>,
    is_exported: bool,
}

type Files = BTreeMap<Vec<String>, File>;

/// From each module to those beside it that it imports, with what ties them.
type Arrows = BTreeMap<Vec<String>, BTreeMap<Vec<String>, BTreeSet<String>>>;

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(|segment| segment.trim().to_owned()).filter(|segment| !segment.is_empty()).collect()
}

/// The files of the crate without their tests, from `(path below src, code without comments)`.
///
/// # Panics
///
/// Panics if one of them takes everything of a module, because it is unknown then what it takes.
fn files(sources: impl Iterator<Item = (PathBuf, String)>) -> Files {
    let mut tests: BTreeSet<Vec<String>> = BTreeSet::new();
    let mut files = Files::new();
    for (path, code) in sources {
        let mut module: Vec<String> =
            path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|name| name == "mod") {
            module.pop();
        }
        // Tests that stand in the file are its last item.
        let marked = |(at, mark): (usize, &str)| code[at + mark.len()..].lines().next().unwrap_or_default();
        let mut marks = code.match_indices("#[cfg(test)]\n");
        let end = marks.find(|mark| marked(*mark).ends_with("mod tests {")).map_or(code.len(), |(at, _)| at);
        let code = &code[..end];
        for mark in code.match_indices("#[cfg(test)]\n") {
            let name = marked(mark)
                .strip_suffix(';')
                .and_then(|line| line.rsplit_once("mod "))
                .map(|(_, name)| name.to_owned());
            tests.extend(name.map(|name| [module.as_slice(), &[name]].concat()));
        }
        let (imports, body) = declarations(code);
        files.insert(module, File { path, imports, body });
    }
    files.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
    for file in files.values() {
        let all = file.imports.iter().find(|import| import.name == "*");
        assert!(all.is_none(), "{}: name what is taken instead of `*`", file.path.display());
    }
    files
}

/// Parts the `use` declarations from the rest of the code.
fn declarations(code: &str) -> (Vec<Import>, String) {
    let (mut imports, mut body) = (Vec::new(), String::new());
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let start = line.trim_start();
        let declared = start.strip_prefix("use ").map(|rest| (rest, false)).or_else(|| {
            let (visibility, rest) = start.split_once(" use ")?;
            visibility.starts_with("pub").then_some((rest, true))
        });
        let Some((rest, is_exported)) = declared else {
            body.push_str(line);
            body.push('\n');
            continue;
        };
        let mut tree = rest.to_owned();
        while !tree.contains(';') {
            tree.push_str(lines.next().expect("a declaration ends"));
        }
        expand(tree.trim_end_matches(';'), &[], is_exported, &mut imports);
    }
    (imports, body)
}

/// Appends each name of a tree such as `super::{a, b::{self, C as D}}`.
fn expand(tree: &str, prefix: &[String], is_exported: bool, imports: &mut Vec<Import>) {
    if let Some((head, group)) = tree.split_once('{') {
        let prefix = [prefix, &segments(head)].concat();
        for item in items(group).iter().filter(|item| !item.trim().is_empty()) {
            expand(item, &prefix, is_exported, imports);
        }
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let mut path = [prefix, &segments(path)].concat();
    if path.len() > 1 && path.last().is_some_and(|name| name == "self") {
        path.pop();
    }
    let name = alias.map_or_else(|| path.last().expect("a path names something").clone(), str::to_owned);
    imports.push(Import { name, path, is_exported });
}

/// The file that defines what `path` names in `module`, with the name; `None` for what is not of this crate, for names
/// of the module's own, and for a module as a whole: only what is taken from it counts.
fn defined_in(files: &Files, module: &[String], path: &[String], reexports: usize) -> Option<(Vec<String>, String)> {
    let import = |module: &[String], name: &String| {
        let found = files.get(module)?.imports.iter().find(|import| import.name == *name)?;
        (found.path != [name.clone()]).then_some(&found.path)
    };
    let follow = |module: &[String], to: &[String], rest: &[String]| {
        defined_in(files, module, &[to, &rest[1..]].concat(), reexports.checked_sub(1)?)
    };
    let (mut at, mut rest) = (module.to_vec(), path);
    match path.first()?.as_str() {
        "crate" => (at, rest) = (Vec::new(), &path[1..]),
        "self" => rest = &path[1..],
        "super" => {}
        _ if files.contains_key(&[module, &path[..1]].concat()) => {}
        _ => return follow(module, import(module, &path[0])?, path),
    }
    while rest.first().is_some_and(|name| name == "super") {
        at.pop();
        rest = &rest[1..];
    }
    while let Some(inner) = rest.first().map(|name| [at.as_slice(), std::slice::from_ref(name)].concat()) {
        if !files.contains_key(&inner) {
            break;
        }
        (at, rest) = (inner, &rest[1..]);
    }
    let name = rest.first()?;
    match import(&at, name) {
        Some(to) => follow(&at, to, rest),
        None => Some((at, name.clone())),
    }
}

/// The paths of two segments or more, wherever they stand in `code`.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut rest = code;
    while let Some(start) = rest.find(is_word) {
        let end = rest[start..].find(|c| !is_word(c) && c != ':').map_or(rest.len(), |len| start + len);
        let path = segments(&rest[start..end]);
        paths.extend((path.len() > 1).then_some(path));
        rest = &rest[end..];
    }
    paths
}

fn arrows(files: &Files) -> Arrows {
    let mut arrows = Arrows::new();
    for (module, file) in files {
        let mentioned: BTreeSet<&str> = words(&file.body).collect();
        // What is only handed on to others is not taken.
        let taken = file.imports.iter().filter(|one| !one.is_exported || mentioned.contains(one.name.as_str()));
        for path in taken.map(|import| import.path.clone()).chain(paths(&file.body)) {
            let Some((to, name)) = defined_in(files, module, &path, REEXPORTS_MAX) else { continue };
            let shared = module.iter().zip(&to).take_while(|(one, other)| one == other).count();
            if let Some(from) = module.get(..=shared)
                && let Some(beside) = to.get(..=shared)
                && let Some(other) = files.get(&to)
            {
                let tie = format!("  {} takes {name} of {}", file.path.display(), other.path.display());
                arrows.entry(from.to_vec()).or_default().entry(beside.to_vec()).or_default().insert(tie);
            }
        }
    }
    arrows
}

/// The circles, each with the module between whose children it is, and with what ties it.
fn circles(files: &Files) -> BTreeSet<(String, String)> {
    let arrows = arrows(files);
    let reached = |from: &Vec<String>| {
        let mut reached = BTreeSet::new();
        let mut open: Vec<_> = arrows[from].keys().collect();
        while let Some(next) = open.pop() {
            if reached.insert(next) {
                open.extend(arrows.get(next).into_iter().flat_map(BTreeMap::keys));
            }
        }
        reached
    };
    let reached: BTreeMap<_, _> = arrows.keys().map(|module| (module, reached(module))).collect();
    let mut circles = BTreeSet::new();
    for (module, reaches) in &reached {
        let leads_back = |other: &&Vec<String>| reached.get(other).is_some_and(|back| back.contains(module));
        let circle: BTreeSet<_> = reaches.iter().copied().filter(leads_back).collect();
        if circle.is_empty() {
            continue;
        }
        let ties = circle.iter().flat_map(|from| arrows[*from].iter().filter(|(to, _)| circle.contains(to)));
        let ties: Vec<_> = ties.flat_map(|(_, ties)| ties).map(String::as_str).collect();
        circles.insert((module[..module.len() - 1].join("::"), ties.join("\n")));
    }
    circles
}

#[test]
fn no_modules_beside_each_other_import_one_another_in_a_circle() {
    let files = files(sources().into_iter().map(|source| (source.path, source.code)));
    let circles = circles(&files);
    let wrong: Vec<_> =
        circles.iter().map(|(parent, ties)| format!("among the children of {parent:?}:\n{ties}")).collect();
    assert!(wrong.is_empty(), "circles of modules:\n{}", wrong.join("\n"));
}

#[test]
fn a_circle_is_found_through_groups_aliases_paths_and_what_parents_hand_on() {
    let circles_of = |sources: &[(&str, &str)]| {
        let files = files(sources.iter().map(|(path, code)| (PathBuf::from(path), (*code).to_owned())));
        circles(&files).into_iter().map(|(parent, _)| parent).collect::<Vec<_>>()
    };
    let parent = ("r/mod.rs", "mod a;\nmod b;\npub use a::A;\npub use b::{B, B as Other};\n");
    let a = ("r/a.rs", "pub struct A(super::B);\n");

    for b in [
        "use super::A;\npub struct B;\n",
        "use crate::r::{\n    a::{self, A as Other},\n};\npub struct B;\n",
        "use super::a;\npub fn f(_: &a::A) {}\npub struct B;\n",
        "pub fn f() -> crate::r::a::A { todo!() }\npub struct B;\n",
        "#[cfg(test)]\nmod tests;\nuse super::A;\npub struct B;\n",
    ] {
        assert_eq!(circles_of(&[parent, a, ("r/b.rs", b)]), ["r"], "{b}");
    }
    let inner = ("r/b/inner.rs", "use crate::r::a::A;\n");
    assert_eq!(
        circles_of(&[parent, a, ("r/b.rs", "mod inner;\npub struct B;\n"), inner]),
        ["r"],
        "what is inside counts"
    );

    for b in [
        "pub struct B;\n",
        "pub struct B;\n\n#[cfg(test)]\nmod tests {\n    use super::super::a::A;\n}\n",
        "pub struct B;\nuse super::own;\n",
    ] {
        assert_eq!(circles_of(&[parent, a, ("r/b.rs", b)]), [""; 0], "{b}");
    }
    let child = ("r/b/child.rs", "use super::B;\npub struct C(B);\n");
    let b = ("r/b.rs", "mod child;\npub struct B;\npub fn f(_: &child::C) {}\n");
    assert_eq!(circles_of(&[parent, a, b, child]), [""; 0], "a module and its child are one");
}

#[test]
#[should_panic(expected = "r/b.rs: name what is taken instead of `*`")]
fn an_import_of_everything_is_refused_outside_tests() {
    let sources = [
        ("r/a.rs", "pub struct A;\n\n#[cfg(test)]\nmod tests {\n    use super::*;\n}\n"),
        ("r/b.rs", "use super::a::{self, *};\n"),
    ];
    files(sources.into_iter().map(|(path, code)| (PathBuf::from(path), code.to_owned())));
}
