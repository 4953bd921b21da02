//! `fwlb completions`.

use std::process::ExitCode;

use clap_complete::Shell;

use crate::cli::output;

/// Print a script that lets a shell complete fwlb's words: source <(fwlb completions bash)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

pub fn run(args: &Args, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "fwlb", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
