//! `fwlb completions`, and the answers to shells that ask for completions.

pub mod live;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use anyhow::Context;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};

use super::{command, options};
use crate::cli::output;

/// The variable with the name of the shell that asks.
const COMPLETE_VARIABLE: &str = "COMPLETE";

/// Print a script that lets a shell complete fwlb's words and the names of running engines: source <(fwlb completions
/// bash)
///
/// The script asks the fwlb that is installed each time, so that it need not be made anew for a new version.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell.to_string()).context("no completion is known for this shell")?;
    let mut script = Vec::new();
    shell.write_registration(COMPLETE_VARIABLE, "fwlb", "fwlb", "fwlb", &mut script)?;
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Answers a shell that asks for completions. Returns true if a shell asked, and nothing else is to be done.
pub fn answer(arguments: &[OsString]) -> clap::error::Result<bool> {
    let asked = std::env::var_os(COMPLETE_VARIABLE).is_some_and(|shell| !shell.is_empty());
    // Without words, the script itself is requested, as by tools that know this protocol.
    let Some(words) = asked.then(|| words(arguments)).flatten() else {
        return CompleteEnv::with_factory(command).try_complete(arguments.to_vec(), None);
    };
    let (before, typed) = arguments.split_at(arguments.len() - words.len());
    let whole = before.iter().cloned().chain(options::expand_commands(&command(), typed));
    CompleteEnv::with_factory(command).try_complete(whole, std::env::current_dir().ok().as_deref())
}

/// The words of the unfinished command line, `fwlb` first, if the script made this call.
fn words(arguments: &[OsString]) -> Option<&[OsString]> {
    let begin = arguments.iter().position(|word| word == OsStr::new("--"))? + 1;
    Some(&arguments[begin..])
}
