//! The whole forwarder in memory, in batches of 64 packets: parsing, session, rewriting, counters, but no I/O.
//!
//! The times of `forward` are per batch, and the throughput is in packets. `fill` is the time to make a batch, which
//! every other time contains.
#![allow(missing_docs, reason = "the macros of criterion make public items")]

mod traffic;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fwlb::wire::Family;
use traffic::{BATCH, Pattern, Traffic};

/// Number of sessions that a round of "new sessions" opens, which is also the capacity of the table.
const NEW: u32 = 1 << 17;

fn forward(c: &mut Criterion) {
    let mut group = c.benchmark_group("forward");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (family, name) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
        for (flows, pattern, title) in [
            (10_000, Pattern::Uniform, "10k uniform"),
            (1_000_000, Pattern::Skewed, "1M, 90% on 2000"),
            (1_000_000, Pattern::Uniform, "1M uniform"),
        ] {
            let mut traffic = Traffic::new(family, flows, 0, pattern);
            group.bench_function(BenchmarkId::new(format!("fill {title}"), name), |b| b.iter(|| traffic.fill_known()));
            group.bench_function(BenchmarkId::new(format!("known {title}"), name), |b| b.iter(|| traffic.known()));
        }
    }
    group.finish();

    let mut group = c.benchmark_group("new sessions");
    group.sample_size(20).throughput(Throughput::Elements(u64::from(NEW)));
    for (family, name) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
        group.bench_function(name, |b| {
            let empty = || Traffic::new(family, 0, NEW as usize, Pattern::Uniform);
            let fill = |traffic: &mut Traffic| (0..NEW / BATCH as u32).for_each(|_| traffic.new_sessions());
            b.iter_batched_ref(empty, fill, BatchSize::PerIteration)
        });
    }
    group.finish();
}

criterion_group!(benches, forward);
criterion_main!(benches);
