//! `fwlb report`: sums the log of sessions that ended.

mod line;
mod quantiles;
mod sums;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use clap::ValueEnum;

use crate::cli::output;
use line::Line;
use sums::{Report, Sums};

/// A longer line does not belong to the log; at most this much of it is kept in memory.
const LINE_MAX: u64 = 64 << 10;

/// Sum a log of sessions (`sessions` of `[log]`) per server, firewall, client, service, reason or hour
///
/// Reads files in order, `-` is standard input (zcat old.json.gz | fwlb report -). Lines that are none of the log's are
/// counted and passed over. Times are those at which sessions ended; median and p95 are exact to 2 %.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Logs of sessions; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What each row is of
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = By::Server)]
    by: By,
    /// Rows, those with the most sessions first (hours in their order); 0: all
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Only sessions that ended at this time (2026-01-31, 2026-01-31T08:30:00Z) or later
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<SystemTime>,
    /// Only sessions that ended before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<SystemTime>,
}

/// What a row is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Service and real server
    Server,
    /// Group and firewall; a session through two groups is counted at both firewalls
    Firewall,
    /// Address that opened the session
    Client,
    /// Virtual service
    Service,
    /// Why it ended
    Reason,
    /// Hour in which it ended, UTC
    Hour,
}

pub fn run(args: &Args, json: bool) -> anyhow::Result<ExitCode> {
    let twice: BTreeSet<_> = args.files.iter().filter(|file| *file == Path::new("-")).collect();
    anyhow::ensure!(twice.len() <= 1, "standard input can be read once");
    let mut sums = Sums::new(args.by);
    for path in &args.files {
        if path == Path::new("-") {
            read(io::stdin().lock(), args, &mut sums).context("cannot read standard input")?;
        } else {
            let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            read(file, args, &mut sums).with_context(|| format!("cannot read {}", path.display()))?;
        }
    }
    let report = sums.report(args.top);
    if json {
        output::print_json(&report)?;
    } else {
        output::print(&show(&report, args.by))?;
    }
    Ok(if report.used == 0 && report.errors > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Adds every line of a log. Memory does not grow with the input.
fn read(input: impl Read, args: &Args, sums: &mut Sums) -> io::Result<()> {
    let mut input = BufReader::with_capacity(1 << 20, input);
    if input.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        let message = "it is compressed: zcat FILE | fwlb report -";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let mut text = Vec::new();
    loop {
        text.clear();
        if input.by_ref().take(LINE_MAX).read_until(b'\n', &mut text)? == 0 {
            return Ok(());
        }
        if text.last() != Some(&b'\n') && text.len() as u64 == LINE_MAX {
            input.skip_until(b'\n')?;
            sums.error();
            continue;
        }
        match Line::parse(&text) {
            None => sums.error(),
            Some(line) => {
                let early = args.since.is_some_and(|since| line.at < since);
                let late = args.until.is_some_and(|until| line.at >= until);
                if early || late { sums.skip() } else { sums.add(&line) }
            }
        }
    }
}

fn show(report: &Report, by: By) -> String {
    let title = match by {
        By::Server => "SERVER",
        By::Firewall => "FIREWALL",
        By::Client => "CLIENT",
        By::Service => "SERVICE",
        By::Reason => "REASON",
        By::Hour => "HOUR",
    };
    let titles = [title, ">SESSIONS", ">SHARE", ">PACKETS", ">BYTES", ">MEAN", ">MEDIAN", ">P95"];
    let rows: Vec<Vec<String>> = report
        .rows
        .iter()
        .chain(report.rest.iter())
        .map(|row| {
            vec![
                row.name.clone(),
                row.sessions.to_string(),
                format!("{:.1}%", row.share_percent),
                row.packets.to_string(),
                row.bytes.to_string(),
                output::duration_ms(row.mean_ms),
                output::duration_ms(row.median_ms),
                output::duration_ms(row.p95_ms),
            ]
        })
        .collect();
    let mut text = output::table(&titles, &rows);
    let Report { lines, used, errors, passed_over, .. } = report;
    text += &format!("{lines} lines in, {used} used, {errors} errors");
    if *passed_over > 0 {
        text += &format!(", {passed_over} of other times");
    }
    text.push('\n');
    if let Some(limit) = report.limited_to {
        text += &format!(
            "more than {limit} different names: those that came later are summed as \"{}\"\n",
            sums::OTHERS_NAME
        );
    }
    text
}

/// A date, or a date with a time.
fn moment(text: &str) -> Result<SystemTime, String> {
    let whole = if text.len() == "2026-01-31".len() { format!("{text}T00:00:00Z") } else { text.to_owned() };
    humantime::parse_rfc3339_weak(&whole)
        .map_err(|error| format!("{error}; write 2026-01-31 or 2026-01-31T08:30:00Z, in UTC"))
}

#[cfg(test)]
mod tests;
