//! Makes the reference of the configuration from the declarations of its keys. Defaults are read from a configuration
//! that sets none of them.

use std::path::Path;

use crate::config::file;
use crate::config::reader::one_of;
use crate::config::schema::{Key, Unset, ValueKind};
use crate::config::sections::{Section, sections};
use crate::config::value::format_duration;
use crate::config::{Config, load};

/// A configuration with every section that sets nothing which has a default. The reference takes the defaults from it
/// and shows it as an example.
pub const EXAMPLE: &str = r#"[engine]
name = "NAME"

[api]
listen = "192.0.2.10:9600"
tls    = { certificate = "/etc/fwlb/tls.crt", key = "file:/etc/fwlb/tls.key" }

[[api.token]]
name   = "ansible"
role   = "operator"
secret = "file:/etc/fwlb/ansible.token"

[[link]]
name      = "firewalls"
device    = "eth1"
addresses = ["10.2.0.1/24"]

[[link]]
name      = "servers"
device    = "eth2"
addresses = ["10.10.20.1/24"]

[[route]]
to    = "default"
group = "perimeter"

[[group]]
name = "perimeter"
seed = "file:/etc/fwlb/seed"

[[group.peer]]
name      = "outer"
addresses = ["10.1.0.1"]

[group.check]

[[group.firewall]]
name      = "fw1"
link      = "firewalls"
addresses = ["10.2.0.11"]

[[group.firewall]]
name      = "fw2"
link      = "firewalls"
addresses = ["10.2.0.12"]

[[service]]
name     = "web"
address  = ["203.0.113.80"]
protocol = "tcp"
port     = 80
sticky   = { by = "source" }

[service.check]
kind = "http"

[[service.server]]
name    = "s1"
address = ["10.10.20.11"]
port    = 8080

[[service.server]]
name    = "s2"
address = ["10.10.20.12"]
port    = 8080
"#;

/// One section of the reference.
#[derive(Debug, Clone)]
pub struct Chapter {
    /// The header of the section as it is written in a file.
    pub section: &'static str,
    /// The purpose of the section.
    pub about: &'static str,
    /// The section's keys, in the order of the reference.
    pub entries: Vec<Entry>,
}

/// One key of the reference.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name of the key.
    pub key: &'static str,
    /// The type of its value, with the range.
    pub value_type: String,
    /// What applies if the key is left out.
    pub default: String,
    /// The purpose of the key.
    pub description: &'static str,
    /// Whether a change of the key takes a restart of the engine.
    pub restart: bool,
}

/// All sections with all their keys.
pub fn reference() -> Vec<Chapter> {
    let plain = example_config().map(|config| sections(&config)).unwrap_or_default();
    let chapters = file::all().into_iter().map(|schema| Chapter {
        section: schema.section,
        about: schema.about,
        entries: schema
            .keys
            .iter()
            .map(|key| entry(key, plain.iter().find(|of| of.schema.section == schema.section)))
            .collect(),
    });
    chapters.collect()
}

/// Makes [`EXAMPLE`] a node of a cluster, for the defaults of `[ha]`: the example itself is an engine that stands alone.
const CLUSTER: &str = r#"
[ha]
vrid = 51
[[ha.node]]
name = "NAME"
addresses = ["10.2.0.1", "10.10.20.1"]
"#;

/// [`EXAMPLE`] as a configuration; the content of the files that it names is made up.
fn example_config() -> Option<Config> {
    let own = "addresses = [\"10.2.0.1/24\"]";
    let text = EXAMPLE.replacen(own, &format!("{own}\nfloating = \"10.2.0.254\""), 1) + CLUSTER;
    let mut content = |path: &Path| {
        Ok(match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => "-----BEGIN CERTIFICATE-----".to_owned(),
            Some("key") => "-----BEGIN PRIVATE KEY-----".to_owned(),
            _ => "a-text-that-nobody-could-guess".to_owned(),
        })
    };
    load("fwlb.toml", &text, &mut content).config
}

fn entry(key: &'static Key, plain: Option<&Section>) -> Entry {
    let default = match key.unset {
        Unset::Required(_) => "required".to_owned(),
        Unset::Means(means) => means.to_owned(),
        Unset::Default => plain
            .and_then(|section| section.values.iter().find(|(name, _)| *name == key.name))
            .and_then(|(_, value)| value.literal())
            .unwrap_or_else(|| "none".to_owned()),
    };
    Entry {
        key: key.name,
        value_type: value_type(&key.kind),
        default,
        description: key.description,
        restart: key.restart,
    }
}

fn value_type(kind: &ValueKind) -> String {
    let words = |words: &fn() -> Vec<&'static str>| {
        let quoted: Vec<String> = words().into_iter().map(|word| format!("{word:?}")).collect();
        one_of(&quoted)
    };
    match kind {
        ValueKind::Flag => "true or false".to_owned(),
        ValueKind::Number(range) => format!("number, {} to {}", range.start(), range.end()),
        ValueKind::Duration(range) => {
            format!("duration, {} to {}", format_duration(*range.start()), format_duration(*range.end()))
        }
        ValueKind::DurationOrNever(range) => {
            format!("duration, {} to {}, or \"never\"", format_duration(*range.start()), format_duration(*range.end()))
        }
        ValueKind::Choice(choices) => words(choices),
        ValueKind::Choices(choices) => format!("{}, or a list", words(choices)),
        ValueKind::Ranges(range, all) => {
            let all = all.map(|all| format!(" or {all:?}")).unwrap_or_default();
            format!("number {} to {}, a range as in \"{0}-{1}\"{all}, or a list", range.start(), range.end())
        }
        ValueKind::String(what) => format!("string: {what}"),
        ValueKind::Strings(what) => format!("string or list: {what}"),
        ValueKind::Secret(what) => format!("secret: {what}, or \"file:/PATH\""),
        ValueKind::File(what) => format!("string: {what}"),
        ValueKind::Table => "section".to_owned(),
        ValueKind::Tables => "sections".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_the_reference_with_a_line_and_its_default() {
        assert!(example_config().is_some(), "the example has a mistake");
        for chapter in reference() {
            assert!(chapter.about.ends_with('.'), "{}", chapter.section);
            for Entry { key, value_type: takes, default, description: says, restart: _ } in chapter.entries {
                assert!(!takes.is_empty() && says.ends_with('.'), "{key} of {}", chapter.section);
                assert!(!default.is_empty(), "{key} of {}", chapter.section);
            }
        }
    }

    #[test]
    fn a_default_is_the_value_that_a_file_without_the_key_gets() {
        let chapters = reference();
        let default = |section: &str, key: &str| {
            let chapter = chapters.iter().find(|chapter| chapter.section == section).unwrap();
            chapter.entries.iter().find(|entry| entry.key == key).unwrap().default.clone()
        };
        assert_eq!(default("[limits]", "sessions"), crate::config::Limits::default().sessions.to_string());
        assert_eq!(default("[timeouts]", "tcp-established"), "\"2h4m\"");
        assert_eq!(default("[engine]", "control"), "\"/run/fwlb/NAME.sock\"");
        assert_eq!(default("[service.check]", "path"), "\"/\"");
        assert_eq!(default("[service.check]", "expect-status"), "[200]");
        assert_eq!(default("[[service.server]]", "port"), "the one that the client asked for");
        assert_eq!(default("[[group]]", "seed"), "required");
    }
}
