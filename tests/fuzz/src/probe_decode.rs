//! Any bytes as the payload of a path probe, with the authentication that belongs to them: no panic, and what is accepted
//! is read back the same after it was written again.

use fwlb::flow::Seed;
use fwlb::wire::probe::{InvalidProbe, MAGIC, Probe};

/// The bytes before the part that the authentication covers: magic, format, authentication.
const PREFIX: usize = 13;

/// Runs one input, whose bytes at 5..13 are replaced by the right authentication. Returns whether it was accepted.
pub fn run(data: &[u8]) -> bool {
    let seed = Seed::from_text("fuzz");
    let keyed = |bytes: &[u8]| seed.digest(bytes);
    let mut bytes = data.to_vec();
    if bytes.len() >= PREFIX {
        let authentication = keyed(&bytes[PREFIX..]);
        bytes[PREFIX - 8..PREFIX].copy_from_slice(&authentication.to_be_bytes());
    }
    let probe = match Probe::decode(&bytes, keyed) {
        Ok(probe) => probe,
        Err(InvalidProbe::NotAProbe) => {
            assert!(!bytes.starts_with(&MAGIC));
            return false;
        }
        Err(InvalidProbe::Version(_) | InvalidProbe::Unauthentic | InvalidProbe::Malformed) => return false,
    };
    let again = Probe::decode(&probe.encode(keyed), keyed).expect("what was read can be written");
    let fit = Probe::notes_that_fit(&probe.notes);
    let expected = Probe { notes: probe.notes[..fit].to_vec(), ..probe };
    assert_eq!(again, expected);
    true
}
