//! Time of the parts of packet processing: parsing, hashing, the session table, translation, selection of firewall and
//! server.
//!
//! `cargo bench --bench parts` runs all; `cargo bench --bench parts -- session` runs one.
#![allow(missing_docs, reason = "the macros of criterion make public items")]

mod traffic;

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use fwlb::flow::{Endpoint, FlowHasher, HashMode, Seed};
use fwlb::id::FirewallId;
use fwlb::nat::{NatDirection, Translation};
use fwlb::path::rendezvous;
use fwlb::path::{BelowMin, FirewallGroup, GroupMember, OnFailure};
use fwlb::slb::Maglev;
use fwlb::wire::Family;
use fwlb::wire::offload::Offload;
use traffic::{Numbers, flow, frame, parse};

const FAMILIES: [(Family, &str); 2] = [(Family::V4, "ipv4"), (Family::V6, "ipv6")];

fn wire(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for (family, name) in FAMILIES {
        let mut bytes = frame(&flow(family, 7));
        group.bench_function(name, |b| b.iter(|| black_box(parse(black_box(&mut bytes)).tuple())));
    }
    group.finish();

    let mut group = c.benchmark_group("translate");
    for (family, name) in FAMILIES {
        let outside = flow(family, 7);
        let inside = fwlb::flow::FlowKey { destination: Endpoint { port: 8080, ..outside.destination }, ..outside };
        let translation = Translation { outside, inside };
        let back = Translation { outside: inside, inside: outside };
        let mut bytes = frame(&outside);
        // The frame is translated forth and back, so that it is the same before every round.
        group.bench_function(BenchmarkId::new("there and back", name), |b| {
            b.iter(|| {
                let mut frame = parse(&mut bytes);
                translation.apply(&mut frame, &Offload::NONE, NatDirection::ToServer).expect("translated");
                back.apply(&mut frame, &Offload::NONE, NatDirection::ToServer).expect("translated back");
            })
        });
    }
    group.finish();
}

fn hash(c: &mut Criterion) {
    let hasher = FlowHasher::new(Seed::from_text("a bench's seed"), HashMode::FiveTuple);
    let mut group = c.benchmark_group("hash");
    for (family, name) in FAMILIES {
        let key = flow(family, 7);
        group.bench_function(BenchmarkId::new("flow", name), |b| b.iter(|| hasher.flow_hash(black_box(&key))));
        group.bench_function(BenchmarkId::new("canonical key", name), |b| b.iter(|| black_box(&key).canonical()));
    }
    group.finish();

    let mut group = c.benchmark_group("select firewall");
    for members in [2, 8, 64] {
        let perimeter = perimeter(members);
        let selectable = if members == 64 { u64::MAX } else { (1 << members) - 1 };
        group.bench_function(BenchmarkId::from_parameter(members), |b| {
            let mut numbers = Numbers::new();
            b.iter(|| {
                let key = flow(Family::V4, numbers.below(1_000_000));
                rendezvous::select(&perimeter, selectable, perimeter.hasher.flow_hash(&key))
            })
        });
    }
    group.finish();
}

fn perimeter(firewalls: u16) -> FirewallGroup {
    let member = |number| GroupMember { id: FirewallId(number), name: format!("fw{number}"), weight: 1, spare: false };
    FirewallGroup {
        id: fwlb::id::GroupId(0),
        name: "perimeter".to_owned(),
        hasher: FlowHasher::new(Seed::from_text("a bench's seed"), HashMode::FiveTuple),
        members: (0..firewalls).map(member).collect(),
        on_failure: OnFailure::Reselect,
        min_up: 1,
        below_min: BelowMin::Drop,
        has_mates: false,
    }
}

fn session(c: &mut Criterion) {
    let mut group = c.benchmark_group("session");
    for (family, name) in FAMILIES {
        for (sessions, title) in [(10_000, "10k"), (1_000_000, "1M")] {
            let table = traffic::Traffic::new(family, sessions, 0, traffic::Pattern::Uniform).into_table();
            let mut numbers = Numbers::new();
            group.bench_function(BenchmarkId::new(format!("hit {title}"), name), |b| {
                b.iter(|| {
                    let (key, _) = flow(family, numbers.below(sessions)).canonical();
                    let id = table.find(&key).expect("known");
                    table.update(id, |session| session.last_seen)
                })
            });
            group.bench_function(BenchmarkId::new(format!("miss {title}"), name), |b| {
                b.iter(|| {
                    let (key, _) = flow(family, 1 << 30 | numbers.below(sessions)).canonical();
                    table.find(&key)
                })
            });
        }
    }
    group.finish();
}

fn balance(c: &mut Criterion) {
    let mut group = c.benchmark_group("maglev");
    for servers in [10, 1000, 4128] {
        let names: Vec<_> = (0..servers).map(|number| format!("s{number}")).collect();
        group.sample_size(10).bench_function(BenchmarkId::new("build", servers), |b| {
            b.iter_batched(
                || (),
                |()| Maglev::new(names.iter().map(|name| (name.as_str(), 1))),
                BatchSize::PerIteration,
            )
        });
    }
    group.finish();
}

criterion_group!(benches, wire, hash, session, balance);
criterion_main!(benches);
