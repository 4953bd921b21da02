//! A parser of OpenMetrics 1.0 text that is stricter than `promtool check metrics`: it refuses what it does not know.

use std::collections::{BTreeMap, BTreeSet};

/// Label names and values.
pub type Labels = BTreeMap<String, String>;

/// One metric family.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    pub name: String,
    pub kind: String,
    pub unit: Option<String>,
    pub help: String,
    pub samples: Vec<Sample>,
}

/// One line with a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: Labels,
    pub value: f64,
}

/// The metric families of a page, or what is wrong with it.
pub fn parse(page: &str) -> Result<Vec<Family>, String> {
    let body = page.strip_suffix("# EOF\n").ok_or("the page does not end with # EOF and a line feed")?;
    let mut families: Vec<Family> = Vec::new();
    let mut series = BTreeSet::new();
    for (number, line) in body.split_terminator('\n').enumerate() {
        let wrong = |what: String| format!("line {}: {what}: {line}", number + 1);
        if let Some(comment) = line.strip_prefix("# ") {
            metadata(comment, &mut families).map_err(wrong)?;
        } else {
            let sample = sample(line).map_err(wrong)?;
            let family = families.last_mut().ok_or_else(|| wrong("a sample before any family".into()))?;
            belongs(&sample, family).map_err(wrong)?;
            if !series.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(wrong("the series stands twice".into()));
            }
            family.samples.push(sample);
        }
    }
    let mut names = BTreeSet::new();
    for family in &families {
        let suffixes: &[&str] = match family.kind.as_str() {
            "counter" => &["", "_total", "_created"],
            "histogram" => &["", "_bucket", "_sum", "_count", "_created"],
            "info" => &["", "_info"],
            _ => &[""],
        };
        for suffix in suffixes {
            if !names.insert(format!("{}{suffix}", family.name)) {
                return Err(format!("{}{suffix} is a name of two families", family.name));
            }
        }
        whole(family).map_err(|what| format!("{}: {what}", family.name))?;
    }
    Ok(families)
}

fn metadata(comment: &str, families: &mut Vec<Family>) -> Result<(), String> {
    let (what, rest) = comment.split_once(' ').ok_or("a comment without a name")?;
    let (name, text) = rest.split_once(' ').ok_or("metadata without a text")?;
    if !is_name(name) {
        return Err(format!("{name:?} is no name"));
    }
    if families.last().is_none_or(|family| family.name != name) {
        families.push(Family {
            name: name.into(),
            kind: String::new(),
            unit: None,
            help: String::new(),
            samples: Vec::new(),
        });
    }
    let family = families.last_mut().expect("pushed");
    if !family.samples.is_empty() {
        return Err("metadata after samples".into());
    }
    let twice = || Err(format!("{what} stands twice"));
    match what {
        "HELP" if !family.help.is_empty() => twice(),
        "HELP" if text.trim().is_empty() => Err("an empty help".into()),
        "HELP" => {
            family.help = unescape(text)?;
            Ok(())
        }
        "TYPE" if !family.kind.is_empty() => twice(),
        "TYPE" if !["counter", "gauge", "histogram", "info"].contains(&text) => Err(format!("unknown type {text:?}")),
        "TYPE" => {
            family.kind = text.into();
            Ok(())
        }
        "UNIT" if family.unit.is_some() => twice(),
        "UNIT" if !name.ends_with(&format!("_{text}")) => Err("the name does not end with its unit".into()),
        "UNIT" => {
            family.unit = Some(text.into());
            Ok(())
        }
        _ => Err("unknown comment".into()),
    }
}

fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("a sample without a value")?;
    let name = &line[..end];
    if !is_name(name) {
        return Err(format!("{name:?} is no name"));
    }
    let (labels, value) = match line[end..].strip_prefix('{') {
        None => (Labels::new(), &line[end..]),
        Some(rest) => labels(rest)?,
    };
    let value = value.strip_prefix(' ').ok_or("no blank before the value")?;
    let number = match value {
        "+Inf" | "-Inf" | "NaN" => Err(format!("{value} measures nothing")),
        _ if value.contains(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '-' | '+' | 'e')) => {
            Err(format!("{value:?} is no number"))
        }
        _ => value.parse::<f64>().map_err(|error| error.to_string()),
    };
    Ok(Sample { name: name.into(), labels, value: number? })
}

/// Reads labels up to the closing brace, and returns the rest of the line.
fn labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("a label without a value")?;
        if !is_name(name) || name.contains(':') || name.starts_with("__") {
            return Err(format!("{name:?} is no label"));
        }
        let mut end = None;
        let mut escaped = false;
        for (at, character) in after.char_indices() {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        let end = end.ok_or("a label without an end")?;
        if labels.insert(name.into(), unescape(&after[..end])?).is_some() {
            return Err(format!("the label {name} stands twice"));
        }
        rest = &after[end + 1..];
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        rest = rest.strip_prefix(',').ok_or("no comma between labels")?;
    }
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match (character, character == '\\') {
            (other, false) => other,
            (_, true) => match characters.next() {
                Some('\\') => '\\',
                Some('"') => '"',
                Some('n') => '\n',
                other => return Err(format!("unknown escape {other:?}")),
            },
        });
    }
    Ok(plain)
}

fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    characters.next().is_some_and(first) && characters.all(|c| first(c) || c.is_ascii_digit())
}

/// Checks that the type of the family allows the sample's name and value.
fn belongs(sample: &Sample, family: &Family) -> Result<(), String> {
    let suffixes: &[&str] = match family.kind.as_str() {
        "counter" => &["_total"],
        "gauge" => &[""],
        "histogram" => &["_bucket", "_sum", "_count"],
        "info" => &["_info"],
        _ => return Err(format!("{} has no type", family.name)),
    };
    if !suffixes.iter().any(|suffix| sample.name == format!("{}{suffix}", family.name)) {
        return Err(format!("no sample of the {} {}", family.kind, family.name));
    }
    let has_le = sample.labels.contains_key("le");
    if has_le != sample.name.ends_with("_bucket") {
        return Err("`le` is for buckets".into());
    }
    match family.kind.as_str() {
        "counter" | "histogram" if sample.value < 0.0 => Err("a count below zero".into()),
        "info" if sample.value != 1.0 => Err("an info that is not 1".into()),
        _ => Ok(()),
    }
}

/// The samples of one histogram: its buckets by their bounds, its sum and its count.
#[derive(Default)]
struct Histogram {
    buckets: Vec<(f64, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
}

/// Checks what concerns a family as a whole.
fn whole(family: &Family) -> Result<(), String> {
    if family.help.is_empty() || family.kind.is_empty() || family.samples.is_empty() {
        return Err("it has no help, no type or no samples".into());
    }
    if family.kind != "histogram" {
        return Ok(());
    }
    let mut histograms: BTreeMap<Labels, Histogram> = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        let bound = labels.remove("le");
        let histogram = histograms.entry(labels).or_default();
        match bound {
            Some(bound) if bound == "+Inf" => histogram.buckets.push((f64::INFINITY, sample.value)),
            Some(bound) => {
                histogram.buckets.push((bound.parse().map_err(|_| "a bound that is no number")?, sample.value))
            }
            None if sample.name.ends_with("_sum") => histogram.sum = Some(sample.value),
            None => histogram.count = Some(sample.value),
        }
    }
    for (labels, Histogram { buckets, sum, count }) in histograms {
        let ascending = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let last = buckets.last().filter(|last| last.0 == f64::INFINITY).map(|last| last.1);
        if !ascending || last.is_none() || last != count || sum.is_none() {
            return Err(format!("no histogram: {labels:?}"));
        }
    }
    Ok(())
}

#[test]
fn what_is_no_open_metrics_is_refused() {
    let good = "# HELP a_seconds Help.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total{b=\"c\\\"\\n\"} 1\n# EOF\n";
    assert_eq!(parse(good).unwrap()[0].samples[0].labels["b"], "c\"\n");
    for (from, to) in [
        ("# EOF\n", ""),
        ("# EOF\n", "# EOF"),
        ("# EOF\n", "# EOF\n\n"),
        ("_total", ""),
        ("counter", "gauge"),
        ("counter", "widget"),
        ("# TYPE a_seconds counter\n", ""),
        ("# HELP a_seconds Help.\n", ""),
        ("# TYPE", "# HELP a_seconds Again.\n# TYPE"),
        ("UNIT a_seconds seconds", "UNIT a_seconds bytes"),
        ("} 1", "} -1"),
        ("} 1", "} NaN"),
        ("} 1", "} x"),
        ("} 1", "}1"),
        ("\\n", "\\t"),
        ("b=\"", "b-b=\""),
        ("{b=", "{b=\"x\",b="),
        ("{b=", "{le="),
        ("# EOF\n", "a_seconds_total{b=\"c\\\"\\n\"} 2\n# EOF\n"),
        (
            "# EOF\n",
            "# HELP c Help.\n# TYPE c gauge\nc 1\n# HELP a_seconds Help.\n# TYPE a_seconds counter\na_seconds_total 1\n# EOF\n",
        ),
    ] {
        assert!(good.contains(from));
        let bad = good.replacen(from, to, 1);
        assert!(parse(&bad).is_err(), "accepted:\n{bad}");
    }
    let clash = good.replace(
        "# EOF\n",
        "# HELP a_seconds_created Help.\n# TYPE a_seconds_created gauge\na_seconds_created 1\n# EOF\n",
    );
    assert!(parse(&clash).is_err());
    let histogram = "# HELP h Help.\n# TYPE h histogram\nh_sum 3.5\nh_count 2\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\n# EOF\n";
    parse(histogram).unwrap();
    for (from, to) in [("h_sum 3.5\n", ""), ("h_count 2", "h_count 3"), ("} 1\n", "} 3\n"), ("\"+Inf\"", "\"0.5\"")] {
        assert!(parse(&histogram.replacen(from, to, 1)).is_err(), "{from:?} -> {to:?}");
    }
}
