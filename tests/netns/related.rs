//! Connections that belong together, through firewalls that let the second one pass only where they saw the first: FTP
//! with its data connections, between a real server and curl.

use std::process::{Child, Stdio};
use std::time::Duration;

use fwlb::lab::command::Command;
use fwlb::lab::{Side, Station, Topology};

use crate::ground::{Rig, patient, said, sandwich};

const SERVER: Station = Station::Server(1);

/// The rules of a firewall that permits FTP and nothing else: new connections to port 21, and those that it was told of
/// by the control connection. TCP that is neither is refused as `ftp_refused`.
const FTP_ONLY: &str = "
table inet ftp {
    counter ftp_refused { }
    ct helper watched { type \"ftp\" protocol tcp; }
    chain before {
        type filter hook prerouting priority filter;
        tcp dport 21 ct helper set \"watched\"
    }
    chain forward {
        type filter hook forward priority filter + 1; policy accept;
        ct state { established, related } accept
        tcp dport 21 accept
        meta l4proto tcp counter name ftp_refused reject with tcp reset
    }
}
";

/// An FTP server with one file of 65,536 bytes for everybody.
struct FtpServer(Child);

impl Drop for FtpServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl FtpServer {
    fn start(rig: &Rig) -> Self {
        let directory = rig.lab.directory().join("ftp");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("file"), vec![b'x'; 65_536]).unwrap();
        let empty = rig.lab.directory().join("empty");
        std::fs::create_dir(&empty).unwrap();
        let settings = rig.lab.directory().join("vsftpd.conf");
        let text = format!(
            "listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\nanon_root={}\n\
             secure_chroot_dir={}\nconnect_from_port_20=YES\nseccomp_sandbox=NO\nisolate_network=NO\n",
            directory.display(),
            empty.display(),
        );
        std::fs::write(&settings, text).unwrap();
        let mut command = rig.lab.command(SERVER, "vsftpd");
        command.arg(&settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self(command.spawn().expect("ip netns exec runs"));
        rig.within(Duration::from_secs(5), "the FTP server listens", |rig| {
            rig.exec(SERVER, &["ss", "-Hltn", "sport", "=", ":21"]).contains(":21")
        });
        server
    }
}

/// The ways in which curl asks for the data connection, each with its words.
const WAYS: [(&str, &[&str]); 4] = [
    ("EPSV", &[]),
    ("PASV", &["--disable-epsv"]),
    ("EPRT", &["--ftp-port", "-"]),
    ("PORT", &["--ftp-port", "-", "--disable-eprt"]),
];

/// Transfers that arrived whole, of ten for each way and family.
fn transfers(rig: &Rig) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for host in ["203.0.113.11", "[2001:db8:113::11]"] {
        for (name, words) in WAYS {
            // PASV and PORT have no form for IPv6 (RFC 2428).
            if host.starts_with('[') && (name == "PASV" || name == "PORT") {
                continue;
            }
            let url = format!("ftp://{host}/file");
            let mut whole = 0;
            for _ in 0..10 {
                let all = [&["curl", "--silent", "--max-time", "5", "--output", "-"], words, &[url.as_str()]].concat();
                let output = rig.output(Station::Client, &all);
                whole += usize::from(output.status.success() && output.stdout.len() == 65_536);
            }
            found.push((format!("{name} {host}"), whole));
        }
    }
    found
}

#[test]
fn with_an_affinity_every_data_connection_of_ftp_crosses_the_firewall_of_its_control_connection() {
    sandwich(
        |base| patient(Topology { firewalls: 2, ..base }),
        |rig| {
            for number in 1..=2 {
                let namespace = rig.topology().namespace(Station::Firewall(number));
                Command::nft(&namespace, FTP_ONLY.to_owned()).run().unwrap();
            }
            let _server = FtpServer::start(rig);

            let alone = transfers(rig);
            assert!(
                alone.iter().map(|(_, whole)| whole).sum::<usize>() < 50,
                "by the 5-tuple half of the data connections take the other firewall: {alone:?}"
            );

            for side in Side::BOTH {
                let path = rig.lab.directory().join(format!("{}.toml", side.engine()));
                let rule = "\n[[group.affinity]]\nprefixes = [\"203.0.113.11/32\", \"2001:db8:113::11/128\"]\n";
                let text = std::fs::read_to_string(&path).unwrap() + rule;
                std::fs::write(&path, text).unwrap();
                let output = rig.fwlb(side, &["reload"]);
                assert!(output.status.success(), "{}", said(&output));
            }
            for (way, whole) in transfers(rig) {
                assert_eq!(whole, 10, "{way}");
            }

            let explained =
                rig.json(Side::Outer, &["--json", "explain", "tcp", "198.51.100.7:40000", "203.0.113.11:21"]);
            assert_eq!(explained["affinity"], "203.0.113.11/32", "{explained}");
            let control = explained["firewall"].clone();
            let explained =
                rig.json(Side::Inner, &["--json", "explain", "tcp", "203.0.113.11:20", "198.51.100.7:50000"]);
            assert_eq!(explained["firewall"], control, "{explained}");
        },
    );
}
