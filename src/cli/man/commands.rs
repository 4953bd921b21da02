//! The reference of the commands in Markdown: docs/commands.md.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command};

use super::extra::{EXAMPLES, EXIT};

/// The page in Markdown.
pub fn markdown(command: &Command) -> String {
    let mut out = String::from(
        "# Commands\n\nThis page is written by `fwlb man --markdown`; each command also has a page for man(1), such as \
         fwlb-show-sessions(1).\n",
    );
    options_of_all(command, &mut out);
    for command in shown(command) {
        section("fwlb", command, 2, &mut out);
    }
    out
}

fn options_of_all(command: &Command, out: &mut String) {
    out.push_str("\n## Options of every command\n\nThey stand before or after the words of the command.\n\n");
    let general = command.get_arguments().filter(|argument| argument.is_global_set() && is_shown(argument));
    table("option", general, out);
    out.push_str("\n| exit status | meaning |\n| --- | --- |\n");
    for (status, meaning) in EXIT {
        let _ = writeln!(out, "| {status} | {meaning} |");
    }
}

/// One command, followed by its subcommands.
fn section(above: &str, command: &Command, depth: usize, out: &mut String) {
    let name = format!("{above} {}", command.get_name());
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let _ = write!(out, "\n{} {name}\n\n{about}\n", "#".repeat(depth));
    let own = || command.get_arguments().filter(|argument| !argument.is_global_set() && is_shown(argument));
    if own().any(Arg::is_positional) {
        out.push('\n');
        table("argument", own().filter(|argument| argument.is_positional()), out);
    }
    if own().any(|argument| !argument.is_positional()) {
        out.push('\n');
        table("option", own().filter(|argument| !argument.is_positional()), out);
    }
    let page = name.replace(' ', "-");
    if let Some((_, examples)) = EXAMPLES.iter().find(|(of, _)| *of == page) {
        out.push_str("\n```sh\n");
        for (line, says) in *examples {
            let _ = writeln!(out, "{line}    # {says}");
        }
        out.push_str("```\n");
    }
    for below in shown(command) {
        section(&name, below, depth + 1, out);
    }
}

/// The subcommands of a command, without `help`, which repeats them all.
fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
}

fn is_shown(argument: &Arg) -> bool {
    !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str())
}

fn table<'a>(title: &str, arguments: impl Iterator<Item = &'a Arg>, out: &mut String) {
    let _ = write!(out, "| {title} | what |\n| --- | --- |\n");
    for argument in arguments {
        let _ = writeln!(out, "| `{}` | {} |", cell(&spelling(argument)), cell(&description(argument)));
    }
}

/// How an argument is typed: `-c, --count COUNT`, `CONFIG...`.
fn spelling(argument: &Arg) -> String {
    let values = argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>();
    let may_repeat = argument.get_num_args().is_some_and(|count| count.max_values() > 1);
    let value = values.join(" ") + if may_repeat { "..." } else { "" };
    if argument.is_positional() {
        return value;
    }
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let names = short.into_iter().chain(long).collect::<Vec<_>>().join(", ");
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let optional = argument.get_num_args().is_some_and(|count| count.min_values() == 0);
    match (takes_value, optional) {
        (false, _) => names,
        (true, false) => format!("{names} {value}"),
        (true, true) => format!("{names} [{value}]"),
    }
}

/// The help of an argument, its values and its default.
fn description(argument: &Arg) -> String {
    let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let values = argument.get_possible_values();
    let values: Vec<_> = values.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name()).collect();
    if takes_value && !values.is_empty() {
        let _ = write!(text, "; one of `{}`", values.join("`, `"));
    }
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes_value && !defaults.is_empty() {
        let _ = write!(text, "; default `{}`", defaults.join(" "));
    }
    text
}

/// A text as the cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// `fwlb man --markdown > docs/commands.md` brings it up to date.
    #[test]
    fn the_commands_in_the_documentation_are_those_of_the_program() {
        let mut command = crate::cli::command();
        command.build();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
        let written = fs::read_to_string(path).unwrap();
        assert!(written == markdown(&command), "run: fwlb man --markdown > docs/commands.md");
    }

    #[test]
    fn arguments_are_spelled_as_they_are_typed() {
        let command = Command::new("x").args([
            Arg::new("file").num_args(1..).value_name("FILE"),
            Arg::new("count").short('c').long("count").value_name("COUNT").default_value("3").help("How many"),
            Arg::new("dropped").long("dropped").num_args(0..=1).value_name("REASON"),
            Arg::new("all").long("all").action(ArgAction::SetTrue),
        ]);
        let spelled: Vec<_> = command.get_arguments().map(spelling).collect();
        assert_eq!(spelled, ["FILE...", "-c, --count COUNT", "--dropped [REASON]", "--all"]);
        let count = command.get_arguments().find(|argument| argument.get_id() == "count").unwrap();
        assert_eq!(description(count), "How many; default `3`");
        assert_eq!(cell("SERVICE/NAME|a\nb"), "SERVICE/NAME\\|a b");
    }
}
