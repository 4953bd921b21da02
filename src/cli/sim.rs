//! `fwlb sim`: runs the sandwich in one process with virtual time, faults and checkers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

use crate::cli::engines::EngineSelection;
use crate::cli::output::{self, table};
use crate::sim::fault::FaultKind;
use crate::sim::firewall::SimFirewallKind;
use crate::sim::run::{Options, RunReport, run as play};
use crate::time::Duration;

/// Play the sandwich in virtual time: model firewalls, seeded faults, checkers. The same seed gives the same run
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other
    #[arg(long, value_name = "N", default_value_t = 1)]
    seeds: u64,
    /// Firewalls; default: the seed decides
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    firewalls: Option<u8>,
    /// Their sort; default: the seed decides
    #[arg(long, value_enum)]
    kind: Option<KindArg>,
    /// With services and servers behind the inner engine or without; default: the seed decides
    #[arg(long, value_name = "yes|no", value_parser = yes_or_no)]
    services: Option<bool>,
    /// What may go wrong: all, none, or a list of wires, flips, crash, half-dead, probes, slow, mac, engine, pause,
    /// carrier, admin, server, server-cable, server-admin
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = parse_fault_kinds)]
    faults: Faults,
    /// How long traffic and faults last, in virtual time (10s, 1m)
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = output::parse_duration)]
    duration: Duration,
    /// Tell every fault with its time
    #[arg(long)]
    trace: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum KindArg {
    /// Knows what it saw begin
    Strict,
    /// Picks TCP up in mid-stream
    Loose,
    /// Strict, with one table for all firewalls
    Synced,
    /// Strict, translates the source of what opens through it
    Nat,
    /// Strict, a bridge
    Transparent,
}

/// A type of its own, because clap takes a `Vec` for an option that is given several times.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Faults(Vec<FaultKind>);

fn parse_fault_kinds(text: &str) -> Result<Faults, String> {
    let all = || FaultKind::ALL.iter().map(|(sort, _)| *sort).collect();
    match text {
        "all" => return Ok(Faults(all())),
        "none" => return Ok(Faults(Vec::new())),
        _ => {}
    }
    let one = |word: &str| {
        let known = FaultKind::ALL.iter().find(|(_, name)| *name == word).map(|(sort, _)| *sort);
        let names = || FaultKind::ALL.map(|(_, name)| name).join(", ");
        known.ok_or_else(|| format!("no fault is called {word:?}; there are all, none, {}", names()))
    };
    text.split(',').map(|word| one(word.trim())).collect::<Result<_, _>>().map(Faults)
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("say yes or no".to_owned()),
    }
}

impl Args {
    fn options(&self) -> Options {
        let kind = self.kind.map(|kind| match kind {
            KindArg::Strict => SimFirewallKind::Strict,
            KindArg::Loose => SimFirewallKind::Loose,
            KindArg::Synced => SimFirewallKind::Synced,
            KindArg::Nat => SimFirewallKind::Nat,
            KindArg::Transparent => SimFirewallKind::Transparent,
        });
        Options {
            firewalls: self.firewalls.map(usize::from),
            kind,
            fault_kinds: self.faults.0.clone(),
            services: self.services,
            duration: self.duration,
            trace: self.trace,
        }
    }

    /// The command that repeats the run of one seed.
    fn again(&self, seed: u64) -> String {
        let mut line = format!("fwlb sim --seed {seed}");
        if let Some(firewalls) = self.firewalls {
            let _ = write!(line, " --firewalls {firewalls}");
        }
        if let Some(name) = self.kind.and_then(|kind| clap::ValueEnum::to_possible_value(&kind)) {
            let _ = write!(line, " --kind {}", name.get_name());
        }
        if let Some(services) = self.services {
            let _ = write!(line, " --services {}", if services { "yes" } else { "no" });
        }
        let names: Vec<_> =
            FaultKind::ALL.iter().filter(|(sort, _)| self.faults.0.contains(sort)).map(|(_, n)| *n).collect();
        match names.len() {
            0 => line.push_str(" --faults none"),
            count if count == FaultKind::ALL.len() => {}
            _ => {
                let _ = write!(line, " --faults {}", names.join(","));
            }
        }
        let _ = write!(line, " --duration {}ms --trace", self.duration.as_millis());
        line
    }
}

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let options = args.options();
    let mut reports = Vec::new();
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        let report = play(seed, &options);
        if !selection.json && (!report.is_good() || args.trace) {
            output::print(&run_text(&report, args))?;
        }
        reports.push(report);
    }
    if selection.json {
        output::print_json(&reports)?;
    } else {
        output::print(&summary(&reports))?;
    }
    Ok(if reports.iter().all(RunReport::is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The events of one run, and the broken promises.
fn run_text(report: &RunReport, args: &Args) -> String {
    let mut text = format!("seed {}: {} {:?} firewalls", report.seed, report.plan.firewalls, report.plan.kind);
    let _ = writeln!(text, ", {} flows, digest {}", report.flows, report.digest);
    for service in &report.plan.farm.services {
        let (mode, failure) = (service.mode, service.on_failure());
        let _ = writeln!(
            text,
            "  {} {:?} {mode:?} {:?}, weights {:?}, backup {:?}, sticky {} s, on-failure {failure:?}",
            service.side.name(),
            service.traffic,
            service.scheduler,
            service.weights,
            service.backup,
            service.sticky_s
        );
    }
    let lines = if report.trace.is_empty() { &report.faults } else { &report.trace };
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
    for violation in &report.violations {
        let _ = writeln!(text, "  BROKEN at {} ms, {}: {}", violation.at_ms, violation.promise, violation.what);
        for step in &violation.trace {
            let _ = writeln!(text, "      {step}");
        }
    }
    if !report.is_good() {
        let _ = writeln!(text, "  again: {}", args.again(report.seed));
    }
    text
}

fn summary(reports: &[RunReport]) -> String {
    let total = |f: &dyn Fn(&RunReport) -> u64| reports.iter().map(f).sum::<u64>().to_string();
    let virtual_ms: u64 = reports.iter().map(|report| report.virtual_ms).sum();
    let mut rows = vec![
        row("seeds", reports.len().to_string()),
        row("virtual time", output::duration_ms(virtual_ms)),
        row("events", total(&|report| report.events)),
        row("faults", total(&|report| report.faults.len() as u64)),
        row("flows opened", total(&|report| report.flows as u64)),
        row("flows served", total(&|report| report.served as u64)),
        row("firewall changes", total(&|report| report.moves)),
    ];
    rows.extend(merged(reports, "flows ", |report| report.ended.iter().map(|(k, v)| (k.clone(), *v as u64)).collect()));
    rows.push(row("sessions of services", total(&|report| report.placed.values().sum())));
    rows.extend(merged(reports, "pin_", |report| report.pins.clone()));
    rows.extend(merged(reports, "", |report| report.drops.clone()));
    rows.push(row("refused by firewalls, with a legal cause", total(&|report| report.excused.values().sum())));
    rows.push(row("violations", total(&|report| report.violations.len() as u64)));
    table(&["WHAT", ">COUNT"], &rows)
}

fn row(name: &str, value: String) -> Vec<String> {
    vec![name.to_owned(), value]
}

/// The sums of a map over all reports.
fn merged(reports: &[RunReport], prefix: &str, of: impl Fn(&RunReport) -> BTreeMap<String, u64>) -> Vec<Vec<String>> {
    let mut sums = BTreeMap::new();
    for (name, count) in reports.iter().flat_map(of) {
        *sums.entry(name).or_insert(0) += count;
    }
    sums.into_iter().map(|(name, count)| row(&format!("{prefix}{name}"), count.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Line::try_parse_from(std::iter::once("sim").chain(line.split_whitespace())).map(|line| line.args)
    }

    #[test]
    fn a_failed_seed_is_told_as_the_line_that_plays_it_again() {
        let args =
            parse("--seed 7 --seeds 9 --kind nat --firewalls 3 --services yes --faults crash,engine --duration 2s")
                .unwrap();

        assert_eq!(
            args.again(12),
            "fwlb sim --seed 12 --firewalls 3 --kind nat --services yes --faults crash,engine --duration 2000ms --trace"
        );
        assert_eq!(
            parse(args.again(12).strip_prefix("fwlb sim ").unwrap()).unwrap().options().fault_kinds,
            args.options().fault_kinds
        );
    }

    #[test]
    fn an_unknown_fault_is_answered_with_the_known_ones() {
        let error = parse("--faults earthquake").unwrap_err().to_string();

        assert!(error.contains("earthquake") && error.contains("half-dead"), "{error}");
        assert_eq!(parse("--faults none").unwrap().options().fault_kinds, []);
    }
}
