//! A compressed tar archive of bounded size, without the secrets that are known.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

/// A longer entry is cut at its beginning: the last lines of a log matter most.
const ENTRY_MAX: usize = 8 << 20;
/// Files that do not fit any more are named and left out.
const TOTAL_MAX: usize = 64 << 20;
/// A shorter secret would be found within ordinary words.
const SECRET_MIN: usize = 8;
/// Replaces a secret.
const HIDDEN: &str = "(hidden)";

/// An archive that is being collected, see the module.
#[derive(Debug, Default)]
pub struct Archive {
    entries: Vec<(String, String)>,
    secrets: Vec<String>,
}

impl Archive {
    /// Adds a file.
    pub fn add(&mut self, name: &str, text: impl Into<String>) {
        self.entries.push((name.to_owned(), text.into()));
    }

    /// Notes a secret: it is replaced in every file, including those added before; each of its lines, if it has
    /// several.
    pub fn hide(&mut self, secret: &str) {
        let lines = secret.lines().map(str::trim).filter(|line| line.len() >= SECRET_MIN);
        self.secrets.extend(lines.map(str::to_owned));
        // The longest first, so that nothing is left of a secret that begins with another one.
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        self.secrets.dedup();
    }

    /// Writes the archive, its files in a directory called `root`, last changed at `seconds` since 1970. Returns the
    /// names of the files and their sizes in bytes.
    pub fn write(self, root: &str, seconds: u64, out: impl Write) -> io::Result<Vec<(String, usize)>> {
        let mut tar = tar::Builder::new(GzEncoder::new(out, Compression::default()));
        let mut inside = Vec::new();
        let mut left_out = String::new();
        let mut room = TOTAL_MAX;
        let mut append = |name: &str, text: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(seconds);
            inside.push((name.to_owned(), text.len()));
            tar.append_data(&mut header, format!("{root}/{name}"), text.as_bytes())
        };
        for (name, text) in &self.entries {
            let text = self.secrets.iter().fold(text.clone(), |text, secret| text.replace(secret, HIDDEN));
            let begin = text.ceil_char_boundary(text.len().saturating_sub(ENTRY_MAX));
            let end = &text[begin..];
            match room.checked_sub(end.len()) {
                Some(left) => {
                    room = left;
                    append(name, end)?;
                }
                None => left_out += &format!("{name}\n"),
            }
        }
        if !left_out.is_empty() {
            append("left-out.txt", &left_out)?;
        }
        tar.into_inner()?.finish()?.flush()?;
        Ok(inside)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn read(bytes: &[u8]) -> BTreeMap<String, String> {
        let mut tar = tar::Archive::new(GzDecoder::new(bytes));
        let entries = tar.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().display().to_string(), text)
        });
        entries.collect()
    }

    #[test]
    fn what_is_added_is_in_the_archive_without_the_secrets_that_are_told_before_or_after() {
        let mut archive = Archive::default();
        archive.hide("known before");
        archive.add("journal.txt", "a line with known before, and known beforehand, line two of a key\n");
        archive.hide("known beforehand\n  line two of a key\n");
        // No part of it is long enough to be distinguished from other words.
        archive.hide("a\n");
        let mut bytes = Vec::new();
        let inside = archive.write("x", 7, &mut bytes).unwrap();

        let text = "a line with (hidden), and (hidden), (hidden)\n";
        assert_eq!(inside, [("journal.txt".to_owned(), text.len())]);
        assert_eq!(read(&bytes), BTreeMap::from([("x/journal.txt".to_owned(), text.to_owned())]));
    }

    #[test]
    fn the_end_of_what_is_too_long_is_kept_and_what_does_not_fit_is_named() {
        let mut archive = Archive::default();
        archive.add("log.txt", format!("{}the end", "ä".repeat(ENTRY_MAX)));
        for number in 0..8 {
            archive.add(&format!("{number}"), "x".repeat(ENTRY_MAX));
        }
        let mut bytes = Vec::new();
        archive.write("x", 7, &mut bytes).unwrap();

        let entries = read(&bytes);
        assert!(entries["x/log.txt"].ends_with("the end") && entries["x/log.txt"].len() <= ENTRY_MAX);
        assert_eq!(entries["x/left-out.txt"], "7\n");
    }
}
