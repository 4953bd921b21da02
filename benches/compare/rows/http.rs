//! Short HTTP connections of one request each. Rows with a goal use the benchmark's own ends, whose core becomes the
//! limit far later than with wrk and nginx, which rows without a goal use. Each row says where it did.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::bulk::{Busy, note_idle, serve, steer_ends};
use super::{Context, Field, Found};
use crate::candidates::{Candidate, Duty, Engine, Kind};
use crate::conversation::client::Tally;
use crate::ends::{Ends, Turn};
use crate::placement::{GENERATOR_CORE, Placement, cores};
use crate::process::Process;
use crate::stats::{median, ratios};
use crate::table::{Outcome, Share};

pub(super) const ROWS: &[&str] = &["http-haproxy", "http-nftables"];
pub(super) const WRK_ROWS: &[&str] = &["http-wrk-haproxy", "http-wrk-nftables"];

const FWLB: Kind = Kind::Fwlb(Engine::new(Duty::Balance));
const PEERS: [Kind; 2] = [Kind::Haproxy, Kind::Nftables];
/// More conversations per thousand than this that did not end well are noted.
const ENDED_BADLY: f64 = 1.0;

/// What one candidate did in its turns, by round.
#[derive(Debug, Clone, Default)]
struct Turns {
    /// Connections per second.
    rates: Vec<f64>,
    /// How busy both cores were.
    busy: Busy,
}

pub(super) fn measure(context: &Context) -> Result<Found> {
    let field = stand(context)?;
    let mut ends: Vec<_> = field.standing.iter().map(Ends::open).collect::<Result<_>>()?;
    let (rounds, settle, window) = if context.quick { (3, 150, 400) } else { (9, 200, 500) };
    let turns = take(&field, rounds, |turn| ends[turn].turn(settle, window))?;
    Ok(outcomes(&field, &turns, ROWS, |outcome, at| note_ends(outcome, field.standing[at].kind, &ends[at])))
}

/// The same with well-known programs.
pub(super) fn by_wrk(context: &Context) -> Result<Found> {
    let field = stand(context)?;
    let standing = &field.standing;
    steer_ends(standing)?;
    for candidate in standing {
        // Tens of thousands of connections a second need their ports back at once.
        candidate.lane.generator.sysctl(&["net.ipv4.ip_local_port_range=1024 65535", "net.ipv4.tcp_tw_reuse=1"])?;
        candidate.lane.sink.sysctl(&["net.core.somaxconn=4096"])?;
    }
    let configuration = context.directory.join("nginx.conf");
    std::fs::write(&configuration, nginx(&context.directory))?;
    let words = ["-c", &configuration.to_string_lossy()];
    let servers = serve(context, standing, Path::new("nginx"), &words)?;
    let turns = take(&field, 3, |turn| {
        let before = cores()?;
        let rate = load(context, &standing[turn])?;
        let after = cores()?;
        Ok(Turn { rate, busy: after.0.busy_since(&before.0), ends_busy: after.1.busy_since(&before.1) })
    })?;
    drop(servers);
    Ok(outcomes(&field, &turns, WRK_ROWS, |outcome, _| outcome))
}

fn stand(context: &Context) -> Result<Field> {
    context.stand(&[(FWLB, Placement::Split), (Kind::Haproxy, Placement::Rps), (Kind::Nftables, Placement::Rps)])
}

/// Lets the candidates take turns.
fn take(field: &Field, rounds: usize, mut turn: impl FnMut(usize) -> Result<Turn>) -> Result<Vec<Turns>> {
    let mut turns = vec![Turns::default(); field.standing.len()];
    for round in 0..rounds {
        for step in 0..turns.len() {
            let at = (round + step) % turns.len();
            let Turn { rate, busy, ends_busy } = turn(at)?;
            turns[at].rates.push(rate);
            turns[at].busy.device.push(busy);
            turns[at].busy.ends.push(ends_busy);
        }
    }
    Ok(turns)
}

/// The rows against both peers; `note` adds the notes about the candidate at a position.
fn outcomes(
    field: &Field,
    turns: &[Turns],
    rows: &'static [&'static str],
    note: impl Fn(Outcome, usize) -> Outcome,
) -> Found {
    let outcome = |theirs: Kind| {
        field.pair(FWLB, theirs, |own, peer| match ratios(&turns[own].rates, &turns[peer].rates) {
            None => Outcome::Skipped(format!("no connection came through {}", theirs.name())),
            Some(value) => {
                let middle = |values: &[f64]| median(values.iter().copied()).unwrap_or_default();
                let parties = [(FWLB, own), (theirs, peer)];
                let rates =
                    parties.map(|(kind, at)| Share::new(kind.name(), middle(&turns[at].rates), "connections/s"));
                let percent = |values: &[f64]| 100.0 * middle(values);
                let busy = parties.map(|(kind, at)| {
                    format!(
                        "{:.0} % of core 1 and {:.0} % of core 0 under {}",
                        percent(&turns[at].busy.device),
                        percent(&turns[at].busy.ends),
                        kind.name()
                    )
                });
                let outcome = Outcome::measured(value, rates.to_vec()).note(format!("busy: {}", busy.join(", ")));
                parties
                    .into_iter()
                    .fold(outcome, |outcome, (kind, at)| note(note_idle(outcome, kind, &turns[at].busy), at))
            }
        })
    };
    rows.iter().copied().zip(PEERS.map(outcome)).collect()
}

/// Adds a note if conversations did not end as they should.
fn note_ends(outcome: Outcome, kind: Kind, ends: &Ends) -> Outcome {
    let Tally { completed, reset, given_up, wrong, repeated, strays: _ } = ends.tally();
    let badly = reset + given_up + wrong;
    let refused = ends.refused();
    if (badly + repeated + refused) as f64 <= ENDED_BADLY / 1000.0 * completed as f64 {
        return outcome;
    }
    outcome.note(format!(
        "under {}: of {completed} connections {reset} were reset, {given_up} given up, {wrong} brought something else; \
         {repeated} segments were said again, {refused} found no room at a device",
        kind.name()
    ))
}

fn nginx(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {directory}/nginx.pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n access_log off;\n keepalive_timeout 0;\n client_body_temp_path {directory}/body;\n \
         proxy_temp_path {directory}/proxy;\n fastcgi_temp_path {directory}/fastcgi;\n \
         uwsgi_temp_path {directory}/uwsgi;\n scgi_temp_path {directory}/scgi;\n \
         server {{ listen 80 backlog=4096; location / {{ return 200 \"fwlb\\n\"; }} }}\n}}\n"
    )
}

fn load(context: &Context, candidate: &Candidate) -> Result<f64> {
    let address = format!("http://{}/", candidate.address());
    let words = ["-t1", "-c64", "-d", "1s", "-H", "Connection: close", &address];
    let lane = &candidate.lane;
    let client = Process::start(&context.directory, &lane.generator, GENERATOR_CORE, Path::new("wrk"), &words)?;
    let name = candidate.kind.name();
    let answer = client.finish(15_000).with_context(|| format!("wrk through {name}"))?;
    let rate = answer.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    rate.and_then(|rate| rate.trim().parse().ok()).with_context(|| format!("wrk's report has no rate: {answer}"))
}
