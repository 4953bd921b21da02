//! `fwlb check`: every problem of configuration files, and what they ask of the firewalls.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::output;
use crate::config::{self, Config, Outcome};
use crate::io::machine;
use crate::runtime::placement::{self, Warning, Workers};

/// Validate configuration files: every problem with its place, and what the firewalls must permit
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration files; given together they are also compared
    #[arg(required = true, value_name = "CONFIG")]
    configs: Vec<PathBuf>,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut outcomes = Vec::new();
    for path in &args.configs {
        outcomes.push(load(path)?);
    }
    config::compare(&mut outcomes);
    let mut report = String::new();
    let mut placed = 0;
    for outcome in &outcomes {
        let found = &outcome.diagnostics;
        output::print_error(&found.render(output::colour()));
        let count = count(found.errors(), found.warnings());
        match &outcome.config {
            Some(config) => {
                writeln!(report, "{}: ok{}", found.path, if count.is_empty() { count } else { format!(", {count}") })?;
                report.push_str(&config::demands(config));
                output::print_error(&machine(config, &mut placed));
            }
            None => writeln!(report, "{}: {count}", found.path)?,
        }
    }
    output::print(&report)?;
    match outcomes.iter().all(|outcome| outcome.config.is_some()) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

/// What on this machine costs the engine speed or correctness, if this machine has any of its devices: the file may be meant for
/// another. `placed` workers come before its own, as `fwlb run` with the same files would place them.
fn machine(config: &Config, placed: &mut usize) -> String {
    let mut machine = machine::look(config.devices.iter().map(String::as_str));
    // They may be this very engine's, which runs while its next file is checked.
    machine.workers.clear();
    if machine.devices.is_empty() {
        return String::new();
    }
    let workers = Workers::of(config, &machine.cpus, *placed);
    *placed += workers.cpus.len();
    let tell = |Warning { what, cure }| {
        format!("warning: engine {} on this machine: {what}\n  = help: {cure}\n", config.engine.name)
    };
    placement::judge(&workers, &machine).into_iter().map(tell).collect()
}

/// Reads a file and what it refers to.
pub fn load(path: &Path) -> anyhow::Result<Outcome> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(config::load(&path.to_string_lossy(), &text, &mut read_secret))
}

/// Reads the file of a `file:/path` secret.
fn read_secret(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// `2 errors, 1 warning`; nothing for none.
pub fn count(errors: usize, warnings: usize) -> String {
    let words = |number: usize, what: &str| match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        many => Some(format!("{many} {what}s")),
    };
    [words(errors, "error"), words(warnings, "warning")].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
