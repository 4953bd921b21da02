//! Lists the choices of the keys whose values are no enum, each with its meaning, and the words that a later version will
//! know.

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

/// Words of `protocol` of a later version, each with what to write instead.
pub const PROTOCOL_RESERVED: &[(&str, &str)] =
    &[("any", "use \"tcp\", \"udp\" or both"), ("sctp", "use \"tcp\", \"udp\" or both")];

/// Words of `mode` of `[[service]]` of a later version, each with what to write instead.
pub const MODE_RESERVED: &[(&str, &str)] = &[("proxy", "use \"nat\", \"full-nat\", \"direct\" or \"tunnel\"")];

/// `by` of `sticky`.
pub const STICKY_BY: [(&str, ()); 1] = [("source", ())];

/// Words of `by` of `sticky` of a later version, each with what to write instead.
pub const STICKY_BY_RESERVED: &[(&str, &str)] = &[("cookie", "use by = \"source\"")];

/// Words of `kind` of `[group.check]` of a later version, each with what to write instead.
pub const CHECK_KIND_RESERVED: &[(&str, &str)] = &[("https", "use \"icmp\", \"tcp\" or \"udp\"")];

/// Words of `kind` of `[service.check]` of a later version, each with what to write instead.
pub const SERVICE_CHECK_KIND_RESERVED: &[(&str, &str)] = &[("https", "use \"http\" or \"tcp\"")];
