//! Lists the choices of every key that takes one of a few strings, each with its meaning.

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

/// `protocol` of `[[service]]`: IP protocol numbers.
pub const PROTOCOL: [(&str, u8); 2] = [("tcp", 6), ("udp", 17)];

/// `by` of `sticky`.
pub const STICKY_BY: [(&str, ()); 1] = [("source", ())];
