//! Converts OpenMetrics to the older Prometheus text format, for scrapers that accept only that.

use std::collections::BTreeMap;

/// Converts a page: in the older format, the type of a counter belongs to the sample's name, information has no type,
/// and there are neither units nor an end marker.
pub(super) fn from_open_metrics(page: &str) -> String {
    let types: BTreeMap<_, _> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let sample = |family: &str| match types.get(family) {
        Some(&"counter") => format!("{family}_total"),
        Some(&"info") => format!("{family}_info"),
        Some(_) | None => family.to_owned(),
    };
    let mut plain = String::with_capacity(page.len());
    for line in page.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => continue,
            (Some("#"), Some("TYPE"), Some(family), Some("info")) => {
                plain.push_str(&format!("# TYPE {} gauge", sample(family)));
            }
            (Some("#"), Some(what), Some(family), Some(rest)) => {
                plain.push_str(&format!("# {what} {} {rest}", sample(family)));
            }
            _ => plain.push_str(line),
        }
        plain.push('\n');
    }
    plain
}
