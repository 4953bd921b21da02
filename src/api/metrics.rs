//! Writes the metrics page (`/metrics`) in OpenMetrics format.
//!
//! Names begin with `fwlb_` and follow the conventions of Prometheus. Labels are names of the configuration and fixed
//! words, so that the number of series depends on the configuration and never on the traffic. Every counter of `fwlb
//! show counters` has its own metric, and those of one kind form a family: `drop_<reason>` is
//! `fwlb_drops_total{reason}`, `punt_drop_<reason>` is `fwlb_punt_drops_total{reason}`, `pin_<change>` is
//! `fwlb_pin_changes_total{change}`.

mod engine;
mod family;
mod farm;
mod ha;
pub mod help;
mod members;
mod plain;

use std::fmt;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use crate::engine::view::MeasuresView;

use family::Page;

/// The media type of OpenMetrics text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The media type of the older Prometheus text format.
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The media types in which the page can be served.
pub(super) const KINDS: [&str; 2] = [OPEN_METRICS, PLAIN];

/// Measurements of the process that runs the engines.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Process {
    /// CPU time that it used, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Virtual memory, in bytes.
    pub virtual_bytes: u64,
    /// Number of open file descriptors.
    pub open_fds: u64,
    /// Limit of open file descriptors.
    pub max_fds: u64,
    /// Number of threads.
    pub threads: u64,
    /// When it started, in seconds since 1970.
    pub start_seconds: f64,
}

/// The measurements of a process's engines at about one instant.
#[derive(Debug)]
struct Scrape {
    engines: Vec<MeasuresView>,
    process: Option<Process>,
}

/// The metrics page in the format that the `Accept` header prefers, with its media type.
pub fn page(
    headers: &HeaderMap,
    engines: Vec<MeasuresView>,
    process: Option<Process>,
) -> Result<(&'static str, String), fmt::Error> {
    let mut registry = Registry::with_prefix("fwlb");
    registry.register_collector(Box::new(Scrape { engines, process }));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    // A client that accepts anything gets the standard format, which Prometheus also names first.
    match accept.contains("text/plain") && !accept.contains("application/openmetrics-text") {
        true => Ok((PLAIN, plain::from_open_metrics(&page))),
        false => Ok((OPEN_METRICS, page)),
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        engine::encode(&mut page, &self.engines)?;
        members::encode(&mut page, &self.engines)?;
        farm::encode(&mut page, &self.engines)?;
        ha::encode(&mut page, &self.engines)?;
        match &self.process {
            Some(process) => engine::encode_process(&mut page, process),
            None => Ok(()),
        }
    }
}
