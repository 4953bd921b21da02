//! `fwlb check`: reports every problem of configuration files, and what the firewalls have to permit.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

use crate::cli::output;
use crate::config::system::{self, Concern};
use crate::config::{self, Config, Diagnostics, LoadedConfig, Severity};
use crate::io::{group, machine, netdev, user};
use crate::runtime::placement::{self, Warning, Workers};

/// Validate configuration files: every problem with its place, and what the firewalls must permit
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration files; given together they are also compared
    #[arg(required = true, value_name = "CONFIG")]
    configs: Vec<PathBuf>,
}

pub fn run(args: &Args, json: bool) -> anyhow::Result<ExitCode> {
    let mut outcomes = Vec::new();
    for path in &args.configs {
        outcomes.push(load(path)?);
    }
    config::compare(&mut outcomes);
    let mut placed = 0;
    let of_machine: Vec<_> = outcomes.iter_mut().map(|outcome| check_machine(outcome, &mut placed)).collect();
    if json {
        let rows: Vec<_> = outcomes.iter().zip(&of_machine).flat_map(|(outcome, found)| rows(outcome, found)).collect();
        output::print_json(&rows)?;
    } else {
        let mut report = String::new();
        for (outcome, found) in outcomes.iter().zip(&of_machine) {
            report_file(outcome, found, &mut report)?;
        }
        output::print(&report)?;
    }
    match outcomes.iter().all(|outcome| outcome.config.is_some()) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

/// What was found about this machine for one file.
#[derive(Debug, Default)]
struct Found {
    /// What costs the engine speed or correctness.
    warnings: Vec<Warning>,
    /// The file may be meant for another machine: none of its devices exists here.
    for_other_machine: bool,
}

/// Inspects this machine, if it has any of the file's devices. `placed` workers come before this file's own, as `fwlb
/// run` with the same files would place them.
fn check_machine(outcome: &mut LoadedConfig, placed: &mut usize) -> Found {
    let Some(config) = outcome.config.clone() else { return Found::default() };
    let mut machine = machine::inspect(config.devices.iter().map(String::as_str));
    // These may be workers of the same engine, which runs while its next file is checked.
    machine.workers.clear();
    if machine.devices.is_empty() {
        return Found { for_other_machine: true, ..Found::default() };
    }
    check_devices(&config, outcome);
    check_users(&config, outcome);
    let workers = Workers::of(&config, &machine.cpus, *placed);
    *placed += workers.cpus.len();
    Found { warnings: placement::warnings(&workers, &machine), for_other_machine: false }
}

/// Warns about devices that do not exist here, or have nothing at the other end.
fn check_devices(config: &Config, outcome: &mut LoadedConfig) {
    for name in &config.devices {
        let mut warn = |what: String, hint: &str| system::warn(outcome, Concern::Device(name), what, hint.to_owned());
        match netdev::resolve(name) {
            Err(missing) => warn(missing.to_string(), "the engine does not start without it"),
            Ok(device) if device.admin_up && !device.oper_up => {
                let what = format!("{} has no carrier", device.name);
                warn(what, "see that its cable is plugged in and the other end is up; until then the link is down");
            }
            Ok(_) => {}
        }
    }
}

/// Warns about users and groups that do not exist here.
fn check_users(config: &Config, outcome: &mut LoadedConfig) {
    let engine = &config.engine;
    if let Some(name) = engine.user.as_deref().filter(|name| matches!(user::find(name), Ok(None))) {
        let hint = format!("make it: useradd --system --no-create-home {name}");
        system::warn(outcome, Concern::User, format!("there is no user {name:?} on this machine"), hint);
    }
    for (group, concern) in [(&engine.group, Concern::Group), (&config.api.socket_group, Concern::SocketGroup)] {
        if let Some(name) = group.as_deref().filter(|name| matches!(group::id(name), Ok(None))) {
            let hint = format!("make it: groupadd --system {name}");
            system::warn(outcome, concern, format!("there is no group {name:?} on this machine"), hint);
        }
    }
}

/// Reports one file as text: problems to standard error, the rest to `report`.
fn report_file(outcome: &LoadedConfig, of_machine: &Found, report: &mut String) -> anyhow::Result<()> {
    let found = &outcome.diagnostics;
    output::print_error(&found.render(output::shown(output::Stream::Error)));
    let count = count(found.errors(), found.warnings() + of_machine.warnings.len());
    let Some(config) = &outcome.config else {
        writeln!(report, "{}: {count}", found.path)?;
        return Ok(());
    };
    writeln!(report, "{}: ok{}", found.path, if count.is_empty() { count } else { format!(", {count}") })?;
    report.push_str(&config::requirements(config));
    if of_machine.for_other_machine {
        let devices = config.devices.join(", ");
        writeln!(report, "  for a machine with {devices}: this one has none of them, and was not looked at")?;
    }
    for Warning { what, help: cure } in &of_machine.warnings {
        let name = &config.engine.name;
        output::print_error(&format!("warning: engine {name} on this machine: {what}\n  = help: {cure}\n"));
    }
    Ok(())
}

/// A problem as JSON, for editors and other programs.
#[derive(Debug, Serialize)]
struct Row {
    file: String,
    /// Counted from 1; null for a problem without a place in the file.
    line: Option<usize>,
    /// Counted from 1, in characters.
    column: Option<usize>,
    severity: &'static str,
    message: String,
    hint: Option<String>,
    /// Other places in the file that belong to the problem.
    related: Vec<Related>,
}

#[derive(Debug, Serialize)]
struct Related {
    line: usize,
    column: usize,
    message: String,
}

fn rows(outcome: &LoadedConfig, of_machine: &Found) -> Vec<Row> {
    let found = &outcome.diagnostics;
    let typed = found.iter().map(|one| row(found, one));
    let of_machine = of_machine.warnings.iter().map(|Warning { what, help: cure }| Row {
        file: found.path.clone(),
        line: None,
        column: None,
        severity: word(Severity::Warning),
        message: what.clone(),
        hint: Some(cure.clone()),
        related: Vec::new(),
    });
    typed.chain(of_machine).collect()
}

fn row(all: &Diagnostics, one: &config::Diagnostic) -> Row {
    let (line, column) = all.line_column(one.span.start);
    let related = one.related.iter().map(|(span, message)| {
        let (line, column) = all.line_column(span.start);
        Related { line, column, message: message.clone() }
    });
    Row {
        file: all.path.clone(),
        line: Some(line),
        column: Some(column),
        severity: word(one.severity),
        message: one.message.clone(),
        hint: one.hint.clone(),
        related: related.collect(),
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// Reads a file and the files to which it refers.
pub fn load(path: &Path) -> anyhow::Result<LoadedConfig> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(config::load(&path.to_string_lossy(), &text, &mut read_secret))
}

/// Reads the file of a `file:/path` secret.
fn read_secret(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// Formats counts as `2 errors, 1 warning`; empty if there are none.
pub fn count(errors: usize, warnings: usize) -> String {
    let words = |number: usize, what: &str| match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        many => Some(format!("{many} {what}s")),
    };
    [words(errors, "error"), words(warnings, "warning")].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
