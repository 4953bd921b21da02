//! Tests of messages about what one file alone does not show: the other engine's file, and the rules of the firewalls.

use super::*;

/// The file of the engine on the other side of [`GOOD`].
fn inner() -> String {
    with("name = \"outer\"", "name = \"inner\"")
        .replace(
            "name = \"inner\"\naddresses = [\"10.2.0.1\", \"fd00:2::1\"]",
            "name = \"outer\"\naddresses = [\"10.1.0.1\", \"fd00:1::1\"]",
        )
        .replace("10.1.0.1/24", "10.2.0.1/24")
        .replace("fd00:1::1/64", "fd00:2::1/64")
        .replace("10.1.0.1", "10.2.0.1")
        .replace("fd00:1::1", "fd00:2::1")
        .replace("[\"10.2.0.1\", \"fd00:2::1\"]", "[\"10.1.0.1\", \"fd00:1::1\"]")
        .replace("peer = \"inner\"", "peer = \"outer\"")
}

#[test]
fn files_of_two_engines_are_compared() {
    let inner = inner();
    let compared = |outer: &str, inner: &str| {
        let mut both = [load_text(outer), load_text(inner)];
        compare(&mut both);
        format!("{}{}", both[0].diagnostics, both[1].diagnostics)
    };
    assert_eq!(compared(GOOD, &inner), "");

    assert!(
        compared(GOOD, &inner.replace("a seed for", "another seed for"))
            .contains("the seed of group \"perimeter\" is not that")
    );
    assert!(compared(GOOD, &inner.replace("\"fw2\"", "\"fw3\"")).contains("firewall \"fw3\" is not in x.toml"));
    assert!(
        compared(GOOD, &inner.replace("name = \"fw2\"", "name = \"fw2\"\nweight = 3"))
            .contains("has weight 3, in x.toml 1")
    );
    assert!(
        compared(GOOD, &inner.replace("10.2.0.1/24", "10.2.0.2/24"))
            .contains("engine \"inner\" has no address 10.2.0.1")
    );
    assert!(compared(GOOD, GOOD).contains("is also called \"outer\""));

    let sided = |text: &str, mode: &str| {
        text.replace("name = \"perimeter\"\n", &format!("name = \"perimeter\"\nhash = \"{mode}\"\n"))
    };
    assert_eq!(compared(&sided(GOOD, "source"), &sided(&inner, "destination")), "");
    assert!(compared(&sided(GOOD, "source"), &sided(&inner, "source")).contains("it says something else"));
    let mut alone = [load_text(&sided(GOOD, "source"))];
    compare(&mut alone);
    assert!(alone[0].diagnostics.to_string().contains("check the files of both engines together"));
}

#[test]
fn both_engines_need_the_same_affinity() {
    let inner = inner();
    let with = |text: &str, rules: &[(&str, &str)]| {
        let rule = |(prefix, hash)| format!("\n[[group.affinity]]\nprefixes = \"{prefix}\"\nhash = \"{hash}\"\n");
        text.to_owned() + &rules.iter().copied().map(rule).collect::<String>()
    };
    let compared = |outer: &[(&str, &str)], inside: &[(&str, &str)]| {
        let mut both = [load_text(&with(GOOD, outer)), load_text(&with(&inner, inside))];
        compare(&mut both);
        format!("{}{}", both[0].diagnostics, both[1].diagnostics)
    };
    let ftp = ("203.0.113.21/32", "addresses");

    assert_eq!(compared(&[ftp], &[ftp]), "");
    assert_eq!(compared(&[("203.0.113.21", "destination")], &[("203.0.113.21", "source")]), "");
    for (outer, inside, words) in [
        (vec![ftp], vec![], "the affinity of 203.0.113.21/32 in x.toml is missing in group \"perimeter\""),
        (vec![], vec![ftp], "x.toml has no affinity of 203.0.113.21/32"),
        (vec![ftp], vec![(ftp.0, "3-tuple")], "is by \"3-tuple\", in x.toml by \"addresses\""),
        (vec![(ftp.0, "source")], vec![(ftp.0, "source")], "it says something else"),
    ] {
        let told = compared(&outer, &inside);
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn an_affinity_that_cannot_be_meant_is_refused() {
    let with = |rules: &str| load_text(&format!("{GOOD}\n{rules}")).diagnostics.to_string();
    let rule = "[[group.affinity]]\nprefixes = [\"203.0.113.21/32\"]\n";

    assert_eq!(with(rule), "");
    for (rules, words) in [
        (format!("{rule}{rule}"), "the affinity of 203.0.113.21/32"),
        ("[[group.affinity]]\n".to_owned(), "prefixes"),
        (format!("{rule}hash = \"2-tuple\"\n"), "\"3-tuple\""),
        (rule.replace("/32", "/24"), "the prefix is \"203.0.113.0/24\""),
        (rule.replace("203.0.113.21/32", "example.org"), "not a prefix"),
    ] {
        let told = with(&rules);
        assert!(told.contains("error") && told.contains(words), "{words}: {told}");
    }
}

#[test]
fn what_the_firewalls_must_permit_is_told() {
    let config = load_text(GOOD).config.unwrap();
    let told = requirements(&config);
    assert!(
        told.contains("a dead firewall is out within 350ms, a good one takes flows again after 500ms and a hold of 2s")
    );
    assert!(told.contains("fw2: icmp echo from fd00:1::1 to fd00:2::1 (peer inner)"), "{told}");
    assert_eq!(requirements::permits(&config).len(), 4);
}
