//! Tests of what an engine knows of its servers when it starts again.

use std::fs;

use super::*;

/// A balancer with one server on a host at `rb0`, which is checked at this interval.
fn balancer(directory: &Path, interval: &str) -> EngineFile {
    let text = format!(
        "[[link]]\nname = \"a\"\ndevice = \"ra0\"\naddresses = [\"10.66.1.1/24\"]\n\
         [[link]]\nname = \"b\"\ndevice = \"rb0\"\naddresses = [\"10.66.2.1/24\"]\n\
         [[service]]\nname = \"web\"\naddress = \"10.66.1.80\"\nprotocol = \"tcp\"\nport = 80\n\
         [service.check]\nkind = \"tcp\"\ninterval = \"{interval}\"\nrise = 5\nfall = 3\n\
         [[service.server]]\nname = \"s1\"\naddress = \"10.66.2.2\"\nport = 8080\n"
    );
    file(directory, "lb", &text)
}

#[test]
fn an_engine_that_starts_again_serves_by_what_it_knew_and_else_by_the_first_checks() {
    if !namespace() {
        return;
    }
    let (a, b) = (Host::new(), Host::new());
    plug_in(&a, "ra0", 1);
    plug_in(&b, "rb0", 2);
    let directory = tempfile::tempdir().unwrap();
    let state = || get(directory.path(), "lb", "services")[0]["servers"][0]["state"].clone();
    let kept = directory.path().join("lb/servers.json");
    let is_kept = || fs::read_to_string(&kept).is_ok_and(|text| text.contains("web/s1"));
    let listen = || b.run(|| TcpListener::bind("10.66.2.2:8080").unwrap());

    let listener = listen();
    let run = Run::start(vec![balancer(directory.path(), "30s")]);
    eventually("the first check decides, at once", || state() == "up");
    eventually("it is kept", is_kept);
    run.stop();

    drop(listener);
    let run = Run::start(vec![balancer(directory.path(), "2s")]);
    assert_eq!(state(), "up", "its checks have not said otherwise");
    eventually("it is down when they have", || state() == "down");
    eventually("that is kept", || !is_kept());
    run.stop();

    let _listener = listen();
    let run = Run::start(vec![balancer(directory.path(), "30s")]);
    eventually("one that was down is up with its first check", || state() == "up");
    run.stop();
}
