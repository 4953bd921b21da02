//! The servers of a lab: their programs, and the harm that can be done to them.
//!
//! Every server, and the client, runs the lab's echo service. Web pages come from nginx if the
//! [`LabFarm`](super::LabFarm) has it, else from the lab's own web server. Both show the name of the server, and answer
//! 503 while the server's `sick` file exists.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::command::Command;
use super::farm::{HEALTH_PATH, WEB_PORT, WebProgram};
use super::{Lab, LabError, Station, blueprint, pause};

/// Time within which a program must listen.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// What can be done to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerFault {
    /// Its programs are killed; the kernel resets their connections.
    Killed,
    /// It drops everything that it receives.
    Silent,
    /// Every page is a 503.
    Sick,
    /// Its cable is cut.
    Unplugged,
}

impl ServerFault {
    /// The harm in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Killed => "programs killed",
            Self::Silent => "drops everything",
            Self::Sick => "answers 503",
            Self::Unplugged => "unplugged",
        }
    }
}

/// The state of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// The server.
    pub node: Station,
    /// What was done to it and is not undone.
    pub faults: Vec<ServerFault>,
}

impl Lab {
    /// Harms a server.
    ///
    /// # Errors
    /// A command fails, or a file cannot be written.
    pub fn fail_server(&self, server: Station, harm: ServerFault) -> Result<(), LabError> {
        match harm {
            ServerFault::Killed => self.kill_programs(server),
            ServerFault::Silent => {
                let silent =
                    "table inet silent { chain input { type filter hook input priority 0; policy drop; }; };\n";
                Command::nft(&self.topology().namespace(server), silent.to_owned()).run().map(drop)
            }
            ServerFault::Sick => self.write(&sick(server), ""),
            ServerFault::Unplugged => blueprint::server_cable(self.topology(), server, false).run().map(drop),
        }
    }

    /// Undoes whatever was done to a server.
    ///
    /// # Errors
    /// A command fails, a file cannot be removed, or a program does not start again.
    pub fn heal_server(&mut self, server: Station) -> Result<(), LabError> {
        for harm in self.server_status(server)?.faults {
            match harm {
                ServerFault::Killed => {
                    self.start_programs(server)?;
                    self.wait_until_programs_listen(server)?;
                }
                ServerFault::Silent => {
                    self.exec(server, &["nft", "delete", "table", "inet", "silent"])?;
                }
                ServerFault::Sick => {
                    let path = self.directory().join(sick(server));
                    fs::remove_file(&path).map_err(|source| LabError::File { path, source })?;
                }
                ServerFault::Unplugged => {
                    blueprint::server_cable(self.topology(), server, true).run()?;
                }
            }
        }
        Ok(())
    }

    /// What was done to a server.
    ///
    /// # Errors
    /// A command fails.
    pub fn server_status(&self, server: Station) -> Result<ServerStatus, LabError> {
        let switch = self.topology().namespace(Station::Switch);
        let plug = Command::new(["ip", "-n", &switch, "-o", "link", "show", &server.to_string()]).run()?;
        let flags = plug.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(flags, _)| flags);
        let found = [
            (ServerFault::Killed, self.pids(server)?.is_empty()),
            (ServerFault::Silent, self.exec(server, &["nft", "list", "tables"])?.contains("inet silent")),
            (ServerFault::Sick, fs::exists(self.directory().join(sick(server))).unwrap_or(false)),
            (ServerFault::Unplugged, !flags.split(',').any(|flag| flag == "UP")),
        ];
        let harms = found.into_iter().filter_map(|(harm, done)| done.then_some(harm)).collect();
        Ok(ServerStatus { node: server, faults: harms })
    }

    /// Starts the programs of all servers, and of the client for flows that servers open.
    pub(super) fn start_servers(&mut self) -> Result<(), LabError> {
        let servers = self.topology().server_stations().into_iter().map(|(node, _)| node);
        let hosts: Vec<_> = std::iter::once(Station::Client).chain(servers).collect();
        hosts.iter().try_for_each(|host| self.start_programs(*host))?;
        hosts.iter().try_for_each(|host| self.wait_until_programs_listen(*host))
    }

    fn start_programs(&mut self, host: Station) -> Result<(), LabError> {
        let name = host.to_string();
        let mut echo = self.traffic(host);
        echo.args(["serve", "--as", &name, "--sick"]).arg(self.directory().join(sick(host)));
        if let Some(nginx) = self.nginx(host) {
            echo.arg("--no-pages");
            self.write(&format!("{name}-nginx.conf"), &nginx)?;
            let mut command = self.command(host, "nginx");
            command.arg("-p").arg(self.directory()).arg("-c").arg(self.directory().join(format!("{name}-nginx.conf")));
            self.spawn(&web_program(host), command)?;
        }
        self.spawn(&name, echo)
    }

    fn wait_until_programs_listen(&mut self, host: Station) -> Result<(), LabError> {
        let name = host.to_string();
        self.wait_for(LISTEN_TIMEOUT, &name, "does not listen", |lab| Ok(lab.log(&name).contains("ready")))?;
        if self.nginx(host).is_some() {
            self.wait_for(LISTEN_TIMEOUT, &web_program(host), "does not listen", |lab| {
                Ok(lab.exec(host, &["ss", "-Hltn"])?.contains(&format!(":{WEB_PORT} ")))
            })?;
        }
        Ok(())
    }

    fn kill_programs(&self, server: Station) -> Result<(), LabError> {
        // They may have ended in the meantime, and one that is just being started is found by the next look.
        for _ in 0..100 {
            let pids = self.pids(server)?;
            if pids.is_empty() {
                // Cleared, so that nobody takes the old programs' output for that of new ones that listen.
                return self.write(&format!("{server}.log"), "");
            }
            Command::new(["kill", "-9"].into_iter().map(String::from).chain(pids)).output()?;
            pause(Duration::from_millis(10));
        }
        Err(LabError::Topology(format!("the programs of {server} do not end")))
    }

    /// Ids of the processes in a station's namespace.
    fn pids(&self, node: Station) -> Result<Vec<String>, LabError> {
        let pids = Command::new(["ip", "netns", "pids", &self.topology().namespace(node)]).run()?;
        Ok(pids.split_whitespace().map(String::from).collect())
    }

    /// The configuration of a server's nginx, if it has one.
    fn nginx(&self, host: Station) -> Option<String> {
        let farm = self.topology().farm.as_ref()?;
        match (farm.program, host) {
            (WebProgram::Nginx, Station::Server(_) | Station::Sorry) => {
                Some(nginx(host, &self.directory().join(sick(host))))
            }
            (WebProgram::BuiltIn, _)
            | (
                WebProgram::Nginx,
                Station::Client
                | Station::Outer
                | Station::Firewall(_)
                | Station::Inner
                | Station::Node(..)
                | Station::Switch,
            ) => None,
        }
    }
}

/// Name of the file that makes a server sick.
fn sick(server: Station) -> String {
    format!("{server}.sick")
}

/// Name of a server's web program among the lab's programs.
fn web_program(server: Station) -> String {
    format!("{server}-nginx")
}

fn nginx(host: Station, sick: &Path) -> String {
    let (name, sick) = (host.to_string(), sick.display());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("    {kind}_temp_path state/{name}-nginx;\n"))
        .collect();
    format!(
        r#"# Written by `fwlb lab`: the pages of {name}.
daemon off;
worker_processes 1;
pid {name}-nginx-master.pid;
error_log stderr;

events {{
    worker_connections 1024;
}}

http {{
    access_log off;
    default_type text/plain;
    reset_timedout_connection on;
{temporary}
    map $remote_addr $client {{
        ~:      "[$remote_addr]:$remote_port";
        default "$remote_addr:$remote_port";
    }}

    server {{
        listen {WEB_PORT};
        listen [::]:{WEB_PORT};
        # As long as this file is there the server is sick.
        if (-f {sick}) {{
            return 503;
        }}
        location = {HEALTH_PATH} {{
            return 200 "OK\n";
        }}
        location / {{
            return 200 "{name} greets $client\n";
        }}
    }}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_its_server_and_a_file_makes_it_sick() {
        let text = nginx(Station::Server(2), Path::new("/run/x/s2.sick"));

        assert!(text.contains("\"s2 greets $client\\n\""), "{text}");
        assert!(text.contains("if (-f /run/x/s2.sick)"), "{text}");
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
