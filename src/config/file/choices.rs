//! Lists the choices of every key that takes one of a few strings, each with its meaning.

use super::{CheckKindName, HashPart, ServiceCheckKindName};
use crate::config::{AdminState, BelowMin, ForwardingMode, Io, LearnBy, Observe, OnFailure, Role, SchedulerName};
use crate::flow::HashMode;

/// `io` of `[engine]`.
pub const IO: [(&str, Io); 2] = Io::CHOICES;

/// `role` of `[[api.token]]`.
pub const ROLE: [(&str, Role); 2] = Role::CHOICES;

/// `level` of `[log]`.
pub const LEVEL: [(&str, &str); 5] =
    [("error", "error"), ("warn", "warn"), ("info", "info"), ("debug", "debug"), ("trace", "trace")];

/// `format` of `[log]`: whether it is JSON.
pub const FORMAT: [(&str, bool); 2] = [("text", false), ("json", true)];

/// `facility` of `[log]`: codes of RFC 5424 section 6.2.1 by their names in syslog.conf(5). Codes without such a name
/// are left out.
pub const FACILITY: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// `hash` of `[[group]]`.
pub const HASH: [(&str, HashMode); 5] = HashMode::CHOICES;

/// `on-failure` of `[[group]]` and `[[service]]`.
pub const ON_FAILURE: [(&str, OnFailure); 4] = OnFailure::CHOICES;

/// `below-min` of `[[group]]`.
pub const BELOW_MIN: [(&str, BelowMin); 2] = BelowMin::CHOICES;

/// `observe` of `[[service]]`.
pub const OBSERVE: [(&str, Observe); 2] = Observe::CHOICES;

/// `learn-by` of `[[group.firewall]]`.
pub const LEARN_BY: [(&str, LearnBy); 2] = LearnBy::CHOICES;

/// `admin` of firewalls, services and servers.
pub const ADMIN: [(&str, AdminState); 3] = AdminState::CHOICES;

/// `kind` of `[group.check]`.
pub const KIND: [(&str, CheckKindName); 4] = CheckKindName::CHOICES;

/// `protocol` of `[[service]]`: IP protocol numbers.
pub const PROTOCOL: [(&str, u8); 2] = [("tcp", 6), ("udp", 17)];

/// `scheduler` of `[[service]]`.
pub const SCHEDULER: [(&str, SchedulerName); 3] = SchedulerName::CHOICES;

/// `hash-on` of `[[service]]`.
pub const HASH_ON: [(&str, HashPart); 4] = HashPart::CHOICES;

/// `mode` of `[[service]]`.
pub const MODE: [(&str, ForwardingMode); 4] = ForwardingMode::CHOICES;

/// `by` of `sticky`.
pub const STICKY_BY: [(&str, ()); 1] = [("source", ())];

/// `kind` of `[service.check]`.
pub const SERVICE_KIND: [(&str, ServiceCheckKindName); 5] = ServiceCheckKindName::CHOICES;
