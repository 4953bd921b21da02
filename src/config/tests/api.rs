//! Tests of `[api]`.

use super::*;

const CERTIFICATE: &str = include_str!("../../../tests/data/api.crt");
const KEY: &str = include_str!("../../../tests/data/api.key");

/// [`GOOD`] with this `[api]`; the files that it names exist.
fn load_api(api: &str) -> LoadedConfig {
    load("x.toml", &format!("{GOOD}\n[api]\n{api}"), &mut |path| match path.to_str() {
        Some("/etc/fwlb/tls.crt") => Ok(CERTIFICATE.to_owned()),
        Some("/etc/fwlb/tls.key") => Ok(KEY.to_owned()),
        Some("/etc/fwlb/ansible.token") => Ok("0123456789abcdef\n".to_owned()),
        _ => Err("No such file".to_owned()),
    })
}

const TLS: &str = "tls = { certificate = \"/etc/fwlb/tls.crt\", key = \"file:/etc/fwlb/tls.key\" }\n";
const TOKEN: &str =
    "[[api.token]]\nname = \"ansible\"\nrole = \"operator\"\nsecret = \"file:/etc/fwlb/ansible.token\"\n";

#[test]
fn the_example_of_the_contract_is_understood_and_shows_no_secret() {
    let outcome = load_api(&format!("listen = \"192.0.2.1:9600\"\nsocket-group = \"fwlb\"\n{TLS}{TOKEN}"));

    assert_eq!(outcome.diagnostics.to_string(), "");
    let api = outcome.config.unwrap().api;
    assert_eq!(api.listen, Some("192.0.2.1:9600".parse().unwrap()));
    assert_eq!(api.socket_group.as_deref(), Some("fwlb"));
    assert_eq!((api.tokens[0].name.as_str(), api.tokens[0].role), ("ansible", Role::Operator));
    assert_eq!(api.tokens[0].secret.expose(), "0123456789abcdef", "without the newline");
    assert_eq!(api.tls.as_ref().unwrap().key.expose(), KEY.trim_end());
    let debugged = format!("{api:?}");
    assert!(!debugged.contains("0123456789abcdef") && !debugged.contains("PRIVATE"), "{debugged}");
}

#[test]
fn without_a_section_nothing_listens_and_loopback_needs_neither_tls_nor_token() {
    assert_eq!(load_text(GOOD).config.unwrap().api, Api::default());
    for listen in ["127.0.0.1:9600", "127.9.9.9:1", "[::1]:65535"] {
        let outcome = load_api(&format!("listen = \"{listen}\"\n"));
        assert_eq!(outcome.diagnostics.to_string(), "");
        assert_eq!(outcome.config.unwrap().api.listen, Some(listen.parse().unwrap()));
    }
}

#[test]
fn what_would_expose_the_engine_or_cannot_work_is_refused() {
    let beyond = "listen = \"0.0.0.0:9600\"\n";
    let with_secret = |secret: &str| format!("[[api.token]]\nname = \"a\"\nrole = \"viewer\"\nsecret = \"{secret}\"\n");
    for (api, words) in [
        (beyond.to_owned(), ["beyond loopback needs `tls`", "beyond loopback needs a token"]),
        (format!("{beyond}{TLS}"), ["needs a token", "[[api.token]]"]),
        (format!("{beyond}{TOKEN}"), ["needs `tls`", "127.0.0.1:9600"]),
        (
            "listen = \"198.51.100.1:9600\"\n".to_owned(),
            ["own address on link \"clients\", here where the API listens", "management device"],
        ),
        ("listen = \"localhost:9600\"\n".to_owned(), ["not an address with a port", "\"127.0.0.1:9600\""]),
        ("listen = \"127.0.0.1\"\n".to_owned(), ["not an address with a port", "[::1]:9600"]),
        ("listen = \"127.0.0.1:0\"\n".to_owned(), ["not an address with a port", "1..=65535"]),
        (TLS.replace("tls.crt", "none.crt"), ["cannot read /etc/fwlb/none.crt", "No such file"]),
        (TLS.replace("tls.crt", "tls.key"), ["no certificate in /etc/fwlb/tls.key", "BEGIN CERTIFICATE"]),
        (TLS.replace("tls.key", "tls.crt"), ["no private key here", "BEGIN PRIVATE KEY"]),
        (TLS.replace("file:", ""), ["names its file", "write \"file:/etc/fwlb/tls.key\""]),
        ("tls = { certificate = \"/etc/fwlb/tls.crt\" }\n".to_owned(), ["needs `key`", "file:"]),
        (with_secret("short"), ["has 5 bytes and can be guessed", "/dev/urandom"]),
        (with_secret("sixteen letters."), ["a request cannot carry", "letters and digits"]),
        (TOKEN.replace("operator", "admin"), ["`role` must be", "\"viewer\" or \"operator\""]),
        (format!("{TOKEN}{TOKEN}"), ["token \"ansible\" stands twice", "this secret stands twice"]),
        (format!("{TOKEN}{}", TOKEN.replace("name = \"ansible\"", "name = \"b\"")), ["this secret", "twice"]),
        ("socket-group = \"a b\"\n".to_owned(), ["not the name of a group", "a b"]),
        ("lisen = \"127.0.0.1:9600\"\n".to_owned(), ["unknown key `lisen` in [api]", "`listen`"]),
    ] {
        let outcome = load_api(&api);
        let said = outcome.diagnostics.to_string();
        assert!(outcome.config.is_none(), "{api}accepted, saying:\n{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} are not in:\n{said}");
        assert!(!said.contains("0123456789abcdef") || api.contains("0123456789abcdef"), "{said}");
    }
}

#[test]
fn tokens_that_nobody_can_use_are_told() {
    let outcome = load_api(TOKEN);
    assert!(outcome.config.is_some());
    assert!(outcome.diagnostics.to_string().contains("add listen"), "{}", outcome.diagnostics);
}

#[test]
fn engines_that_share_an_address_say_the_same_about_it() {
    let compared = |one: &str, two: &str| {
        let mut both = [load_api(one), load_api(two)];
        both[1].config.as_mut().unwrap().engine = Engine {
            name: "other".into(),
            workers: None,
            io: Io::AfPacket,
            xdp_send: true,
            busy_poll: false,
            control: "/a".into(),
            state: "/b".into(),
            user: None,
            group: None,
            sandbox: true,
        };
        compare(&mut both);
        (both[1].diagnostics.to_string(), both[1].config.is_some())
    };
    let listen = "listen = \"127.0.0.1:9600\"\n";
    let token = format!("{listen}{TOKEN}");

    assert_eq!(compared(&token, &token), (String::new(), true));
    assert_eq!(compared(listen, &token), (String::new(), true));
    for (one, two, words) in [
        (format!("{listen}{TLS}"), listen.to_owned(), "with another `tls`"),
        (token.clone(), token.replace("operator", "viewer"), "token \"ansible\" is another one"),
        (token.clone(), token.replace("name = \"ansible\"", "name = \"b\""), "token \"b\" is another one"),
        (token.clone(), token.replace("file:/etc/fwlb/ansible.token", "fedcba9876543210"), "is another one"),
    ] {
        let (said, accepted) = compared(&one, &two);
        assert!(!accepted && said.contains(words), "{words:?} is not in:\n{said}");
    }
}
