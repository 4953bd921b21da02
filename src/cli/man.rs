//! `fwlb man`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::output;

/// Print the manual page (fwlb man | man -l -), or write a page for every command into a directory
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write fwlb.1, fwlb-show.1, ... there
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

pub fn run(args: &Args, command: clap::Command) -> anyhow::Result<ExitCode> {
    match &args.directory {
        Some(directory) => clap_mangen::generate_to(command, directory)
            .with_context(|| format!("cannot write to {}", directory.display()))?,
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            output::print(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
