use std::net::Ipv4Addr;

use tokio::sync::oneshot;

use super::*;

fn plan(protocol: Protocol, to: SocketAddr) -> TrafficPlan {
    TrafficPlan {
        protocol,
        to,
        flows: 3,
        interval: Duration::from_millis(10),
        size: 100,
        duration: Duration::from_millis(200),
        timeout: Duration::from_millis(500),
        reopen: true,
        lifetime: None,
    }
}

async fn server() -> (SocketAddr, SocketAddr) {
    let (ready, listening) = oneshot::channel();
    let s1 = Serve { name: "s1".to_owned(), echo: 0, pages: Some(0), sick: None };
    tokio::spawn(serve(s1, |echo, pages| ready.send((echo.port(), pages.unwrap().port())).unwrap()));
    let (echo, page) = listening.await.expect("binds a free port");
    ((Ipv4Addr::LOCALHOST, echo).into(), (Ipv4Addr::LOCALHOST, page).into())
}

async fn flows(plan: TrafficPlan) -> Vec<FlowReport> {
    let mut flows = Vec::new();
    run(plan, |line| match line {
        OutputLine::Flow(flow) => flows.push(flow.clone()),
        OutputLine::Ready | OutputLine::Progress(_) | OutputLine::Page(_) => {}
    })
    .await;
    flows
}

#[tokio::test]
async fn every_request_on_a_good_network_is_answered() {
    let (echo, _) = server().await;

    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let flows = flows(plan(protocol, echo)).await;

        assert_eq!(flows.len(), 3);
        for flow in flows {
            assert_eq!((flow.lost(), &flow.end, flow.waited_ms), (0, &FlowEnd::Finished, None), "{flow:?}");
            assert!(flow.sent >= 5, "{flow:?}");
            assert!(flow.local.is_some_and(|local| local.starts_with("127.0.0.1:")));
        }
    }
}

#[tokio::test]
async fn short_lived_flows_follow_one_another() {
    let (echo, _) = server().await;

    let flows =
        flows(TrafficPlan { flows: 1, lifetime: Some(Duration::from_millis(30)), ..plan(Protocol::Tcp, echo) }).await;

    assert!(flows.len() >= 3, "{flows:?}");
    assert!(flows.iter().all(|flow| flow.end == FlowEnd::Finished && flow.lost() == 0), "{flows:?}");
}

#[tokio::test]
async fn a_cut_connection_is_reported_and_opened_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Unread data at close makes the kernel reset the connection.
            tokio::time::sleep(Duration::from_millis(30)).await;
            drop(stream);
        }
    });

    let flows = flows(TrafficPlan { flows: 1, ..plan(Protocol::Tcp, to) }).await;

    assert!(flows.len() > 1, "{flows:?}");
    let first = &flows[0];
    assert_eq!((&first.end, first.answered, first.waited_ms.is_some()), (&FlowEnd::Reset, 0, true), "{first:?}");
}

#[tokio::test]
async fn a_silent_server_is_told_from_one_that_resets() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = tokio::net::UdpSocket::bind(listener.local_addr().unwrap()).await.unwrap();
    let to = listener.local_addr().unwrap();

    let tcp = flows(TrafficPlan { flows: 1, reopen: false, ..plan(Protocol::Tcp, to) }).await;
    let udp = flows(TrafficPlan { flows: 1, ..plan(Protocol::Udp, to) }).await;

    assert_eq!(tcp[0].end, FlowEnd::Hung);
    assert!(tcp[0].longest_stall_ms >= 500, "{tcp:?}");
    assert_eq!((udp[0].answered, udp[0].lost()), (0, udp[0].sent));
    assert_eq!(udp[0].lost_at_ms.len(), (udp[0].sent as usize).min(LOST_MAX));
    drop(silent);
}

#[tokio::test]
async fn the_page_says_who_was_reached_by_whom() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (_, page) = server().await;

    let mut stream = tokio::net::TcpStream::connect(page).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: s1\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();

    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with(&format!("s1 greets {}\n", stream.local_addr().unwrap())), "{answer}");
}

#[test]
fn lines_read_as_they_were_written() {
    let line = OutputLine::Progress(Progress { at_ms: 250, sent: 10, answered: 9 });

    let text = serde_json::to_string(&line).unwrap();

    assert_eq!(text, r#"{"kind":"progress","at_ms":250,"sent":10,"answered":9}"#);
    assert_eq!(serde_json::from_str::<OutputLine>(&text).unwrap(), line);
}
