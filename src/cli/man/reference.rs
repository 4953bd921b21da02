//! The reference of the configuration, as fwlb.toml(5) and in Markdown.

use std::fmt::Write;

use roff::{Roff, bold, italic, roman};

use crate::config::reference::{Chapter, EXAMPLE, Entry, reference};

const GENERAL: &[&str] = &[
    "One file is one engine. It is TOML: keys are set by key = value, and belong to the last [section] or [[section]] above them; \
     [[section]] stands once for each thing of its kind.",
    "Durations are texts such as \"100ms\", \"2s\", \"10m\" and \"2h4m\". Where a list is allowed, one value may stand alone. A \
     secret may be \"file:/PATH\" instead of the text: the content of that file without its last newline. Secrets are never shown.",
    "An unknown key is an error. `fwlb check` finds every mistake at once; `fwlb plan` says what a reload would do; `fwlb show \
     config --all` shows every key that is in force, those that the file leaves out too. Keys marked \"restart\" cannot be changed \
     by a reload, which then refuses the file.",
];

/// The page for man(1).
pub fn page() -> String {
    let mut roff = Roff::new();
    let source = concat!("fwlb ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["fwlb.toml", "5", "", source, ""]);
    roff.control("SH", ["NAME"]).text([roman("fwlb.toml - configuration of an engine of fwlb")]);
    roff.control("SH", ["DESCRIPTION"]);
    for paragraph in GENERAL {
        roff.control("PP", []).text([roman(*paragraph)]);
    }
    for Chapter { section, about, entries } in reference() {
        roff.control("SH", [section.trim_matches('`')]).text([roman(about)]);
        for Entry { key, value_type: takes, default, description: says, restart } in entries {
            roff.control("TP", []).text([bold(key)]);
            roff.text([roman(says)]).control("br", []);
            let restart = if restart { ". Takes a restart" } else { "" };
            roff.text([
                italic("Takes"),
                roman(format!(" {takes}. ")),
                italic("Default"),
                roman(format!(" {default}{restart}.")),
            ]);
        }
    }
    roff.control("SH", ["EXAMPLE"]).control("nf", []);
    for line in EXAMPLE.lines() {
        roff.text([roman(if line.is_empty() { " " } else { line })]);
    }
    roff.control("fi", []);
    roff.control("SH", ["FILES"]).text([roman("/etc/fwlb/NAME.toml, which the service fwlb@NAME runs with")]);
    roff.control("SH", ["SEE ALSO"])
        .text([roman("fwlb(1), fwlb-check(1), fwlb-plan(1), fwlb-reload(1), fwlb-show-config(1)")]);
    roff.render()
}

/// The page in Markdown: docs/configuration.md.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Configuration\n\nThis page is written by `fwlb man --markdown fwlb.toml`; it is also fwlb.toml(5).\n",
    );
    for paragraph in GENERAL {
        let _ = write!(out, "\n{paragraph}\n");
    }
    for Chapter { section, about, entries } in reference() {
        let title = match section.contains('`') {
            true => section.to_owned(),
            false if section.starts_with('[') => format!("`{section}`"),
            false => "The file".to_owned(),
        };
        let _ = write!(out, "\n## {title}\n\n{about}\n\n| key | takes | default | what |\n| --- | --- | --- | --- |\n");
        for Entry { key, value_type: takes, default, description: says, restart } in entries {
            let restart = if restart { " (restart)" } else { "" };
            let row = format!("| `{key}` | {takes} | {default} | {says}{restart} |");
            let _ = writeln!(out, "{row}");
        }
    }
    let _ = write!(out, "\n## Example\n\n```toml\n{EXAMPLE}```\n");
    out
}
