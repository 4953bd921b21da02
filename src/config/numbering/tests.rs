use proptest::prelude::*;

use super::*;

/// A configuration with these firewalls in one group, and these servers (name, address) in one service.
fn config(firewalls: &[u8], servers: &[(u8, u8)]) -> Config {
    let mut text = String::from(
        r#"
        [engine]
        name = "inner"
        [[link]]
        name = "firewalls"
        device = "eth0"
        addresses = ["10.2.0.1/16"]
        [[link]]
        name = "servers"
        device = "eth1"
        addresses = ["10.3.0.1/16"]
        [[route]]
        to = "default"
        group = "perimeter"
        [[group]]
        name = "perimeter"
        seed = "a seed of thirty-two characters!"
        [[group.peer]]
        name = "outer"
        addresses = ["10.1.0.1"]
        "#,
    );
    for n in firewalls {
        text += &format!("[[group.firewall]]\nname = \"fw{n}\"\nlink = \"firewalls\"\naddresses = [\"10.2.1.{n}\"]\n");
    }
    text += "[[service]]\nname = \"web\"\naddress = \"10.9.0.1\"\nprotocol = \"tcp\"\nport = 80\n";
    for (n, host) in servers {
        text += &format!("[[service.server]]\nname = \"s{n}\"\naddress = \"10.3.1.{host}\"\n");
    }
    let outcome = crate::config::load("test.toml", &text, &mut |_| Err("no files".to_owned()));
    outcome.config.unwrap_or_else(|| panic!("{}", outcome.diagnostics))
}

fn firewall(config: &Config, name: &str) -> Option<FirewallId> {
    config.firewall_ids().find(|id| config.firewalls[id.index()].name == name)
}

fn server(config: &Config, name: &str) -> Option<ServerId> {
    config.server_ids().find(|id| config.servers[id.index()].name == name)
}

#[test]
fn what_keeps_its_name_keeps_its_number_whatever_stands_before_it() {
    let old = config(&[1, 2], &[(1, 1), (2, 2)]);
    let new = renumber(config(&[3, 2, 1], &[(9, 9), (2, 2), (1, 1)]), &old, None).unwrap();

    for name in ["fw1", "fw2"] {
        assert_eq!(firewall(&new, name), firewall(&old, name));
    }
    assert_eq!(firewall(&new, "fw3"), Some(FirewallId(2)));
    let order: Vec<_> = new.groups[0].firewalls.iter().map(|id| new.firewalls[id.index()].name.as_str()).collect();
    assert_eq!(order, ["fw3", "fw2", "fw1"], "the order is the file's");
    assert_eq!((server(&new, "s1"), server(&new, "s9")), (server(&old, "s1"), Some(ServerId(2))));
}

#[test]
fn a_removed_firewall_keeps_its_place_until_no_session_knows_it() {
    let old = config(&[1, 2], &[(1, 1)]);
    let without = renumber(config(&[1], &[(1, 1)]), &old, Some(&InUse::default())).unwrap();
    assert!(is_removed(&without.firewalls[1].name) && without.firewalls[1].addresses.is_empty());
    assert_eq!(without.firewall_ids().collect::<Vec<_>>(), [FirewallId(0)]);

    let in_use = InUse { firewalls: [FirewallId(1)].into(), ..InUse::default() };
    for (known, number) in [(Some(&in_use), 2), (None, 2), (Some(&InUse::default()), 1)] {
        let other = renumber(config(&[1, 3], &[(1, 1)]), &without, known).unwrap();
        assert_eq!(firewall(&other, "fw3"), Some(FirewallId(number)));
    }
    let back = renumber(config(&[1, 2], &[(1, 1)]), &without, Some(&InUse::default())).unwrap();
    assert_eq!(firewall(&back, "fw2"), Some(FirewallId(1)), "who comes back is known again");
    assert_eq!(back.firewalls.len(), 2);
}

#[test]
fn a_server_at_another_address_is_another_server() {
    let old = config(&[1], &[(1, 1)]);
    let moved = renumber(config(&[1], &[(1, 7)]), &old, None).unwrap();
    assert_eq!(server(&moved, "s1"), Some(ServerId(1)));
    assert!(is_removed(&moved.servers[0].name));
}

#[test]
fn numbers_run_out_with_words_and_not_with_a_panic() {
    let many: Vec<usize> = (0..NUMBERS_MAX).collect();
    assert_eq!(assign("firewalls", &many, &[usize::MAX], |_| false), Err(IdsExhausted("firewalls")));
}

proptest! {
    /// Through any sequence of files, what stays keeps its id, no two things share an id, and every reference leads to
    /// what the file meant.
    #[test]
    fn any_chain_of_files_keeps_the_numbers_of_what_stays(
        chain in prop::collection::vec((prop::collection::btree_set(1u8..9, 1..6), prop::collection::btree_set((1u8..5, 1u8..4), 1..6)), 1..6),
        reuse in any::<bool>(),
    ) {
        let nothing = InUse::default();
        let in_use = reuse.then_some(&nothing);
        let mut current: Option<Config> = None;
        for (firewalls, servers) in chain {
            let firewalls: Vec<u8> = firewalls.into_iter().rev().collect();
            // One server of each name, as validation demands, and one of each address.
            let mut servers: Vec<(u8, u8)> = servers.into_iter().collect();
            servers.dedup_by_key(|(name, _)| *name);
            let servers: Vec<_> = servers.into_iter().map(|(name, host)| (name, host * 10 + name)).collect();
            let fresh = config(&firewalls, &servers);
            let next = match &current {
                None => fresh.clone(),
                Some(old) => renumber(fresh.clone(), old, in_use).unwrap(),
            };
            let names = |config: &Config, ids: Vec<FirewallId>| -> Vec<String> {
                ids.iter().map(|id| config.firewalls[id.index()].name.clone()).collect()
            };
            prop_assert_eq!(names(&next, next.firewall_ids().collect()), names(&fresh, fresh.firewall_ids().collect()));
            for id in next.firewall_ids() {
                prop_assert_eq!(&next.groups[next.firewalls[id.index()].group.index()].name, "perimeter");
                prop_assert_eq!(&next.links[next.firewalls[id.index()].link.index()].name, "firewalls");
            }
            for (_, server) in next.service_ids().flat_map(|id| next.services[id.index()].servers.iter().map(move |s| (id, s))) {
                prop_assert!(!is_removed(&next.servers[server.index()].name));
            }
            if let Some(old) = &current {
                for id in old.firewall_ids() {
                    let name = &old.firewalls[id.index()].name;
                    if let Some(kept) = firewall(&next, name) {
                        prop_assert_eq!(kept, id);
                    } else {
                        prop_assert_eq!(base_name(&next.firewalls[id.index()].name), name);
                    }
                }
            }
            current = Some(next);
        }
    }
}
