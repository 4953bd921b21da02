//! Writes metric families: name, help text, type, and samples with labels.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::engine::view::HistogramView;

/// Names and values of labels.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Name and help text of a family. With a unit the name ends in it: `lag` in seconds is `fwlb_lag_seconds`.
pub(super) struct Family<'a> {
    pub(super) name: &'a str,
    pub(super) help: &'a str,
    pub(super) unit: Option<Unit>,
}

/// A page that is being written.
pub(super) struct Page<'e>(DescriptorEncoder<'e>);

/// The family `name` without a unit.
pub(super) const fn of<'a>(name: &'a str, help: &'a str) -> Family<'a> {
    Family { name, help, unit: None }
}

/// The family `name` in seconds.
pub(super) const fn seconds<'a>(name: &'a str, help: &'a str) -> Family<'a> {
    Family { name, help, unit: Some(Unit::Seconds) }
}

/// The family `name` in bytes.
pub(super) const fn bytes<'a>(name: &'a str, help: &'a str) -> Family<'a> {
    Family { name, help, unit: Some(Unit::Bytes) }
}

/// The family `name` as a ratio, where 1 is the whole.
pub(super) fn ratio<'a>(name: &'a str, help: &'a str) -> Family<'a> {
    Family { name, help, unit: Some(Unit::Other("ratio".to_owned())) }
}

impl<'e> Page<'e> {
    pub(super) fn new(encoder: DescriptorEncoder<'e>) -> Self {
        Self(encoder)
    }

    /// Writes counters; the names of the samples end in `_total`.
    pub(super) fn counters<'a>(
        &mut self,
        family: Family<'_>,
        samples: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        self.family(family, MetricType::Counter, samples, |metric, value| {
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    /// Writes counters with fractional values.
    pub(super) fn fractions<'a>(
        &mut self,
        family: Family<'_>,
        samples: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) -> fmt::Result {
        self.family(family, MetricType::Counter, samples, |metric, value| {
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    /// Writes one counter with a fractional value.
    pub(super) fn counter(&mut self, family: Family<'_>, value: f64) -> fmt::Result {
        self.family(family, MetricType::Counter, [(Vec::new(), value)], |metric, value| {
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    /// Writes gauges with integral values.
    pub(super) fn gauges<'a>(
        &mut self,
        family: Family<'_>,
        samples: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        self.family(family, MetricType::Gauge, samples, |metric, value| metric.encode_gauge(&value))
    }

    /// Writes gauges with fractional values.
    pub(super) fn fractional_gauges<'a>(
        &mut self,
        family: Family<'_>,
        samples: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) -> fmt::Result {
        self.family(family, MetricType::Gauge, samples, |metric, value| metric.encode_gauge(&value))
    }

    /// Writes gauges of 0 and 1: one per word of `words`, 1 for the present state.
    pub(super) fn states<'a>(
        &mut self,
        family: Family<'_>,
        label: &'static str,
        words: &[&'a str],
        samples: impl IntoIterator<Item = (Labels<'a>, &'a str)>,
    ) -> fmt::Result {
        let each = samples.into_iter().flat_map(|(labels, is)| {
            words.iter().map(move |word| {
                let mut labels = labels.clone();
                labels.push((label, word));
                (labels, u64::from(*word == is))
            })
        });
        self.gauges(family, each)
    }

    /// Writes information as labels of samples with the value 1.
    pub(super) fn infos<'a>(
        &mut self,
        family: Family<'_>,
        samples: impl IntoIterator<Item = (Labels<'a>, Labels<'a>)>,
    ) -> fmt::Result {
        self.family(family, MetricType::Info, samples, |metric, told| metric.encode_info(&told))
    }

    /// Writes histograms.
    pub(super) fn histograms<'a>(
        &mut self,
        family: Family<'_>,
        samples: impl IntoIterator<Item = (Labels<'a>, &'a HistogramView)>,
    ) -> fmt::Result {
        self.family(family, MetricType::Histogram, samples, |metric, histogram| {
            let bounds = histogram.bounds.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(histogram.counts.iter().copied()).collect();
            metric.encode_histogram::<NoLabelSet>(histogram.sum, histogram.count(), &buckets, None)
        })
    }

    /// Writes a family, unless it has no samples.
    fn family<'a, V>(
        &mut self,
        Family { name, help, unit }: Family<'_>,
        kind: MetricType,
        samples: impl IntoIterator<Item = (Labels<'a>, V)>,
        encode: impl Fn(&mut MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                encode(&mut metric, value)?;
            } else {
                encode(&mut metric.encode_family(&labels)?, value)?;
            }
        }
        Ok(())
    }
}
