//! The command line: reads requests and prints answers, one file per subcommand. No other room imports it.
//!
//! Exit status: 0 done, 1 the answer is no or the input is bad, 2 usage. Errors go to standard error in a line or two
//! that say what to do; with `--json` as an object with `error` (its kind) and `message`.

mod capture;
mod check;
mod completions;
mod confirm;
mod engines;
mod explain;
mod filter;
mod ha;
mod health;
mod kill;
mod lab;
mod man;
mod options;
mod output;
mod ping;
mod plan;
mod probe;
mod reload;
mod report;
mod rollback;
mod run;
mod set;
mod show;
mod sim;
mod support;
mod top;
mod upgrade;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use engines::EngineSelection;

/// Verbs that are reserved for a later version (`docs/interface.md`, section 9).
const RESERVED: &[&str] = &["clear", "watch", "import", "describe", "init"];

/// Firewall load balancer: every session through one firewall, in both directions
#[derive(Debug, Parser)]
#[command(name = "fwlb", version, propagate_version = true, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    selection: EngineSelection,
    /// Colours always, as --color: before the command, as with ip(8)
    #[arg(short = 'c', help_heading = engines::HEADING)]
    coloured: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Show(show::Args),
    Health(health::Args),
    Explain(explain::Args),
    Capture(capture::Args),
    Set(set::Args),
    Ha(ha::Args),
    Kill(kill::Args),
    Plan(plan::Args),
    Reload(reload::Args),
    Confirm(confirm::Args),
    Rollback(rollback::Args),
    Upgrade(upgrade::Args),
    Probe(probe::Args),
    Ping(ping::Args),
    Top(top::Args),
    Report(report::Args),
    Support(support::Args),
    Lab(lab::Args),
    Sim(sim::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// The whole command line. Commands may be abbreviated as long as they are unambiguous.
fn command() -> clap::Command {
    let complete = |option: clap::Arg| match option.get_id() == "engine" {
        true => option.add(completions::live::engines()),
        false => option,
    };
    options::hide_options(Cli::command().infer_subcommands(true).mut_args(complete))
}

/// Parses the arguments.
fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(arguments)?;
    if let Some(why) = options::misplaced_option(&matches) {
        return Err(command.error(ErrorKind::ArgumentConflict, why));
    }
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Runs the command that `arguments` (program name first) give.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match completions::answer(&arguments) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => return usage(&error, &arguments),
    }
    // An error of usage is reported in the format that was asked for.
    if arguments.iter().take_while(|word| *word != "--").any(|word| word == "--json") {
        output::set_json();
    }
    let cli = match parse(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &arguments),
    };
    output::choose(if cli.coloured { output::When::Always } else { cli.selection.color });
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args, cli.selection.json),
        Command::Show(args) => show::run(&args, &cli.selection),
        Command::Health(args) => health::run(&args, &cli.selection),
        Command::Explain(args) => explain::run(&args, &cli.selection),
        Command::Capture(args) => capture::run(&args, &cli.selection),
        Command::Set(args) => set::run(&args, &cli.selection),
        Command::Ha(args) => ha::run(&args, &cli.selection),
        Command::Kill(args) => kill::run(&args, &cli.selection),
        Command::Plan(args) => plan::run(&args, &cli.selection),
        Command::Reload(args) => reload::run(&args, &cli.selection),
        Command::Confirm(args) => confirm::run(&args, &cli.selection),
        Command::Rollback(args) => rollback::run(&args, &cli.selection),
        Command::Upgrade(args) => upgrade::run(&args, &cli.selection),
        Command::Probe(args) => probe::run(&args, &cli.selection),
        Command::Ping(args) => ping::run(&args, &cli.selection),
        Command::Top(args) => top::run(&args, &cli.selection),
        Command::Report(args) => report::run(&args, cli.selection.json),
        Command::Support(args) => support::run(&args, &cli.selection),
        Command::Lab(args) => lab::run(&args, cli.selection.json),
        Command::Sim(args) => sim::run(&args, &cli.selection),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args, command()),
    };
    match done {
        Ok(code) => code,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_command_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Reports that the arguments are not understood.
fn usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let word = match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word))) => word.as_str(),
        _ => "",
    };
    if RESERVED.contains(&word) {
        return output::usage_error(&format!("`{word}` is reserved for a later version"));
    }
    let words: Vec<&str> = arguments.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let command = command();
    if let several @ [_, _, ..] = options::candidates(&command, &words, word).as_slice() {
        return output::usage_error(&format!("`{word}` may be {}: write more of it", several.join(", ")));
    }
    if error.use_stderr() && output::is_json() {
        let text = error.render().to_string();
        return output::usage_error(text.trim_start_matches("error: "));
    }
    // Help and version go to standard output and are no error.
    let code = if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    let _ = error.print();
    code
}

#[cfg(test)]
mod tests;
