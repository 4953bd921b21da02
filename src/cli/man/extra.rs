//! What the manual pages of commands contain besides options: examples, files, environment, exit status.

use roff::{Roff, bold, roman};

/// The meaning of the exit status, which is the same for every command.
pub const EXIT: &[(&str, &str)] = &[
    ("0", "Done, or the answer is yes."),
    (
        "1",
        "The answer is no, the input is bad, or nobody answered: a file has errors, a reload would refuse it, the flow would be \
         dropped, a probe or ping was not answered, sessions were left when the time of --wait was over, a promise was broken, no \
         engine runs.",
    ),
    ("2", "The command line is not understood."),
];

const ABBREVIATIONS: &str = "Commands may be abbreviated as far as they are told apart: fwlb sh fw is fwlb show firewalls. One that may mean several is \
     refused with their names, and nothing is done. A later version may have commands that take an abbreviation away, so scripts \
     write words out. Options are not abbreviated.";

const FILES: &[(&str, &str)] = &[
    ("/etc/fwlb/NAME.toml", "The configuration of the engine NAME, see fwlb.toml(5)."),
    ("/run/fwlb/NAME.sock", "Its control socket, unless `control` in [engine] says otherwise."),
    ("/var/lib/fwlb/NAME", "What it keeps over a restart, unless `state` in [engine] says otherwise."),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    ("FWLB_RUN_DIRECTORY", "Where the control sockets are looked for, instead of /run/fwlb."),
    ("NO_COLOR", "Set to anything: no colours, unless --color asks for them."),
    ("COMPLETE", "The shell that asks for words; set by the script of fwlb completions."),
    ("SUDO_USER, USER, LOGNAME", "The name that an engine is told, in this order."),
];

/// Examples by command: what to type, and its purpose.
pub const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "fwlb",
        &[
            ("fwlb check /etc/fwlb/outer.toml", "Find every mistake of a file."),
            ("fwlb show firewalls", "State, sessions and paths of the firewalls, of all engines that run here."),
            ("fwlb explain tcp 198.51.100.7:40000 203.0.113.80:80", "Where a flow goes, and why."),
            (
                "fwlb set firewall fw1 drain --wait 10m --reason upgrade",
                "Take a firewall out without breaking a session.",
            ),
        ],
    ),
    ("fwlb-run", &[("fwlb run /etc/fwlb/outer.toml /etc/fwlb/inner.toml", "Both engines of a sandwich on one box.")]),
    (
        "fwlb-check",
        &[(
            "fwlb check outer.toml inner.toml",
            "Two files, each alone and with each other: the same group has to be the same.",
        )],
    ),
    (
        "fwlb-show",
        &[
            ("fwlb show", "What is wrong, and what was set by command."),
            ("fwlb show services --json", "For scripts."),
            ("fwlb -e outer show counters --nonzero", "What one of several engines counts."),
        ],
    ),
    (
        "fwlb-show-sessions",
        &[
            (
                "fwlb show sessions --source 198.51.100.0/24 --firewall fw1",
                "Clients of a network that go through one firewall.",
            ),
            ("fwlb show sessions --server web/s1 --limit 20", "Twenty sessions of a server."),
            ("fwlb show sessions --sort rate --limit 10", "The ten that carry most now."),
            ("fwlb show sessions --by source --sort rate", "The clients that carry most now."),
            ("fwlb show sessions --limit 0 --json", "All of them, as they are found."),
        ],
    ),
    (
        "fwlb-show-counters",
        &[
            ("fwlb show counters --rate --nonzero", "What moves within a second, on every engine that runs here."),
            ("fwlb show counters --rate=10s --json", "For scripts; without --rate one flat object of one engine."),
        ],
    ),
    (
        "fwlb-show-checks",
        &[
            ("fwlb show checks web/s1", "The last 20 checks of a server: when, result, duration, answer."),
            ("fwlb show checks fw1 -n 10", "The last probes through a firewall; those that ended alike are one line."),
        ],
    ),
    ("fwlb-show-events", &[("fwlb show events --follow", "What changes, as it changes.")]),
    (
        "fwlb-show-config",
        &[(
            "fwlb show config --all",
            "Every key that is in force, those that the file leaves to their defaults marked.",
        )],
    ),
    (
        "fwlb-explain",
        &[
            ("fwlb explain udp [2001:db8::1]:53 [2001:db8::2]:53", "A flow of IPv6."),
            (
                "fwlb explain --from perimeter/fw1 icmp 198.51.100.7 203.0.113.80",
                "A ping that arrives from a firewall.",
            ),
            (
                "fwlb explain -c outer.toml --down perimeter/fw1 tcp 198.51.100.7:1 203.0.113.80:80",
                "Without an engine, with a firewall down.",
            ),
        ],
    ),
    (
        "fwlb-capture",
        &[
            (
                "fwlb capture -w web.pcapng --host 198.51.100.7 --port 80 --seconds 30",
                "Packets of one client, each with what became of it.",
            ),
            ("fwlb capture -w drops.pcapng --dropped ttl_expired", "Only what is dropped for one reason."),
        ],
    ),
    (
        "fwlb-set",
        &[
            (
                "fwlb set firewall fw1 drain --wait 10m --reason upgrade",
                "No new sessions; wait until the old have ended.",
            ),
            ("fwlb set server web/s1 weight=0", "No new sessions for a server."),
            ("fwlb set server web/s1 default", "As the file says again."),
        ],
    ),
    (
        "fwlb-kill",
        &[
            (
                "fwlb kill --source 198.51.100.7 --reset --reason ticket-4711",
                "The sessions of a client, whose ends are told; more than ten are asked about.",
            ),
            ("fwlb kill --server web/s1 --state established --yes", "Those of a server, in a script."),
        ],
    ),
    ("fwlb-plan", &[("fwlb plan new.toml", "What would change, and which sessions would move. Nothing changes.")]),
    (
        "fwlb-reload",
        &[
            ("fwlb reload", "The engine's own file, after it was changed."),
            ("fwlb reload new.toml", "Another file, until the next reload or restart."),
            ("fwlb reload --confirm 2m", "As it was again after two minutes, unless you say: fwlb confirm."),
        ],
    ),
    (
        "fwlb-ha",
        &[
            ("fwlb ha status", "Who is active, and who could take over."),
            ("fwlb ha failover --wait 5s --reason upgrade", "The standby becomes active, without a lost packet."),
            ("fwlb ha key", "A secret for all nodes of a new cluster, for the file of `key` of [ha]."),
        ],
    ),
    ("fwlb-ha-status", &[("fwlb ha status", "Exit status 0 if a node is active and another one could take over.")]),
    ("fwlb-ha-failover", &[("fwlb -e outer-a ha failover --to outer-b --wait 5s", "To be said to the active node.")]),
    ("fwlb-ha-maint", &[("fwlb ha maint --reason fans", "Until fwlb ha ready, also over a restart.")]),
    ("fwlb-ha-resync", &[("fwlb -e outer-a ha resync", "To be said to the active node; `show ha` has the progress.")]),
    ("fwlb-ha-ready", &[("fwlb ha ready", "The node may be active again.")]),
    (
        "fwlb-ha-key",
        &[("fwlb ha key", "Into a file that only the engine can read, which is then copied to every node.")],
    ),
    ("fwlb-health", &[("fwlb health", "Exit status 0 if all engines forward; else the reasons, and 1.")]),
    ("fwlb-confirm", &[("fwlb confirm", "The configuration of fwlb reload --confirm stays.")]),
    (
        "fwlb-rollback",
        &[
            ("fwlb rollback --plan", "What a return to the last configuration would do."),
            ("fwlb rollback 3", "Return to the configuration that was three before."),
        ],
    ),
    (
        "fwlb-upgrade",
        &[
            ("fwlb upgrade outer", "The engine goes on in the program that the package has installed."),
            ("fwlb upgrade outer --binary /opt/fwlb/fwlb", "In another program; the way back is the same."),
        ],
    ),
    ("fwlb-show-configs", &[("fwlb show configs", "The last ten configurations, with what each of them changed.")]),
    ("fwlb-probe", &[("fwlb probe web/s1", "Check a server now, and show the exchange.")]),
    ("fwlb-ping", &[("fwlb ping 10.1.0.11 --firewall perimeter/fw1", "Through one firewall.")]),
    ("fwlb-top", &[("fwlb top", "A live view; q ends it, ? helps.")]),
    (
        "fwlb-report",
        &[("fwlb report --by client /var/log/fwlb/outer.json", "Who had most sessions, from the session log.")],
    ),
    (
        "fwlb-support",
        &[
            ("fwlb support -o /tmp/fwlb.tar.gz", "Everything that somebody who helps would ask for; nothing is sent."),
            ("fwlb support /etc/fwlb/outer.toml", "With this configuration, where its engine does not start."),
        ],
    ),
    (
        "fwlb-lab",
        &[
            ("fwlb lab up", "A sandwich in network namespaces."),
            ("fwlb lab fail fw1", "Pull the plug of a firewall."),
            ("fwlb lab up --pairs", "With two engines on each side, one of which is active."),
            ("fwlb lab fail outer-a hang", "Stop the process of an engine: the other one takes over."),
            ("fwlb lab down", "Every trace is gone."),
        ],
    ),
    ("fwlb-sim", &[("fwlb sim --seeds 20", "Twenty runs of a sandwich in virtual time, checked.")]),
    ("fwlb-completions", &[("fwlb completions bash", "For /usr/share/bash-completion/completions/fwlb.")]),
    ("fwlb-man", &[("fwlb man fwlb.toml", "The reference of the configuration; read it with: man -l -")]),
];

/// These sections for the page of a command.
pub fn sections(page: &str) -> String {
    let mut roff = Roff::new();
    if let Some((_, examples)) = EXAMPLES.iter().find(|(name, _)| *name == page) {
        roff.control("SH", ["EXAMPLES"]);
        list(&mut roff, examples);
    }
    for (title, entries) in [("FILES", FILES), ("ENVIRONMENT", ENVIRONMENT), ("EXIT STATUS", EXIT)] {
        roff.control("SH", [title]);
        list(&mut roff, entries);
    }
    if page == "fwlb" {
        roff.control("SH", ["ABBREVIATIONS"]).text([roman(ABBREVIATIONS)]);
    }
    roff.control("SH", ["SEE ALSO"]).text([roman(see_also(page))]);
    roff.render()
}

fn list(roff: &mut Roff, entries: &[(&str, &str)]) {
    for (what, says) in entries {
        roff.control("TP", []).text([bold(*what)]).text([roman(*says)]);
    }
}

/// The page of the parent command, of the configuration, and of related commands.
fn see_also(page: &str) -> String {
    let above = page.rsplit_once('-').map(|(above, _)| above);
    let beside: &[&str] = match page {
        "fwlb" => &["fwlb-run", "fwlb-check", "fwlb-show", "fwlb-explain", "fwlb-set", "fwlb-reload"],
        "fwlb-check" | "fwlb-show-config" => &["fwlb-plan"],
        "fwlb-plan" => &["fwlb-reload", "fwlb-check"],
        "fwlb-reload" => &["fwlb-plan", "fwlb-confirm", "fwlb-rollback"],
        "fwlb-confirm" => &["fwlb-reload"],
        "fwlb-rollback" => &["fwlb-show-configs", "fwlb-reload"],
        "fwlb-upgrade" => &["fwlb-reload", "fwlb-ha-failover"],
        "fwlb-probe" => &["fwlb-ping"],
        "fwlb-ping" => &["fwlb-probe"],
        "fwlb-explain" => &["fwlb-capture"],
        "fwlb-capture" => &["fwlb-explain"],
        "fwlb-kill" => &["fwlb-show-sessions"],
        "fwlb-show-sessions" => &["fwlb-kill", "fwlb-top"],
        _ => &[],
    };
    let pages = above.into_iter().chain(beside.iter().copied()).map(|page| format!("{page}(1)"));
    pages.chain(["fwlb.toml(5)".to_owned()]).collect::<Vec<_>>().join(", ")
}
