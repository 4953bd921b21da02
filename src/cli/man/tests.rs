use super::*;
use crate::cli::command;

#[test]
fn every_page_has_the_sections_that_a_reader_looks_for() {
    for Page { file, text } in pages(command()).unwrap() {
        let all: &[&str] = if file.ends_with(".5") {
            &["NAME", "DESCRIPTION", "EXAMPLE", "FILES", "\"SEE ALSO\""]
        } else {
            &["NAME", "SYNOPSIS", "DESCRIPTION", "FILES", "ENVIRONMENT", "\"EXIT STATUS\"", "\"SEE ALSO\""]
        };
        for section in all {
            assert!(text.contains(&format!(".SH {section}\n")), "{section} in {file}:\n{text}");
        }
    }
}

#[test]
fn every_command_has_examples_and_all_of_them_are_understood() {
    let command = command();
    for name in command.get_subcommands().filter(|one| !one.is_hide_set()).map(Command::get_name) {
        assert!(extra::EXAMPLES.iter().any(|(page, _)| *page == format!("fwlb-{name}")), "no example of {name}");
    }
    for (line, _) in extra::EXAMPLES.iter().flat_map(|(_, examples)| *examples) {
        let words: Vec<_> = line.split_whitespace().map(Into::into).collect();
        let parsed = crate::cli::parse(&words);
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
    }
}

#[test]
fn pages_that_are_named_elsewhere_are_there() {
    let pages = pages(command()).unwrap();
    for Page { file, text } in &pages {
        let (_, named) = text.rsplit_once("SEE ALSO").unwrap();
        for named in named.split([',', '\n', '"']).map(str::trim).filter(|named| named.ends_with(')')) {
            let own = named.replace("\\-", "-");
            let (name, section) = own.trim_end_matches(')').split_once('(').unwrap();
            let wanted = format!("{name}.{section}");
            assert!(pages.iter().any(|page| page.file == wanted), "{wanted}, named in {file}");
        }
    }
}

/// `fwlb man --markdown fwlb.toml > docs/configuration.md` brings it up to date.
#[test]
fn the_reference_in_the_documentation_is_that_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let written = fs::read_to_string(path).unwrap();
    assert!(written == reference::markdown(), "run: fwlb man --markdown fwlb.toml > docs/configuration.md");
}

#[test]
fn every_key_is_in_the_manual_page_of_the_configuration() {
    let page = reference::page();
    for chapter in crate::config::reference::reference() {
        for entry in chapter.entries {
            let key = entry.key.replace('-', "\\-");
            assert!(page.contains(&format!("\\fB{key}\\fR")), "{} of {}", entry.key, chapter.section);
        }
    }
}
