//! Short HTTP connections: one request each, wrk on one side and nginx on the other.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::bulk::{note_idle, serve, steer_ends};
use super::{Context, Found};
use crate::candidates::{Candidate, Duty, Engine, Kind};
use crate::placement::{CoreTime, DUT_CORE, GENERATOR_CORE, Placement};
use crate::process::Process;
use crate::stats::{median, ratios};
use crate::table::{Outcome, Share};

pub(super) const ROWS: &[&str] = &["http-haproxy", "http-nftables"];

const FWLB: Kind = Kind::Fwlb(Engine::new(Duty::Balance));

pub(super) fn measure(context: &Context) -> Result<Found> {
    let kinds = [(FWLB, Placement::Split), (Kind::Haproxy, Placement::Rps), (Kind::Nftables, Placement::Rps)];
    let field = context.stand(&kinds)?;
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
    let (rounds, duration) = if context.quick { (2, "1s") } else { (5, "2s") };
    let mut turns = vec![(Vec::new(), Vec::new()); standing.len()];
    for round in 0..rounds {
        for step in 0..standing.len() {
            let turn = (round + step) % standing.len();
            let before = CoreTime::of(DUT_CORE)?;
            turns[turn].0.push(load(context, &standing[turn], duration)?);
            turns[turn].1.push(CoreTime::of(DUT_CORE)?.busy_since(&before));
        }
    }
    drop(servers);
    let outcome = |theirs: Kind| {
        field.pair(FWLB, theirs, |own, peer| match ratios(&turns[own].0, &turns[peer].0) {
            None => Outcome::Skipped(format!("no connection came through {}", theirs.name())),
            Some(value) => {
                let share = |kind: Kind, at: usize| {
                    Share::new(kind.name(), median(turns[at].0.iter().copied()).unwrap_or_default(), "connections/s")
                };
                let outcome = Outcome::measured(value, vec![share(FWLB, own), share(theirs, peer)]);
                note_idle(outcome, FWLB, &turns[own].1)
            }
        })
    };
    Ok(ROWS.iter().copied().zip([Kind::Haproxy, Kind::Nftables].map(outcome)).collect())
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

fn load(context: &Context, candidate: &Candidate, duration: &str) -> Result<f64> {
    let address = format!("http://{}/", candidate.address());
    let words = ["-t1", "-c64", "-d", duration, "-H", "Connection: close", &address];
    let lane = &candidate.lane;
    let client = Process::start(&context.directory, &lane.generator, GENERATOR_CORE, Path::new("wrk"), &words)?;
    let name = candidate.kind.name();
    let answer = client.finish(15_000).with_context(|| format!("wrk through {name}"))?;
    let rate = answer.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    rate.and_then(|rate| rate.trim().parse().ok()).with_context(|| format!("wrk's report has no rate: {answer}"))
}
