//! The global options, which are accepted before and after a command, and the commands that do not use them.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// Commands that do not use some of these options: the command, the ids of the options, and why.
const HIDDEN_OPTIONS: [(&str, &[&str], &str); 15] = [
    ("run", ENGINE_OPTIONS, "it starts engines"),
    ("run", &["json"], "it answers nothing"),
    ("check", ENGINE_OPTIONS, "it reads files"),
    ("capture", &["json"], "it writes pcapng"),
    ("top", &["json"], "it is a picture; in a script use: fwlb show WHAT --json"),
    ("report", ENGINE_OPTIONS, "it reads files"),
    ("lab", ENGINE_OPTIONS, "its engines are those of the lab"),
    ("sim", ENGINE_OPTIONS, "it asks no engine"),
    ("completions", ENGINE_OPTIONS, "it asks no engine"),
    ("completions", OUTPUT_OPTIONS, "it writes a script"),
    ("man", ENGINE_OPTIONS, "it asks no engine"),
    ("man", OUTPUT_OPTIONS, "it writes manual pages"),
    ("lab demo", &["json"], "it is a story"),
    ("lab exec", &["json"], "it shows what the command prints"),
    ("lab traffic", OUTPUT_OPTIONS, "it always writes JSON"),
];
/// Options that select engines, and how long they are waited for.
const ENGINE_OPTIONS: &[&str] = &["socket", "engine", "timeout", "run_directory"];
/// Options about the format of the answer.
const OUTPUT_OPTIONS: &[&str] = &["json", "color"];

/// Removes the options from the help of commands that do not use them. They are still parsed there, so that
/// [`misplaced_option`] can say why they are refused.
pub fn hide_options(command: Command) -> Command {
    let all: Vec<_> = command.get_arguments().filter(|one| one.is_global_set()).cloned().collect();
    HIDDEN_OPTIONS.iter().fold(command, |command, (name, without, _)| {
        let hidden = all.iter().filter(|one| without.contains(&one.get_id().as_str())).cloned();
        let hidden: Vec<_> = hidden.map(|one| one.hide(true)).collect();
        change_command(command, name, |of| of.args(hidden))
    })
}

/// Changes the command with this name, which may be a subcommand: `lab traffic`.
fn change_command(command: Command, name: &str, change: impl FnOnce(Command) -> Command) -> Command {
    match name.split_once(' ') {
        None => command.mut_subcommand(name, change),
        Some((outer, inner)) => command.mut_subcommand(outer, |outer| change_command(outer, inner, change)),
    }
}

/// Why an option that was given makes no sense with its command.
pub fn misplaced_option(matches: &ArgMatches) -> Option<String> {
    HIDDEN_OPTIONS.iter().find_map(|(name, without, why)| {
        let of = name.split(' ').try_fold(matches, |of, word| of.subcommand_matches(word))?;
        let typed = without.iter().find(|option| of.value_source(option) == Some(ValueSource::CommandLine))?;
        Some(format!("fwlb {name} takes no --{typed}: {why}"))
    })
}

/// The commands that `word` may abbreviate, where it follows other words on a command line; `words` are all words after
/// the program's name.
pub fn candidates<'a>(command: &'a Command, words: &[&str], word: &str) -> Vec<&'a str> {
    let mut of = command;
    for typed in words {
        let found = matching_commands(of, typed);
        match found.as_slice() {
            several if *typed == word => return several.iter().map(|one| one.get_name()).collect(),
            [one] => of = one,
            _ => {}
        }
    }
    Vec::new()
}

/// The words of a command line, `fwlb` first, with abbreviated commands written out; the last word is kept, because it
/// may be unfinished.
pub fn expand_commands(command: &Command, words: &[OsString]) -> Vec<OsString> {
    let mut of = command;
    let mut whole = words.to_vec();
    let last = whole.len().saturating_sub(1);
    for word in whole.iter_mut().take(last).skip(1) {
        let found = word.to_str().map(|typed| matching_commands(of, typed)).unwrap_or_default();
        if let [one] = found.as_slice() {
            of = one;
            *word = of.get_name().into();
        }
    }
    whole
}

/// The subcommands of `of` that `typed` may mean: the one of that name, or those whose names begin with it.
fn matching_commands<'a>(of: &'a Command, typed: &str) -> Vec<&'a Command> {
    let shown = || of.get_subcommands().filter(|one| !one.is_hide_set());
    if let Some(one) = shown().find(|one| one.get_name_and_visible_aliases().contains(&typed)) {
        return vec![one];
    }
    let begins = |one: &&Command| one.get_name_and_visible_aliases().iter().any(|name| name.starts_with(typed));
    shown().filter(|one| !typed.is_empty() && begins(one)).collect()
}
