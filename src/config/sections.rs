//! Lists what a configuration says section by section, in the form that a file has it. What the keys of a section say
//! comes from their declarations in [`mod@file`]; the tests of [`crate::config::difference`] change each by itself.

use crate::config::fact::Value;
use crate::config::file;
use crate::config::reader::Declared;
use crate::config::schema::{Key, Schema};
use crate::config::{Config, Group, Service};

/// One section of a configuration with its values.
#[derive(Debug)]
pub struct Section {
    /// The declaration of the section.
    pub schema: &'static Schema,
    /// What the section is about: `firewall perimeter/fw2`. A section that stands once within another has the subject
    /// of that one.
    pub subject: String,
    /// The path from the top of the file: keys, each with the name of the list item that is meant (of a route its
    /// prefix).
    pub path: Vec<(&'static str, Option<String>)>,
    /// The section's keys and their values, without subsections.
    pub values: Vec<(&'static str, Value)>,
}

impl Section {
    /// The section that is declared as `T`.
    fn new<T: Declared>(
        subject: impl Into<String>,
        path: &[(&'static str, Option<&str>)],
        values: Vec<(&'static str, Value)>,
    ) -> Self {
        let path = path.iter().map(|(key, name)| (*key, name.map(str::to_owned))).collect();
        Self { schema: T::schema(), subject: subject.into(), path, values }
    }

    /// The key under which the section stands in its parent, if it has the subject of the parent.
    pub fn within(&self) -> Option<&'static str> {
        match self.path.as_slice() {
            [_, .., (key, None)] => Some(key),
            _ => None,
        }
    }

    /// The values together with the declarations of their keys.
    pub fn keys(&self) -> impl Iterator<Item = (&'static Key, &Value)> {
        self.values.iter().filter_map(|(name, value)| Some((self.schema.key(name)?, value)))
    }

    /// The name of a key as differences have it: `weight`, `check.interval`.
    pub fn name(&self, key: &str) -> String {
        self.within().map_or_else(|| key.to_owned(), |within| format!("{within}.{key}"))
    }
}

/// All sections of a configuration in the order of a file, including values that are left to their defaults.
pub fn sections(config: &Config) -> Vec<Section> {
    // Names every part of Config, so that a new one does not compile until its section is listed below.
    let Config {
        engine: _,
        api: _,
        log: _,
        limits: _,
        timeouts: _,
        ha: _,
        devices: _,
        links: _,
        routes: _,
        groups: _,
        firewalls: _,
        peers: _,
        services: _,
        servers: _,
        digest: _,
    } = config;
    let once = |key: &'static str| [(key, None)];
    let mut all =
        vec![Section::new::<file::Engine>("engine", &once("engine"), file::Engine::facts(&config.engine, config))];
    api(config, &mut all);
    all.push(Section::new::<file::Log>("log", &once("log"), file::Log::facts(&config.log, config)));
    all.push(Section::new::<file::Limits>("limits", &once("limits"), file::Limits::facts(&config.limits, config)));
    let facts = file::Timeouts::facts(&config.timeouts, config);
    all.push(Section::new::<file::Timeouts>("timeouts", &once("timeouts"), facts));
    if let Some(ha) = &config.ha {
        let here = ("ha", None);
        all.push(Section::new::<file::Ha>("ha", &[here], file::Ha::facts(ha, config)));
        for node in &ha.nodes {
            let (subject, path) = (format!("node {}", node.name), [here, ("node", Some(node.name.as_str()))]);
            all.push(Section::new::<file::Node>(subject, &path, file::Node::facts(node, config)));
        }
    }
    for link in &config.links {
        let (subject, path) = (format!("link {}", link.name), [("link", Some(link.name.as_str()))]);
        all.push(Section::new::<file::Link>(subject, &path, file::Link::facts(link, config)));
    }
    for route in &config.routes {
        let to = route.to.to_string();
        let facts = file::Route::facts(route, config);
        all.push(Section::new::<file::Route>(format!("route {to}"), &[("route", Some(&to))], facts));
    }
    config.groups.iter().for_each(|of| group(config, of, &mut all));
    config.services.iter().for_each(|of| service(config, of, &mut all));
    all
}

fn api(config: &Config, all: &mut Vec<Section>) {
    let here = ("api", None);
    all.push(Section::new::<file::Api>("api", &[here], file::Api::facts(&config.api, config)));
    if let Some(tls) = &config.api.tls {
        all.push(Section::new::<file::Tls>("api", &[here, ("tls", None)], file::Tls::facts(tls, config)));
    }
    for token in &config.api.tokens {
        let (subject, path) = (format!("token {}", token.name), [here, ("token", Some(token.name.as_str()))]);
        all.push(Section::new::<file::Token>(subject, &path, file::Token::facts(token, config)));
    }
}

fn group(config: &Config, group: &Group, all: &mut Vec<Section>) {
    let name = &group.name;
    let subject = format!("group {name}");
    let here = ("group", Some(name.as_str()));
    all.push(Section::new::<file::Group>(subject.clone(), &[here], file::Group::facts(group, config)));
    let facts = file::Check::facts(&group.check, config);
    all.push(Section::new::<file::Check>(subject, &[here, ("check", None)], facts));
    for peer in group.peers.iter().map(|id| &config.peers[id.index()]) {
        let (subject, at) = (format!("peer {name}/{}", peer.name), ("peer", Some(peer.name.as_str())));
        all.push(Section::new::<file::Peer>(subject.clone(), &[here, at], file::Peer::facts(peer, config)));
        for engine in &peer.engines {
            let path = [here, at, ("engines", Some(engine.name.as_str()))];
            let facts = file::PeerEngine::facts(engine, config);
            all.push(Section::new::<file::PeerEngine>(format!("{subject} engine {}", engine.name), &path, facts));
        }
    }
    for firewall in group.firewalls.iter().map(|id| &config.firewalls[id.index()]) {
        let path = [here, ("firewall", Some(firewall.name.as_str()))];
        let facts = file::Firewall::facts(firewall, config);
        all.push(Section::new::<file::Firewall>(format!("firewall {name}/{}", firewall.name), &path, facts));
    }
    for rule in &group.affinity {
        let prefix = rule.prefix.to_string();
        let facts = file::Affinity::facts(rule, config);
        all.push(Section::new::<file::Affinity>(
            format!("affinity {name}/{prefix}"),
            &[here, ("affinity", Some(&prefix))],
            facts,
        ));
    }
}

fn service(config: &Config, service: &Service, all: &mut Vec<Section>) {
    let name = &service.name;
    let subject = format!("service {name}");
    let here = ("service", Some(name.as_str()));
    all.push(Section::new::<file::Service>(subject.clone(), &[here], file::Service::facts(service, config)));
    if let Some(sticky) = &service.sticky {
        let facts = file::Sticky::facts(sticky, config);
        all.push(Section::new::<file::Sticky>(subject.clone(), &[here, ("sticky", None)], facts));
    }
    let facts = file::ServiceCheck::facts(&service.check, config);
    all.push(Section::new::<file::ServiceCheck>(subject, &[here, ("check", None)], facts));
    for server in service.servers.iter().map(|id| &config.servers[id.index()]) {
        let path = [here, ("server", Some(server.name.as_str()))];
        let facts = file::Server::facts(server, config);
        all.push(Section::new::<file::Server>(format!("server {name}/{}", server.name), &path, facts));
    }
}
