use super::*;
use crate::io::machine::PinnedThread;
use crate::wire::Family;

/// Two workers on the last two of four CPUs.
fn workers() -> Workers {
    Workers { cpus: vec![3, 2], placed: Vec::new(), busy_poll: false, xdp: None, has_checks: true }
}

fn machine(devices: Vec<Device>) -> Machine {
    Machine { cpus: vec![0, 1, 2, 3], devices, ..Machine::default() }
}

fn device(port: Port) -> Device {
    Device { name: port.name.clone(), ports: vec![port], ..Device::default() }
}

fn port(name: &str) -> Port {
    Port { name: name.to_owned(), rps_cpus: vec![Vec::new(); 2], ..Port::default() }
}

/// The only warning, as a line.
fn only(workers: &Workers, machine: &Machine) -> String {
    let found = warnings(workers, machine);
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].to_string()
}

#[track_caller]
fn assert_says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}

#[test]
fn a_machine_in_order_is_not_complained_of() {
    let card = Port {
        is_card: true,
        rps_cpus: vec![vec![0, 1], vec![]],
        interrupts: vec![(30, vec![0]), (31, vec![1, 2])],
        napi_threads: vec![PinnedThread { pid: 9, name: "napi/eth0-1".to_owned(), cpus: vec![0, 1, 2, 3] }],
        ..port("eth0")
    };
    let other = PinnedThread { pid: 70, name: "fwlb-worker-0".to_owned(), cpus: vec![1] };

    let machine = Machine { workers: vec![other], ..machine(vec![device(card)]) };

    assert_eq!(warnings(&workers(), &machine), []);
}

#[test]
fn frames_steered_onto_a_worker_are_told_with_the_mask_that_leaves_it_out() {
    let steered = Port { rps_cpus: vec![vec![0], vec![1, 2, 3], vec![3]], ..port("eth0") };

    let line = only(&workers(), &machine(vec![device(steered)]));

    assert_says(&line, &["eth0", "CPUs 2-3", "echo 2 > /sys/class/net/eth0/queues/rx-1/rps_cpus", "other 1 queues"]);
}

#[test]
fn forwarding_by_the_kernel_is_told_with_the_keys_that_end_it() {
    let forwards = |families: &[Family]| Device { forwards: families.to_vec(), ..device(port("eth0")) };

    let line = only(&workers(), &machine(vec![forwards(&[Family::V4, Family::V6])]));
    assert_says(
        &line,
        &["IPv4 and IPv6 on eth0", "sysctl -w net.ipv4.conf.eth0.forwarding=0 net.ipv6.conf.all.forwarding=0"],
    );
    let line = only(&workers(), &machine(vec![forwards(&[Family::V4])]));
    assert!(!line.contains("IPv6") && !line.contains("ipv6"), "{line}");
}

#[test]
fn merging_that_cannot_be_undone_is_told() {
    let merges = Device { lro: true, ..device(port("eth0")) };

    assert_says(&only(&workers(), &machine(vec![merges])), &["ethtool -K eth0 lro off"]);
}

#[test]
fn more_workers_than_cpus_are_told_also_over_several_engines() {
    let many = Workers { cpus: vec![3, 2, 1, 0, 3], ..workers() };
    assert_says(&only(&many, &machine(vec![])), &["5 packet workers share CPUs 0-3", "4 at most"]);

    let second = Workers { placed: vec![3, 2, 1], cpus: vec![0, 3], ..workers() };
    assert_says(&only(&second, &machine(vec![])), &["5 packet workers of this and the engines before it"]);
    let fits = Workers { placed: vec![3, 2], cpus: vec![1, 0], ..workers() };
    assert_eq!(warnings(&fits, &machine(vec![])), []);
}

#[test]
fn spinning_workers_on_every_cpu_are_told() {
    let all = |busy_poll| Workers { cpus: vec![3, 2, 1, 0], busy_poll, ..workers() };

    assert_says(&only(&all(true), &machine(vec![])), &["busy-poll", "workers = 3"]);
    assert_eq!(warnings(&all(false), &machine(vec![])), []);
}

#[test]
fn a_worker_of_another_process_on_the_same_cpu_is_told() {
    let other = |cpus| PinnedThread { pid: 70, name: "fwlb-worker-0".to_owned(), cpus };
    let with = |cpus| Machine { workers: vec![other(cpus)], ..machine(vec![]) };

    assert_says(&only(&workers(), &with(vec![3])), &["pid 70", "CPU 3", "one process"]);
    assert_eq!(warnings(&workers(), &with(vec![0])), []);
    assert_eq!(warnings(&workers(), &with(vec![0, 1, 2, 3])), [], "kept to no CPU, it makes room");
}

#[test]
fn a_kernel_thread_that_can_only_be_in_the_way_is_told() {
    let receiver = |cpus| PinnedThread { pid: 9, name: "napi/eth0-1".to_owned(), cpus };
    let with = |cpus| machine(vec![device(Port { napi_threads: vec![receiver(cpus)], ..port("eth0") })]);

    assert_says(&only(&workers(), &with(vec![2, 3])), &["napi/eth0-1", "CPUs 2-3", "taskset -pc 0-1 9"]);
    assert_eq!(warnings(&workers(), &with(vec![1, 2])), []);
    let everywhere = Workers { cpus: vec![3, 2, 1, 0], ..workers() };
    assert_says(&only(&everywhere, &with(vec![0])), &["workers = 3"]);
}

#[test]
fn interrupts_that_only_workers_serve_are_told_for_all_cards_at_once() {
    let card = |name: &str, interrupts| device(Port { is_card: true, interrupts, ..port(name) });
    let cards = vec![card("eth0", vec![(30, vec![3]), (31, vec![0])]), card("eth1", vec![(40, vec![2, 3])])];

    let line = only(&workers(), &machine(cards.clone()));
    assert_says(&line, &["eth0, eth1 (30, 40)", "echo 0-1 > /proc/irq/NUMBER/smp_affinity_list"]);

    let everywhere = Workers { cpus: vec![3, 2, 1, 0], ..workers() };
    assert_says(&only(&everywhere, &machine(cards.clone())), &["(30, 31, 40)", "workers = 3"]);
    let single = Machine { cpus: vec![3], ..machine(cards) };
    assert_eq!(warnings(&Workers { cpus: vec![3], ..workers() }, &single), [], "there is nothing to be done");
}

#[test]
fn one_queue_for_several_workers_is_told_of_cards_alone() {
    let single = |is_card, steered| machine(vec![device(Port { is_card, rps_cpus: vec![steered], ..port("eth0") })]);

    assert_says(&only(&workers(), &single(true, vec![])), &["one receive queue for 2", "ethtool -L eth0 combined 2"]);
    assert_eq!(warnings(&workers(), &single(false, vec![])), [], "a pair receives on its sender's CPU");
    assert_eq!(warnings(&workers(), &single(true, vec![0, 1])), [], "software spreads them");
    assert_eq!(warnings(&Workers { cpus: vec![3], ..workers() }, &single(true, vec![])), []);
}

#[test]
fn missing_huge_pages_are_told_last() {
    let steered = Port { rps_cpus: vec![vec![3]], ..port("eth0") };
    let machine = Machine { huge_pages_never: true, ..machine(vec![device(steered)]) };

    let found = warnings(&workers(), &machine);

    assert_eq!(found.len(), 2);
    assert_says(&found[1].to_string(), &["transparent_hugepage", "echo madvise"]);
}

#[test]
fn two_devices_on_one_port_tell_of_it_once() {
    let steered = Port { rps_cpus: vec![vec![3]], ..port("eth0") };
    let on_it = |name: &str| Device { name: name.to_owned(), ..device(steered.clone()) };

    only(&workers(), &machine(vec![on_it("eth0.1"), on_it("eth0.2")]));
}

#[test]
fn workers_are_placed_from_the_last_cpu_down_after_the_engines_before() {
    let text = |workers: &str| format!("[engine]\nname = \"e\"\n{workers}\n[[link]]\nname = \"a\"\ndevice = \"a0\"\n");
    let config = |workers: &str| crate::config::testing::config(&text(workers));

    assert_eq!(Workers::of(&config("workers = 2"), &[0, 1, 5], 0).cpus, [5, 1]);
    let second = Workers::of(&config("workers = 2"), &[0, 1, 5], 2);
    assert_eq!((second.cpus, second.placed), (vec![0, 5], vec![5, 1]));
    assert_eq!(Workers::of(&config(""), &[0, 1, 5], 0).cpus, [5, 1, 0], "one per CPU");
}

#[test]
fn sets_of_cpus_are_written_as_the_kernel_reads_them() {
    assert_eq!([mask(&[]), mask(&[0, 5]), mask(&[1, 32, 64])], ["0", "21", "1,00000001,00000002"]);
    assert_eq!([list(&[0, 1, 2, 5]), list(&[7])], ["0-2,5", "7"]);
}

#[test]
fn devices_that_xdp_cannot_serve_as_they_are_are_told_of_to_engines_that_use_it() {
    let over = |queues| Device { queues, rx_vlan_offload: true, ..device(port("eth0")) };
    let xdp = |tagged: &[&str]| Workers {
        xdp: Some(tagged.iter().map(|name| (*name).to_owned()).collect()),
        has_checks: false,
        ..workers()
    };

    let line = only(&xdp(&[]), &machine(vec![over(1)]));
    assert_says(&line, &["eth0 has 1 receive queue for 2", "1 of them receive nothing", "ethtool -L eth0 combined 2"]);
    let line = only(&xdp(&["eth0"]), &machine(vec![over(2)]));
    assert_says(&line, &["does not start on it", "ethtool -K eth0 rxvlan off"]);

    assert_eq!(warnings(&xdp(&["eth1"]), &machine(vec![over(2)])), []);
    assert_eq!(warnings(&xdp(&[]), &machine(vec![over(0)])), [], "not known");
    assert_eq!(
        warnings(&workers(), &machine(vec![over(1)])),
        [],
        "AF_PACKET shares by flows, and gets the tag beside the frame"
    );
}

#[test]
fn threads_that_may_not_run_at_once_are_told() {
    let machine = Machine { lacks_realtime: true, ..machine(vec![device(port("eth0"))]) };

    assert_says(&only(&workers(), &machine), &["SCHED_FIFO", "CAP_SYS_NICE"]);
}

#[test]
fn probes_that_have_no_way_of_their_own_are_told_where_verdicts_hang_on_them() {
    let machine = machine(vec![device(port("eth0"))]);
    let xdp = Workers { xdp: Some(Vec::new()), ..workers() };

    assert_says(&only(&xdp, &machine), &["af-xdp", "probes", "af-packet"]);
    assert_eq!(warnings(&Workers { has_checks: false, ..xdp }, &machine), []);
}

#[test]
fn threads_in_real_time_have_the_cpus_that_workers_leave() {
    assert_eq!(beside(&[0, 1, 2, 3], 1), [0, 1, 2]);
    assert_eq!(beside(&[2, 5, 7], 2), [2]);
    assert_eq!(beside(&[0, 1], 2), [0; 0], "the workers have them all");
    assert_eq!(beside(&[0], 1), [0; 0]);
    assert_eq!(beside(&[0, 1], 5), [0; 0]);
}
