//! Replays the seeds of the fuzz targets and damaged copies of them through the same entry functions, so that these
//! checks run without libFuzzer.

use std::fs;
use std::path::Path;

use fwlb::random::SplitMix64;

#[path = "fuzz/src/forwarder_process.rs"]
mod forwarder_process;
#[path = "fuzz/src/frame_parse.rs"]
mod frame_parse;
#[path = "fuzz/src/probe_decode.rs"]
mod probe_decode;

/// The seeds of a fuzz target, in the order of their names.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let mut seeds: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("the directory can be read").path())
        .map(|path| {
            let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("a seed can be read"))
        })
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 10, "{} seeds in {}", seeds.len(), directory.display());
    seeds
}

/// Prints the name of the input if the entry function panics.
fn run<T>(target: fn(&[u8]) -> T, name: &str, input: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| drop(target(input))) {
        eprintln!("the input was {name}: {input:02x?}");
        std::panic::resume_unwind(panic);
    }
}

/// Damages the seeds in the same way in every run.
struct Random(SplitMix64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }

    fn wound(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(8) {
                0..=2 => bytes[at] = self.below(256) as u8,
                3..=5 => bytes[at] ^= 1 << self.below(8),
                6 => bytes.truncate(at),
                _ => bytes.insert(at, self.below(256) as u8),
            }
        }
    }
}

fn replay<T>(name: &str, target: fn(&[u8]) -> T, wounds: u32) {
    let mut random = Random(SplitMix64::new(2026));
    for (seed, bytes) in seeds(name) {
        run(target, &seed, &bytes);
        for wound in 0..wounds {
            let mut wounded = bytes.clone();
            random.wound(&mut wounded);
            run(target, &format!("{seed}, wound {wound}"), &wounded);
        }
    }
}

#[test]
fn the_frame_parser_keeps_its_laws_over_the_corpus() {
    replay("frame_parse", frame_parse::run, 2000);
}

#[test]
fn the_forwarder_keeps_its_promises_over_the_corpus() {
    replay("forwarder_process", forwarder_process::run, 100);
}

#[test]
fn probes_are_read_back_as_they_were_read_over_the_corpus() {
    replay("probe_decode", probe_decode::run, 2000);
}

#[test]
fn the_seeds_of_the_probe_reader_are_probes_but_for_the_named_ones() {
    for (name, bytes) in seeds("probe_decode") {
        assert_eq!(probe_decode::run(&bytes), !name.starts_with("bad-"), "{name}");
    }
}

/// A seed that is refused at the entry proves nothing about the code behind it.
#[test]
fn the_seeds_of_the_frame_parser_are_legal_frames_but_for_the_named_ones() {
    use fwlb::wire::frame::Frame;
    use fwlb::wire::offload::Offload;

    for (name, mut bytes) in seeds("frame_parse") {
        let parsed = Frame::parse(&mut bytes[1..], &Offload::NONE);
        assert_eq!(parsed.is_err(), name.starts_with("bad-"), "{name}");
    }
}

#[test]
fn the_seeds_of_the_forwarder_reach_its_rooms() {
    use fwlb::engine::DropReason;

    let runs: Vec<_> =
        seeds("forwarder_process").into_iter().map(|(_, bytes)| forwarder_process::run(&bytes)).collect();
    let total = |count: fn(&fwlb::engine::Counters) -> u64| runs.iter().map(count).sum::<u64>();
    for (what, count) in [
        ("forwarded", total(|counters| counters.forwarded)),
        ("hairpinned", total(|counters| counters.hairpinned)),
        ("punted", total(|counters| counters.punted)),
        ("sessions created", total(|counters| counters.sessions_created)),
        ("sessions expired", total(|counters| counters.sessions_expired)),
        ("sessions evicted", total(|counters| counters.sessions_evicted)),
        ("resets sent", total(|counters| counters.resets_sent)),
        ("fragments released", total(|counters| counters.fragments_released)),
        ("fragments given up", total(|counters| counters.punt_drop_fragment_timeout)),
    ] {
        assert!(count > 0, "no seed: {what}");
    }
    for reason in [
        DropReason::EthernetTruncated,
        DropReason::UnknownVlan,
        DropReason::OtherHost,
        DropReason::LinkControl,
        DropReason::Multicast,
        DropReason::TtlExpired,
        DropReason::TooBig,
        DropReason::FragmentOverlap,
        DropReason::PuntQueueFull,
    ] {
        assert!(runs.iter().any(|counters| counters.drops_for(reason) > 0), "no seed: {}", reason.name());
    }
}
