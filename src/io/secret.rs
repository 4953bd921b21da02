//! Makes secrets from the kernel's random numbers.

use std::fmt::Write;
use std::io;

use ring::rand::{SecureRandom, SystemRandom};

/// Bytes of a new key.
const KEY_BYTES: usize = 32;

/// A new key of 256 random bits as hexadecimal digits, for the nodes of a cluster.
///
/// # Errors
/// The kernel has no random numbers.
pub fn new_key() -> io::Result<String> {
    let mut bytes = [0; KEY_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the kernel has no random numbers"))?;
    let mut text = String::with_capacity(2 * KEY_BYTES);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes everything");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_long_and_never_the_same() {
        let key = new_key().unwrap();
        assert_eq!(key.len(), 64);
        assert!(key.bytes().all(|digit| digit.is_ascii_hexdigit()), "{key}");
        assert_ne!(key, new_key().unwrap());
    }
}
