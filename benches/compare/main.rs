//! Compares fwlb with its peers on this machine: DPDK testpmd, the kernel's router and load balancer, HAProxy, and a
//! minimal forwarder over the same ring.
//!
//! `appliance/compare` installs the peers from Debian and runs this; `cargo bench --bench compare -- --help` lists the
//! options. Everything happens in network namespaces that are removed afterwards. It needs root, two cores and a quiet
//! machine.
//!
//! | file | is |
//! | --- | --- |
//! | `catalogue`, `table` | the rows, their goals, their results |
//! | `ground`, `lane`, `placement`, `process` | namespaces, cables, placement on cores, programs that end with us |
//! | `generator` | packets; the sink of a lane counts them |
//! | `conversation`, `ends` | short HTTP conversations: both ends as values, and on raw frames |
//! | `candidates` | the candidates, each in a lane of its own |
//! | `rounds`, `search`, `stats` | turns and ratios; the loss-free rate; quartiles |
//! | `rows` | the measurements |
//! | `conditions`, `report`, `plot` | the head, the table as text and JSON, the picture |

mod candidates;
mod catalogue;
mod conditions;
mod conversation;
mod ends;
mod generator;
mod ground;
mod lane;
mod placement;
mod plot;
mod process;
mod report;
mod rounds;
mod rows;
mod search;
mod stats;
mod table;
#[path = "../traffic/mod.rs"]
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use fwlb::io::clock::Clock;

use crate::catalogue::ROWS;
use crate::report::{Line, Report};
use crate::table::{Outcome, Row};

/// Measure fwlb beside its peers and print the table of goals
#[derive(Debug, Parser)]
#[command(name = "compare")]
struct Args {
    /// A minute instead of seven: fewer and shorter rounds, and only the rows that --list marks as quick
    #[arg(long)]
    quick: bool,
    /// Only rows whose names contain one of these words, separated by commas
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    rows: Vec<String>,
    /// Print the names of the rows and end
    #[arg(long)]
    list: bool,
    /// Write the table as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table as a picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// What `cargo bench` gives to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((word, devices)) if word == candidates::minimal::WORD => candidates::minimal::forward(devices),
        Some((word, [sessions])) if word == rows::FILL_WORD => rows::fill_and_tell(sessions.parse()?),
        _ => compare(&Args::parse()),
    }
}

fn compare(args: &Args) -> Result<()> {
    let wanted: Vec<&'static Row> = ROWS.iter().filter(|row| wants(args, row)).collect();
    if args.list {
        for row in wanted {
            let quick = if row.quick { "quick" } else { "" };
            println!("{:<28} {quick:<6} {} against {}, {}", row.id, row.what, row.against, row.placement);
        }
        return Ok(());
    }
    ensure!(!wanted.is_empty(), "no row has such a name: --list prints them");
    ensure!(rustix::process::geteuid().is_root(), "namespaces need root: run this as root, or use appliance/compare");
    ensure!(std::thread::available_parallelism()?.get() >= 2, "it needs two cores: one sends, one is measured");
    let clock = Clock::new();
    ground::watch_signals()?;
    ground::remove_what_dead_runs_left()?;
    let directory = tempfile::tempdir().context("cannot make a directory for the candidates' files")?;
    let context = rows::Context { quick: args.quick, directory: directory.path().to_owned(), wanted };
    let warnings = conditions::warnings()?;
    let conditions = conditions::conditions();
    let mut found = rows::Found::new();
    let end = context.measure(&mut found, |rows| eprintln!("measuring {}", rows.join(", ")));
    let lines = context.wanted.iter().map(|row| {
        let position = found.iter().position(|(id, _)| *id == row.id);
        let outcome = position.map(|position| found.swap_remove(position).1);
        Line::new(**row, outcome.unwrap_or_else(|| Outcome::Skipped("not measured".to_owned())))
    });
    let rows = lines.collect();
    let report = Report { conditions, warnings, rows };
    print!("{}", report.text());
    eprintln!("it took {} s", clock.now().as_millis() / 1000);
    if let Some(path) = &args.json {
        std::fs::write(path, report.json()?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.svg {
        let subtitle = subtitle(&report);
        std::fs::write(path, plot::svg(&report, &subtitle))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    end
}

fn wants(args: &Args, row: &Row) -> bool {
    let named = args.rows.is_empty() || args.rows.iter().any(|word| row.id.contains(word.as_str()));
    // A row that is named is measured, however long it takes.
    named && (row.quick || !args.quick || !args.rows.is_empty())
}

fn subtitle(report: &Report) -> String {
    let value = |name: &str| report.conditions.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let parts = ["processor", "kernel"].map(|name| value(name).unwrap_or_default());
    format!("{}, kernel {}: {}", parts[0], parts[1], report.sum())
}
