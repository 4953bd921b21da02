use proptest::prelude::*;

use super::*;

fn answer(body: Option<&str>, bytes: &[u8]) -> Answer {
    let mut answer = Answer::new(vec![200..=200, 300..=399], body.map(str::to_owned));
    answer.take(bytes);
    answer
}

#[test]
fn a_request_names_its_host_and_closes() {
    let text = |host, address: &str, port| {
        String::from_utf8(request("/healthz", host, address.parse().unwrap(), port)).unwrap()
    };

    assert!(text(None, "10.0.0.1", 80).starts_with("GET /healthz HTTP/1.1\r\nHost: 10.0.0.1\r\n"));
    assert!(text(None, "fd00::1", 8080).contains("\r\nHost: [fd00::1]:8080\r\n"));
    assert!(text(Some("www.example.com"), "fd00::1", 80).contains("\r\nHost: www.example.com\r\n"));
    assert!(text(None, "10.0.0.1", 80).ends_with("\r\nConnection: close\r\n\r\n"));
}

#[test]
fn the_status_decides_as_soon_as_its_line_is_there() {
    assert_eq!(answer(None, b"HTTP/1.1 200 ").progress(false), Progress::More);
    assert_eq!(answer(None, b"HTTP/1.1 200 OK\r\n").progress(false), Progress::Well);
    assert_eq!(answer(None, b"HTTP/1.0 302\n").progress(false), Progress::Well);
    let unavailable = answer(Some("OK"), b"HTTP/1.1 503 Service Unavailable\r\n").progress(false);
    assert_eq!(unavailable, Progress::Ill("HTTP 503, expected 200, 300-399".to_owned()));
}

#[test]
fn an_error_page_with_the_expected_text_fails_by_its_status() {
    let page = answer(Some("OK"), b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nOK");
    assert_eq!(page.progress(true), Progress::Ill("HTTP 500, expected 200, 300-399".to_owned()));
}

#[test]
fn the_body_decides_when_it_is_complete_by_length_chunks_or_close() {
    let well = [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nall's OK"[..], false),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nall's O\r\n1\r\nK\r\n0\r\n\r\n", false),
        (b"HTTP/1.1 200 OK\r\n\r\nall's OK", true),
        (b"HTTP/1.1 200 OK\n\nall's OK", true),
    ];
    for (bytes, ended) in well {
        assert_eq!(answer(Some("OK"), bytes).progress(ended), Progress::Well, "{}", bytes.escape_ascii());
        let lacking = answer(Some("FINE"), bytes).progress(ended);
        assert_eq!(lacking, Progress::Ill("body lacks \"FINE\"".to_owned()));
    }
    assert_eq!(answer(Some("OK"), b"HTTP/1.1 200 OK\r\n\r\nall's OK").progress(false), Progress::More);
    let header = answer(Some("OK"), b"HTTP/1.1 200 OK\r\nX: OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(header.progress(false), Progress::Ill("body lacks \"OK\"".to_owned()), "the head is no body");
}

#[test]
fn no_more_than_the_bound_is_kept_or_looked_at() {
    let head = b"HTTP/1.1 200 OK\r\n\r\n";
    let mut long = answer(Some("OK"), head);
    for _ in 0..100 {
        long.take(&[b'x'; 1024]);
    }
    long.take(b"OK");

    assert_eq!(long.progress(false), Progress::Ill("body lacks \"OK\"".to_owned()));
    assert!(long.is_flood() && long.bytes.len() == HEAD_MAX + BODY_MAX);

    let endless = answer(Some("OK"), &[b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; HEAD_MAX]].concat());
    assert_eq!(endless.progress(false), Progress::Ill("HTTP head without an end".to_owned()));
}

#[test]
fn what_is_not_http_is_said_to_be_so() {
    for (bytes, ended) in [
        (&b"SSH-2.0-OpenSSH_9.2p1\r\n"[..], false),
        (b"220 mail ESMTP", false),
        (b"HTTP/2 200\r\n", false),
        (b"HTTP/1.1 20x\r\n", false),
        (b"HTTP/1.1 2000\r\n", false),
        (b"HTTP/1.1 200", true),
    ] {
        assert_eq!(answer(None, bytes).progress(ended), ill(NO_ANSWER), "{}", bytes.escape_ascii());
    }
    assert_eq!(answer(None, b"").progress(true), ill("connection closed without an answer"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8),
        start in prop_oneof![
            Just(&b""[..]),
            Just(&b"HTTP/1.1 200 OK\r\n"[..]),
            Just(&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..]),
            Just(&b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"[..]),
            Just(&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"[..]),
        ],
        ended in any::<bool>(),
    ) {
        let mut answer = answer(Some("OK"), start);
        for chunk in &chunks {
            answer.take(chunk);
            let _ = answer.progress(ended);
        }
        // The end of an answer is a verdict.
        prop_assert_ne!(answer.progress(true), Progress::More);
    }

    #[test]
    fn a_chunked_body_is_what_was_chunked(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
    ) {
        let mut raw = Vec::new();
        for chunk in &chunks {
            raw.extend_from_slice(format!("{:x};name=value\r\n", chunk.len()).as_bytes());
            raw.extend_from_slice(chunk);
            raw.extend_from_slice(b"\r\n");
        }
        raw.extend_from_slice(b"0\r\n\r\n");

        prop_assert!(Framing::Chunked.is_complete(&raw));
        prop_assert_eq!(dechunked(&raw), chunks.concat());
    }
}
