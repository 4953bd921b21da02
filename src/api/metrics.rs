//! `/metrics`: what is measured, as OpenMetrics.
//!
//! Names begin with `fwlb_` and follow Prometheus' conventions. Labels are names of the configuration and fixed words, so
//! that an engine has as many series as it has things, whatever its traffic. Every counter of `fwlb show counters` is there
//! under its own name; those of one kind are one family: `drop_<reason>` is `fwlb_drops_total{reason}`,
//! `punt_drop_<reason>` is `fwlb_punt_drops_total{reason}`, `pin_<change>` is `fwlb_pin_changes_total{change}`.

mod engine;
mod family;
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

/// The content type of OpenMetrics text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of Prometheus' older text.
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a page may be.
pub(super) const KINDS: [&str; 2] = [OPEN_METRICS, PLAIN];

/// What is measured of the process that runs the engines.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Process {
    /// Seconds of CPU that it took.
    pub cpu_seconds: f64,
    /// Memory that it has in RAM, in bytes.
    pub resident_bytes: u64,
    /// Its address space, in bytes.
    pub virtual_bytes: u64,
    /// File descriptors in use.
    pub open_fds: u64,
    /// File descriptors that it may use.
    pub max_fds: u64,
    /// Threads.
    pub threads: u64,
    /// When it started, in seconds since 1970.
    pub start_seconds: f64,
}

/// The engines of a process at about one instant.
#[derive(Debug)]
struct Scrape {
    engines: Vec<MeasuresView>,
    process: Option<Process>,
}

/// A page of metrics in the form that the `Accept` of `headers` prefers, with its content type.
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
    // Who asks for anything is given the standard; Prometheus names it first.
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
        match &self.process {
            Some(process) => engine::encode_process(&mut page, process),
            None => Ok(()),
        }
    }
}
