use super::*;
use crate::random::SplitMix64;

const VECTORS: &str = include_str!("../../../tests/vectors/flow_hash.tsv");

fn hasher(mode: HashMode) -> FlowHasher {
    FlowHasher::new(Seed::from_text("correct horse battery staple"), mode)
}

fn flow(protocol: u8, source: &str, source_port: u16, destination: &str, destination_port: u16) -> FlowKey {
    let end = |address: &str, port| Endpoint { address: address.parse().unwrap(), port };
    FlowKey { protocol, source: end(source, source_port), destination: end(destination, destination_port) }
}

fn mode(name: &str) -> HashMode {
    match name {
        "5-tuple" => HashMode::FiveTuple,
        "3-tuple" => HashMode::ThreeTuple,
        "addresses" => HashMode::Addresses,
        "source" => HashMode::Source,
        "destination" => HashMode::Destination,
        other => panic!("no such mode: {other}"),
    }
}

/// Enough randomness to spread tuples, the same in every run.
struct Random(SplitMix64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn flow(&mut self, v6: bool) -> FlowKey {
        let mut end = || {
            let (high, low) = (self.next(), self.next());
            let address = if v6 {
                IpAddr::from((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
            } else {
                IpAddr::from((high as u32).to_be_bytes())
            };
            Endpoint { address, port: (high >> 40) as u16 }
        };
        let (source, destination) = (end(), end());
        FlowKey { protocol: self.next() as u8, source, destination }
    }
}

#[test]
fn agrees_with_the_independent_implementation_on_every_vector() {
    let mut seen = 0;
    for line in VECTORS.lines().skip(1) {
        let field: Vec<&str> = line.split('\t').collect();
        let hasher = FlowHasher::new(Seed::from_text(field[0]), mode(field[1]));
        let number = |text: &str| text.parse::<u16>().unwrap();
        let flow = flow(number(field[2]) as u8, field[3], number(field[4]), field[5], number(field[6]));

        let hash = hasher.flow_hash(&flow);

        assert_eq!(format!("{:016x}", hash.0), field[7], "flow hash of {line}");
        assert_eq!(format!("{:016x}", hasher.member_hash(hash, field[8])), field[9], "member hash of {line}");
        seen += 1;
    }
    assert_eq!(seen, 64);
}

#[test]
fn the_documented_vectors_are_the_code() {
    let documentation = include_str!("../hash.rs");
    let row =
        |line: &str| line.trim_start_matches("//! ").split('|').map(|cell| cell.trim().replace('`', "")).collect();
    let rows: Vec<Vec<String>> = documentation
        .lines()
        .filter(|line| line.starts_with("//! | `") && line.matches('|').count() == 9)
        .map(row)
        .collect();
    assert!(rows.len() >= 8, "{} vectors in the documentation", rows.len());
    for row in rows {
        let hasher = hasher(mode(&row[1]));
        let flow = flow(row[2].parse().unwrap(), &row[3], row[4].parse().unwrap(), &row[5], row[6].parse().unwrap());
        let hash = hasher.flow_hash(&flow);
        assert_eq!(format!("{:016x}", hash.0), row[7]);
        assert_eq!(format!("{:016x}", hasher.member_hash(hash, "fw1")), row[8]);
    }
}

#[test]
fn symmetric_on_a_million_tuples() {
    let mut random = Random(SplitMix64::new(1));
    let hashers = [HashMode::FiveTuple, HashMode::ThreeTuple, HashMode::Addresses].map(hasher);
    for i in 0..1_000_000_usize {
        let flow = random.flow(i % 4 == 3);
        let hasher = &hashers[if i % 8 == 0 { 1 + i / 8 % 2 } else { 0 }];
        assert_eq!(hasher.flow_hash(&flow), hasher.flow_hash(&flow.reversed()), "{flow:?}");
    }
}

#[test]
fn modes_forget_what_they_do_not_name() {
    let one = flow(6, "10.0.0.1", 1000, "10.0.0.2", 80);
    let other_port = flow(6, "10.0.0.1", 1001, "10.0.0.2", 80);
    let other_protocol = flow(17, "10.0.0.1", 1000, "10.0.0.2", 80);
    let other_far = flow(6, "10.0.0.1", 1000, "10.0.0.3", 80);
    let same = |mode, flow| hasher(mode).flow_hash(&one) == hasher(mode).flow_hash(flow);

    let table = [
        (HashMode::FiveTuple, [false, false, false]),
        (HashMode::ThreeTuple, [true, false, false]),
        (HashMode::Addresses, [true, true, false]),
        (HashMode::Source, [true, true, true]),
        (HashMode::Destination, [true, true, false]),
    ];
    for (mode, expected) in table {
        let seen = [same(mode, &other_port), same(mode, &other_protocol), same(mode, &other_far)];
        assert_eq!(seen, expected, "{mode:?}");
    }
}

#[test]
fn source_on_one_side_meets_destination_on_the_other() {
    let toward_inside = flow(6, "198.51.100.7", 40000, "203.0.113.80", 443);
    let source = hasher(HashMode::Source).flow_hash(&toward_inside);
    let destination = hasher(HashMode::Destination).flow_hash(&toward_inside.reversed());
    assert_eq!(source, destination);
}

#[test]
fn equal_ends_have_a_hash_like_any_other_flow() {
    let land = flow(6, "10.0.0.1", 80, "10.0.0.1", 80);
    for mode in [HashMode::FiveTuple, HashMode::ThreeTuple, HashMode::Addresses] {
        assert_eq!(hasher(mode).flow_hash(&land), hasher(mode).flow_hash(&land.reversed()));
    }
}

#[test]
fn one_flipped_bit_of_input_flips_half_of_the_output() {
    let mut random = Random(SplitMix64::new(2));
    let hasher = hasher(HashMode::FiveTuple);
    let (mut flipped, mut trials) = (0_u32, 0_u32);
    let mut per_bit = [0_u32; 64];
    for _ in 0..400 {
        let flow = random.flow(false);
        let IpAddr::V4(address) = flow.source.address else { unreachable!("IPv4 was asked for") };
        let before = hasher.flow_hash(&flow).0;
        for bit in 0..32 {
            let mut other = flow;
            other.source.address = IpAddr::from((u32::from(address) ^ 1 << bit).to_be_bytes());
            let difference = before ^ hasher.flow_hash(&other).0;
            flipped += difference.count_ones();
            trials += 1;
            for (output, count) in per_bit.iter_mut().enumerate() {
                *count += (difference >> output & 1) as u32;
            }
        }
    }
    let mean = f64::from(flipped) / f64::from(trials);
    assert!((31.7..32.3).contains(&mean), "{mean} of 64 output bits flip");
    for count in per_bit {
        let share = f64::from(count) / f64::from(trials);
        assert!((0.48..0.52).contains(&share), "an output bit flips in {share} of the trials");
    }
}

/// Sequential clients are what real traffic looks like; a weak hash shows on them first.
#[test]
fn sequential_flows_spread_evenly() {
    const BUCKETS: usize = 64;
    let hasher = hasher(HashMode::FiveTuple);
    let mut counts = [0_u32; BUCKETS];
    let flows = 64_000_u32;
    for i in 0..flows {
        let source = IpAddr::from((0x0a00_0000 + i / 64).to_be_bytes());
        let mut flow = flow(6, "10.0.0.1", 0, "203.0.113.80", 443);
        flow.source = Endpoint { address: source, port: 32_768 + (i % 64) as u16 };
        counts[(hasher.flow_hash(&flow).0 >> 58) as usize] += 1;
    }
    let expected = f64::from(flows) / BUCKETS as f64;
    let chi_square: f64 = counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
    // 63 degrees of freedom: 99 % of good hashes stay below 92.0.
    assert!(chi_square < 92.0, "chi-square {chi_square}");
}

#[test]
fn seeds_and_names_matter() {
    let flow = flow(6, "198.51.100.7", 40000, "203.0.113.80", 443);
    let other = FlowHasher::new(Seed::from_text("correct horse battery staplE"), HashMode::FiveTuple);
    let hasher = hasher(HashMode::FiveTuple);
    assert_ne!(hasher.flow_hash(&flow), other.flow_hash(&flow));
    assert_ne!(hasher.member_hash(FlowHash(1), "fw1"), hasher.member_hash(FlowHash(1), "fw2"));
    assert_ne!(hasher.member_hash(FlowHash(1), "fw1"), hasher.member_hash(FlowHash(2), "fw1"));
    assert_ne!(hasher.member_hash(FlowHash(1), "fw1"), other.member_hash(FlowHash(1), "fw1"));
}

#[test]
fn a_digest_is_keyed_apart_from_the_paths() {
    let seed = Seed::from_text("correct horse battery staple");
    assert_eq!(seed.digest(b"live set"), Seed::from_text("correct horse battery staple").digest(b"live set"));
    assert_ne!(seed.digest(b"live set"), Seed::from_text("another").digest(b"live set"));
    assert_ne!(seed.digest(b"live set"), SipHasher24::new_with_key(&seed.path).hash(b"live set"));
    assert_eq!(format!("{seed:?}"), "Seed(secret)");
}
