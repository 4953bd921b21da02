//! `fwlb run`: engines in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::{check, output};
use crate::config;
use crate::runtime::{self, EngineFile, Options};

/// Run engines in the foreground, one per configuration file
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration files, one per engine
    #[arg(required = true, value_name = "CONFIG")]
    configs: Vec<PathBuf>,
    /// Take the device of the kernel's default route too
    #[arg(long)]
    take: bool,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut outcomes = Vec::new();
    for path in &args.configs {
        outcomes.push(check::load(path)?);
    }
    config::compare(&mut outcomes);
    let mut engines = Vec::new();
    for (path, outcome) in args.configs.iter().zip(outcomes) {
        check::eprint_all(&outcome.diagnostics.render(output::colour()));
        let text = outcome.diagnostics.text().to_owned();
        engines.extend(outcome.config.map(|config| EngineFile { path: path.clone(), text, config }));
    }
    if engines.len() < args.configs.len() {
        return Ok(ExitCode::FAILURE);
    }
    runtime::run(engines, Options { take: args.take })?;
    Ok(ExitCode::SUCCESS)
}
