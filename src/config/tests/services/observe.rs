//! Tests of `observe`.

use super::*;

#[test]
fn observing_clients_needs_answers_that_come_through_the_engine_and_a_check() {
    const OBSERVE: &str = "observe = \"layer4\"";
    assert_eq!((only(FARM).observe, only(&service(OBSERVE)).observe), (Observe::Off, Observe::Layer4));
    let unchecked = check("kind = \"none\"").replacen("port = 80\n", &format!("port = 80\n{OBSERVE}\n"), 1);
    for (text, why) in [
        (service(&format!("{OBSERVE}\nmode = \"tunnel\"")), "the answers of servers pass the engine by"),
        (service(OBSERVE).replacen("\"tcp\"", "\"udp\"", 1), "the service has no TCP"),
        (unchecked, "nothing would bring a server back"),
    ] {
        let told = load_text(&text).diagnostics.to_string();
        assert!(told.contains("`observe = \"layer4\"` cannot work") && told.contains(why), "{told}");
    }
}
