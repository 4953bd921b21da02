//! Checks the documentation: everything that sources and pages cite exists, down to the section, the rule and the
//! anchor.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use fwlb::engine::view::{AlarmKind, EventKind};

/// Where citations are searched.
const PLACES: [&str; 12] = [
    "src",
    "tests",
    "benches",
    "appliance",
    "configs",
    "docs",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "Cargo.toml",
    "deny.toml",
    ".config",
];
/// The page with the rules about packets, paths and attackers: `A7.4`, `B2.2`, `D6`.
const PROTOCOLS: &str = "docs/protocols.md";
/// The page with the rules of pinning and the promises by which they are judged: `N1`, `P5`.
const PINNING: &str = "docs/pinning.md";

/// A text file of the repository.
struct Text {
    /// Relative to the repository.
    path: PathBuf,
    text: String,
}

impl Text {
    fn is_markdown(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "md")
    }

    fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }

    /// The text in one line, without the marks of comments, so that a citation may be wrapped.
    fn joined(&self) -> String {
        let lines = self.text.lines().map(|line| line.trim_start().trim_start_matches(['/', '!', '#']).trim());
        lines.collect::<Vec<_>>().join(" ")
    }

    /// The lines of a page outside its code blocks.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut in_code = false;
        self.text.lines().filter(move |line| {
            let is_fence = line.trim_start().starts_with("```");
            in_code ^= is_fence;
            !in_code && !is_fence
        })
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn texts() -> Vec<Text> {
    fn walk(path: PathBuf, found: &mut Vec<PathBuf>) {
        match fs::read_dir(&path) {
            Ok(entries) if path.file_name().is_some_and(|name| name != "target") => {
                entries.flatten().for_each(|entry| walk(entry.path(), found));
            }
            Ok(_) => {}
            Err(_) => found.push(path),
        }
    }
    let mut paths = Vec::new();
    PLACES.iter().for_each(|place| walk(root().join(place), &mut paths));
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).ok()?;
        Some(Text { path: path.strip_prefix(root()).expect("found below it").to_owned(), text })
    };
    paths.into_iter().filter_map(read).collect()
}

fn page(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Shortens `docs/ko/../README.md` to `docs/README.md`.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                tidied.pop();
            }
            Component::CurDir => {}
            part => tidied.push(part),
        }
    }
    tidied
}

/// The anchors of a page: its explicit ones, and those that GitHub makes of its headings.
fn anchors(page: &Text) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in page.prose() {
        let named = line.split("<a id=\"").skip(1).filter_map(|rest| rest.split('"').next());
        anchors.extend(named.map(str::to_owned));
        if line.starts_with('#') {
            anchors.insert(slug(line.trim_start_matches('#').trim()));
        }
    }
    anchors
}

/// The anchor that GitHub makes of a heading.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The targets of the links in a page, written as `[text](target)`.
fn links(page: &Text) -> Vec<&str> {
    let of_line = |line| -> Vec<&str> {
        let targets = str::split(line, "](").skip(1).filter_map(|rest| rest.split(')').next());
        targets.collect()
    };
    page.prose().flat_map(of_line).collect()
}

/// The rule numbers that a page defines: at the beginning of a row, or in bold.
fn rules(path: &str) -> BTreeSet<String> {
    let page = page(path);
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    let bold = page.split("**").skip(1).step_by(2).filter_map(|words| words.split([',', ' ']).next());
    cells.chain(bold).map(str::to_owned).collect()
}

/// The page to which a word refers, if it has the form of a rule number and `path` is a file that cites rules.
fn page_of_rule(word: &str, path: &Path) -> Option<&'static str> {
    let digits = |text: &str| !text.is_empty() && text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_about_pinning = path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("pinning"));
    match (word.split_at_checked(1)?, word.split_once('.')) {
        (("A" | "B", _), Some((part, number))) if digits(&part[1..]) && digits(number) => Some(PROTOCOLS),
        (("D", number), None) if number.len() == 1 && digits(number) => Some(PROTOCOLS),
        (("N" | "P", number), None) if is_about_pinning && number.len() == 1 && digits(number) => Some(PINNING),
        _ => None,
    }
}

#[test]
fn every_page_that_is_cited_exists_with_the_section_that_is_cited() {
    let (mut citations, mut faults) = (0, Vec::new());
    for cites in texts() {
        let joined = cites.joined();
        for (at, _) in joined.match_indices(".md") {
            let end = at + ".md".len();
            let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '/' | '_' | '-' | '*');
            let begin = joined[..at].char_indices().rev().take_while(|(_, c)| is_part(*c)).last();
            let Some((begin, _)) = begin.filter(|_| !joined[end..].starts_with(|c: char| c.is_alphanumeric())) else {
                continue;
            };
            let named = &joined[begin..end];
            // Links are checked by their targets, and a pattern names no page.
            let is_link = joined[..begin].ends_with("](") || joined[end..].trim_start_matches('`').starts_with("](");
            if is_link || named.contains('*') {
                continue;
            }
            let beside = cites.path.parent().expect("a file is somewhere").join(named);
            citations += 1;
            let whole = [Path::new(named), &beside].into_iter().map(tidy).find(|path| root().join(path).is_file());
            let Some(cited) = whole else {
                faults.push(format!("{} cites {named}", cites.path.display()));
                continue;
            };
            let rest = joined[end..].trim_start_matches(['`', ',', ' ']);
            if let Some(number) = rest.strip_prefix("section ") {
                let digits = number.bytes().take_while(u8::is_ascii_digit).count();
                let number = &number[..digits];
                let heading = format!("\n## {number}. ");
                if !page(&cited).contains(&heading) {
                    faults.push(format!("{}: {named} has no section {number}", cites.path.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(citations > 50, "{citations}");
}

#[test]
fn every_rule_that_a_comment_cites_is_written_down() {
    let [protocols, pinning] = [rules(PROTOCOLS), rules(PINNING)];
    assert!(["A1.3", "D7", "0.3"].into_iter().all(|rule| protocols.contains(rule)), "{protocols:?}");
    assert!(["N1", "N2", "P1", "P6"].into_iter().all(|rule| pinning.contains(rule)), "{pinning:?}");
    let mut citations = 0;
    for cites in texts().iter().filter(|text| text.is_rust()) {
        let comments = cites.text.lines().filter_map(|line| line.split_once("//"));
        for (_, comment) in comments {
            let words =
                comment.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).map(|w| w.trim_end_matches('.'));
            for word in words {
                let Some(page) = page_of_rule(word, &cites.path) else { continue };
                citations += 1;
                let rules = if page == PROTOCOLS { &protocols } else { &pinning };
                assert!(rules.contains(word), "{}: {page} has no rule {word}", cites.path.display());
            }
        }
    }
    assert!(citations > 20, "{citations}");
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let texts = texts();
    for page in texts.iter().filter(|text| text.is_markdown()) {
        for target in links(page).into_iter().filter(|target| !target.contains("://")) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let led = match path {
                "" => page.path.clone(),
                path => tidy(&page.path.parent().expect("a file is somewhere").join(path)),
            };
            assert!(root().join(&led).exists(), "{} links to {target}", page.path.display());
            if !anchor.is_empty() {
                let there = texts.iter().find(|text| text.path == led).map(anchors).unwrap_or_default();
                assert!(there.contains(anchor), "{} links to {target}; it has {there:?}", page.path.display());
            }
        }
    }
}

/// `src/path/pinning.rs`, `tests/netns*`, `configs/two-box`: what pages name in backticks below the directories of the
/// repository.
#[test]
fn every_file_that_a_page_names_exists() {
    const DIRECTORIES: [&str; 6] = ["src/", "tests/", "benches/", "appliance/", "configs/", "docs/"];
    for page in texts().iter().filter(|text| text.is_markdown()) {
        for line in page.prose() {
            for named in line.split('`').skip(1).step_by(2) {
                let word = named.split([' ', '#']).next().expect("there is a first part");
                let Some(directory) = DIRECTORIES.iter().find(|directory| word.starts_with(**directory)) else {
                    continue;
                };
                let found = match word.split_once('*') {
                    None => root().join(word).exists(),
                    Some((start, _)) => texts().iter().any(|text| text.path.to_string_lossy().starts_with(start)),
                };
                assert!(found, "{} names {word}, which is not in {directory}", page.path.display());
            }
        }
    }
}

#[test]
fn every_kind_of_event_and_alarm_is_explained() {
    const INTERFACE: &str = "docs/interface.md";
    let page = page(INTERFACE);
    for (header, names) in [
        ("\n| kind | subject | what |\n", &EventKind::NAMES[..]),
        ("\n| alarm | what is wrong |\n", &AlarmKind::NAMES[..]),
    ] {
        let (_, table) = page.split_once(header).expect("section 7 has the tables");
        let rows = table.lines().take_while(|line| line.starts_with('|')).filter_map(|line| line.strip_prefix("| `"));
        let explained: Vec<_> = rows.filter_map(|row| row.split('`').next()).collect();
        assert_eq!(explained, names, "{INTERFACE}, section 7");
    }
}

#[test]
fn anchors_and_rule_numbers_are_known_by_their_form() {
    assert_eq!(slug("4. What `show` answers"), "4-what-show-answers");
    assert_eq!(slug("원암(one-arm)"), "원암one-arm");
    let page = |word: &str| page_of_rule(word, Path::new("src/wire/arp.rs"));
    assert!(["A7.4", "A10.5", "B2.2", "D6"].into_iter().all(|word| page(word) == Some(PROTOCOLS)));
    assert!(["A7", "D65", "DEAD", "A1.x", "C1.1", "P1", ""].into_iter().all(|word| page(word).is_none()));
    assert_eq!(page_of_rule("N2", Path::new("src/path/pinning.rs")), Some(PINNING));
}
