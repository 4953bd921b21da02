use proptest::prelude::*;

use super::*;

fn answer(body: Option<&str>, bytes: &[u8]) -> HttpResponse {
    let mut answer = HttpResponse::new(vec![200..=200, 300..=399], body.map(str::to_owned));
    answer.receive(bytes);
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
    assert_eq!(answer(None, b"HTTP/1.1 200 ").verdict(false), ResponseVerdict::Undecided);
    assert_eq!(answer(None, b"HTTP/1.1 200 OK\r\n").verdict(false), ResponseVerdict::Healthy);
    assert_eq!(answer(None, b"HTTP/1.0 302\n").verdict(false), ResponseVerdict::Healthy);
    let unavailable = answer(Some("OK"), b"HTTP/1.1 503 Service Unavailable\r\n").verdict(false);
    assert_eq!(unavailable, ResponseVerdict::Unhealthy("HTTP 503, expected 200, 300-399".to_owned()));
}

#[test]
fn an_error_page_with_the_expected_text_fails_by_its_status() {
    let page = answer(Some("OK"), b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nOK");
    assert_eq!(page.verdict(true), ResponseVerdict::Unhealthy("HTTP 500, expected 200, 300-399".to_owned()));
}

/// The beginning of a final head.
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a_body_lacks_the_text_when_it_is_complete_by_length_chunks_or_close() {
    let whole = [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nall's OK"[..], false),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nall's O\r\n1\r\nK\r\n0\r\n\r\n", false),
        (b"HTTP/1.1 200 OK\r\n\r\nall's OK", true),
        (b"HTTP/1.1 200 OK\n\nall's OK", true),
        (b"HTTP/1.0 200\r\nServer: old\r\n\r\nall's OK", true),
    ];
    for (bytes, ended) in whole {
        assert_eq!(answer(Some("OK"), bytes).verdict(ended), ResponseVerdict::Healthy, "{}", bytes.escape_ascii());
        let lacking = answer(Some("FINE"), bytes);
        assert_eq!(lacking.verdict(ended), unhealthy("body lacks \"FINE\""), "{}", bytes.escape_ascii());
        assert_eq!(answer(Some("FINE"), &bytes[..bytes.len() - 8]).verdict(false), ResponseVerdict::Undecided);
    }
    let header = answer(Some("OK"), b"HTTP/1.1 200 OK\r\nX: OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(header.verdict(false), unhealthy("body lacks \"OK\""), "the head is no body");
}

#[test]
fn the_text_decides_as_soon_as_it_is_there() {
    let streams = [
        &b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: all's OK\n\n"[..],
        b"HTTP/1.0 200 OK\r\n\r\nall's OK",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nall's OK",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nall's O\r\n1000\r\nK",
    ];
    for bytes in streams {
        assert_eq!(answer(Some("OK"), bytes).verdict(false), ResponseVerdict::Healthy, "{}", bytes.escape_ascii());
        assert_eq!(answer(Some("FINE"), bytes).verdict(false), ResponseVerdict::Undecided, "{}", bytes.escape_ascii());
    }
}

#[test]
fn interim_answers_are_passed_over_however_many_but_not_without_end() {
    let interim =
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nContent-Length: 9\r\n\r\n";
    let well = [interim.as_slice(), HEAD, b"\r\nall's OK"].concat();
    assert_eq!(answer(Some("OK"), &well).verdict(false), ResponseVerdict::Healthy);
    assert_eq!(answer(None, &well[..well.len() - 10]).verdict(false), ResponseVerdict::Healthy);
    let failing = [interim.as_slice(), b"HTTP/1.1 500 No\r\n"].concat();
    assert_eq!(answer(None, &failing).verdict(false), unhealthy("HTTP 500, expected 200, 300-399"));
    assert_eq!(answer(None, interim).verdict(false), ResponseVerdict::Undecided);
    assert_eq!(answer(None, interim).verdict(true), unhealthy("connection closed after an interim answer"));
    let switching = answer(None, b"HTTP/1.1 101 Switching Protocols\r\n").verdict(false);
    assert_eq!(switching, unhealthy("HTTP 101, expected 200, 300-399"), "nobody asked for another protocol");

    let endless = answer(None, &interim.repeat(100));
    assert_eq!(endless.verdict(false), unhealthy("interim HTTP answers without an end"));
}

#[test]
fn chunks_end_where_their_sizes_say() {
    let bodies = [
        (&b"7\r\n\r\n0\r\n\r\n\r\n6\r\nALL OK\r\n0\r\n\r\n"[..], ResponseVerdict::Healthy),
        (b"7\r\n\r\n0\r\n\r\n", ResponseVerdict::Undecided),
        (b"6\r\nALL OK\r\n0\r\nX: 1\r\n\r\n", ResponseVerdict::Healthy),
        (b"4\r\nNONE\r\n0\r\nX: ALL OK\r\n\r\n", unhealthy("body lacks \"ALL OK\"")),
        (b"2;name=value;q=\"a b\"\r\nAL\r\n0004\r\nL OK\r\n", ResponseVerdict::Healthy),
        (b"2\nAL\n4 \nL OK\n", ResponseVerdict::Healthy),
        (b"3\r\nALL OK\r\n", unhealthy("HTTP chunk longer than its size")),
        (b"ALL OK", unhealthy("HTTP chunk without a size")),
        (b"\r\n", unhealthy("HTTP chunk without a size")),
        (b"-1\r\nALL OK", unhealthy("HTTP chunk without a size")),
        (b"fffffffffffffffff\r\nALL OK", unhealthy("HTTP chunk without a size")),
    ];
    for (body, expected) in bodies {
        let bytes = [CHUNKED, body].concat();
        let expected = match expected {
            // The verdict is known once the line with the size is complete.
            ResponseVerdict::Unhealthy(why) if why.ends_with("a size") && !body.contains(&b'\n') => {
                assert_eq!(answer(Some("ALL OK"), &bytes).verdict(false), ResponseVerdict::Undecided);
                assert_eq!(
                    answer(Some("ALL OK"), &bytes).verdict(true),
                    unhealthy("connection closed within the body")
                );
                continue;
            }
            other => other,
        };
        assert_eq!(answer(Some("ALL OK"), &bytes).verdict(false), expected, "{}", body.escape_ascii());
    }
    let extended = [CHUNKED, b"5;", &[b'x'; 5_000]].concat();
    assert_eq!(answer(Some("OK"), &extended).verdict(false), unhealthy("HTTP chunk size without an end"));
}

#[test]
fn the_length_is_that_of_rfc_9112_section_6_3() {
    let of = |head: &str| framing(200, head.as_bytes());
    let bad = Err("HTTP head with a bad Content-Length");
    let cases = [
        ("HTTP/1.1 200 OK\r\n\r\n", Ok(Framing::UntilClose)),
        ("HTTP/1.1 200 OK\r\ncontent-LENGTH:7\r\n\r\n", Ok(Framing::Length(7))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 7, 7\r\nContent-Length: 7\r\n\r\n", Ok(Framing::Length(7))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\n", bad.clone()),
        ("HTTP/1.1 200 OK\r\nContent-Length: +7\r\n\r\n", bad.clone()),
        ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", bad.clone()),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", bad),
        ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n", Ok(Framing::chunked())),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: Chunked\r\n\r\n", Ok(Framing::chunked())),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip,\r\n chunked\r\n\r\n", Ok(Framing::chunked())),
        ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: xchunked\r\n\r\n", Ok(Framing::UntilClose)),
        ("HTTP/1.1 200 OK\r\nno field\r\n(bad): x\r\nContent-Length : 7\r\n\r\n", Ok(Framing::Length(7))),
        ("HTTP/1.1 200 OK\r\nX: Content-Length: 7\r\n\r\n", Ok(Framing::UntilClose)),
    ];
    for (head, expected) in cases {
        assert_eq!(of(head), expected, "{head:?}");
    }
    for status in [204, 304] {
        let head = format!("HTTP/1.1 {status} OK\r\nContent-Length: 7\r\n\r\n");
        assert_eq!(framing(status, head.as_bytes()), Ok(Framing::Length(0)));
    }
}

#[test]
fn an_answer_that_ends_early_is_said_to_have_done_so() {
    for bytes in [&b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall's "[..], CHUNKED, &[CHUNKED, b"4\r\nab"].concat()]
    {
        assert_eq!(answer(Some("OK"), bytes).verdict(true), unhealthy("connection closed within the body"));
    }
    assert_eq!(answer(Some("OK"), HEAD).verdict(true), unhealthy("HTTP head without an end"));
    assert_eq!(answer(None, b"").verdict(true), unhealthy("connection closed without an answer"));
}

#[test]
fn no_more_than_the_bound_is_kept_or_looked_at() {
    let mut long = answer(Some("OK"), b"HTTP/1.1 200 OK\r\n\r\n");
    for _ in 0..64 {
        assert_eq!(long.verdict(false), ResponseVerdict::Undecided);
        long.receive(&[b'x'; 1024]);
    }
    assert_eq!(long.verdict(false), unhealthy("body lacks \"OK\" in its first 65536 bytes"));
    for _ in 0..64 {
        assert!(!long.is_flood());
        long.receive(&[b'x'; 1025]);
    }
    assert!(long.is_flood(), "its end is not waited for");

    let endless = answer(Some("OK"), &[HEAD, b"X: ", &[b'x'; HEAD_MAX]].concat());
    assert_eq!(endless.verdict(false), unhealthy("HTTP head without an end"));
    let endless = answer(Some("OK"), &[b"HTTP/1.1 200 ", &[b'x'; HEAD_MAX][..]].concat());
    assert_eq!(endless.verdict(false), unhealthy(NO_ANSWER));
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
        (b"\r\n\r\n", true),
    ] {
        assert_eq!(answer(None, bytes).verdict(ended), unhealthy(NO_ANSWER), "{}", bytes.escape_ascii());
    }
}

/// Responses of many kinds, complete and broken.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let heads = prop_oneof![
        Just(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        Just(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
    ];
    let fields = prop_oneof![
        Just("Content-Length: 9\r\n"),
        Just("Content-Length: 4\r\n"),
        Just("Content-Length: x\r\n"),
        Just("Transfer-Encoding: chunked\r\n"),
        Just("Server: folded\r\n over lines\r\n"),
        Just("no field at all\r\n"),
        Just("X: OK\n"),
        Just("\r\n"),
    ];
    let statuses = prop_oneof![Just("200 OK"), Just("204 No"), Just("302"), Just("500 No"), Just("20"), Just("101 X")];
    let pieces = prop_oneof![
        Just(b"all's OK".to_vec()),
        Just(b"O".to_vec()),
        Just(b"K".to_vec()),
        Just(b"8\r\nall's OK\r\n".to_vec()),
        Just(b"3\r\nall\r\n".to_vec()),
        Just(b"5;x=y\r\n0\r\n\r\n\r\n".to_vec()),
        Just(b"0\r\n\r\n".to_vec()),
        Just(b"1\nO\n2\nKX\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    let parts = (
        proptest::collection::vec(heads, 0..3),
        (any::<bool>(), statuses),
        proptest::collection::vec(fields, 0..4),
        proptest::collection::vec(pieces, 0..5),
    );
    parts.prop_map(|(heads, (new, status), fields, pieces)| {
        let line = format!("HTTP/1.{} {status}\r\n{}\r\n", u8::from(new), fields.concat());
        [heads.concat(), line.into_bytes(), pieces.concat()].concat()
    })
}

proptest! {
    #[test]
    fn an_answer_says_the_same_wherever_it_is_cut(
        bytes in answers(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        wanted in prop_oneof![Just(None), Just(Some("OK")), Just(Some("K"))],
    ) {
        let whole = answer(wanted, &bytes);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = answer(wanted, b"");
        let mut first = None;
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            pieces.receive(&bytes[from..cut]);
            from = cut;
            let progress = pieces.verdict(false);
            if progress != ResponseVerdict::Undecided {
                first.get_or_insert(progress);
            }
        }
        prop_assert_eq!(first.unwrap_or(ResponseVerdict::Undecided), whole.verdict(false), "the first verdict is the verdict");
        prop_assert_eq!(pieces.verdict(true), whole.verdict(true));

        let mut bytewise = answer(wanted, b"");
        bytes.iter().for_each(|byte| bytewise.receive(&[*byte]));
        prop_assert_eq!(bytewise.verdict(false), whole.verdict(false));
        prop_assert_eq!(bytewise.verdict(true), whole.verdict(true));
    }

    #[test]
    fn no_bytes_make_it_panic(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8),
        start in prop_oneof![
            Just(&b""[..]),
            Just(&b"HTTP/1.1 200 OK\r\n"[..]),
            Just(&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..]),
            Just(&b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n"[..]),
            Just(&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"[..]),
        ],
        ended in any::<bool>(),
    ) {
        let mut answer = answer(Some("OK"), start);
        for chunk in &chunks {
            answer.receive(chunk);
            let _ = answer.verdict(ended);
        }
        prop_assert_ne!(answer.verdict(true), ResponseVerdict::Undecided, "the end of an answer is a verdict");
    }

    #[test]
    fn a_chunked_body_is_what_was_chunked(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 1..6),
        at in any::<proptest::sample::Index>(),
        length in 1..5_usize,
    ) {
        let body = chunks.concat();
        let from = at.index(body.len());
        let to = (from + length).min(body.len());
        // Any text that the body contains, also across the border of two chunks, and one that it does not contain.
        let Ok(wanted) = std::str::from_utf8(&body[from..to]) else { return Ok(()) };
        let mut raw = CHUNKED.to_vec();
        for chunk in &chunks {
            raw.extend_from_slice(format!("{:x};name=value\r\n", chunk.len()).as_bytes());
            raw.extend_from_slice(chunk);
            raw.extend_from_slice(b"\r\n");
        }
        raw.extend_from_slice(b"0\r\n\r\n");

        prop_assert_eq!(answer(Some(wanted), &raw).verdict(false), ResponseVerdict::Healthy);
        let longer = "name=value";
        prop_assume!(!body.windows(longer.len()).any(|window| window == longer.as_bytes()));
        prop_assert_eq!(answer(Some(longer), &raw).verdict(false), unhealthy("body lacks \"name=value\""));
    }
}
