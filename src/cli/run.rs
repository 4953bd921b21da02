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
    /// Take the engine over from the program that waits at this socket: see `fwlb upgrade`
    #[arg(long, hide = true, value_name = "SOCKET")]
    take_over: Option<PathBuf>,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut outcomes = Vec::new();
    for path in &args.configs {
        outcomes.push(check::load(path)?);
    }
    outcomes.iter_mut().for_each(config::refuse_hidden);
    config::compare(&mut outcomes);
    let errors = outcomes.iter().map(|outcome| outcome.diagnostics.errors()).sum();
    let mut engines = Vec::new();
    for (path, outcome) in args.configs.iter().zip(outcomes) {
        output::print_error(&outcome.diagnostics.render(output::shown(output::Stream::Error)));
        let text = outcome.diagnostics.text().to_owned();
        engines.extend(outcome.config.map(|config| EngineFile { path: path.clone(), text, config }));
    }
    if errors > 0 {
        output::print_failure(&format!("nothing was started: {}", check::count(errors, 0)));
        return Ok(ExitCode::FAILURE);
    }
    let options = Options { allow_default_route: args.take, drop_privileges: true };
    runtime::run(engines, options, args.take_over.as_deref())?;
    Ok(ExitCode::SUCCESS)
}
