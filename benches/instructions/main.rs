//! Instructions per packet, counted by valgrind: a trend that noise cannot move.
//!
//! `cargo bench --bench instructions` counts each case and compares it with the baseline beside this file
//! (`baseline.toml`); it fails if one has grown by more than a twentieth. `-- --update` writes the counts as the new
//! baseline.
//!
//! The program runs itself under valgrind's cachegrind twice per case. Both runs make the same packets; one processes
//! only the first few batches, the other all of them: the difference is the cost of processing. Hashers have fixed keys
//! or few entries, and the C library is told to use only what every x86-64 has, so that another machine counts the
//! same.
#![allow(missing_docs, reason = "a bench has no readers of its documentation")]

mod baseline;
mod service;
#[path = "../traffic/mod.rs"]
mod traffic;

use std::path::Path;
use std::process::{Command, ExitCode};

use baseline::{Baseline, Judgement};
use fwlb::wire::Family;
use service::Translated;
use traffic::{BATCH, Pattern, Traffic};

/// Number of known flows; most packets belong to few of them.
const FLOWS: u32 = 10_000;
/// Batches until everything has been touched once.
const WARM: u32 = 512;
/// Batches that are counted.
const COUNTED: u32 = 512;

const CASES: [&str; 6] = ["known-ipv4", "known-ipv6", "nat-ipv4", "nat-ipv6", "new-ipv4", "new-ipv6"];

/// Features that every x86-64 has: otherwise copies take other instructions on other machines.
const PLAIN_PROCESSOR: &str = "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-AVX512F,-AVX512F_Usable,-AVX512VL,-AVX512BW,-ERMS,-FSRM,\
                               -AVX_Fast_Unaligned_Load,-SSSE3,-Fast_Unaligned_Copy,-Prefer_No_VZEROUPPER";

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["--work", case, batches] => match batches.parse() {
            Ok(batches) => work(case, batches),
            Err(_) => usage(),
        },
        [] => compare(),
        ["--update"] => update(),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: cargo bench --bench instructions [-- --update]");
    ExitCode::FAILURE
}

/// Makes all packets and processes those of the first `batches` batches.
fn work(case: &str, batches: u32) -> ExitCode {
    let rest = WARM + COUNTED - batches.min(WARM + COUNTED);
    let known = |family| {
        let mut traffic = Traffic::new(family, FLOWS, 0, Pattern::Skewed);
        (0..batches).for_each(|_| traffic.known());
        (0..rest).for_each(|_| traffic.fill_known());
    };
    let translated = |family| {
        let mut translated = Translated::new(family, FLOWS);
        (0..batches).for_each(|_| translated.known());
        (0..rest).for_each(|_| translated.fill());
    };
    let new = |family| {
        let mut traffic = Traffic::new(family, 0, (WARM + COUNTED) as usize * BATCH, Pattern::Uniform);
        (0..batches).for_each(|_| traffic.new_sessions());
        (0..rest).for_each(|_| traffic.fill_known());
    };
    match case {
        "known-ipv4" => known(Family::V4),
        "known-ipv6" => known(Family::V6),
        "nat-ipv4" => translated(Family::V4),
        "nat-ipv6" => translated(Family::V6),
        "new-ipv4" => new(Family::V4),
        "new-ipv6" => new(Family::V6),
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn compare() -> ExitCode {
    let outcome = count_all().and_then(|counted| Ok((counted, Baseline::read()?)));
    let (counted, before) = match outcome {
        Ok(both) => both,
        Err(error) => return fail(&error),
    };
    println!("{:<12} {:>10} {:>10} {:>8}", "case", "baseline", "here", "");
    let mut worst = Judgement::Same;
    for (case, here) in &counted.per_packet {
        let (judgement, change) = before.judge(case, *here);
        let was = before.per_packet.get(case).map_or("-".to_owned(), |was| format!("{was:.1}"));
        println!(
            "{case:<12} {was:>10} {here:>10.1} {:>8}",
            change.map_or("new".to_owned(), |change| format!("{change:+.1}%"))
        );
        worst = worst.max(judgement);
    }
    let other = if before.rustc == counted.rustc {
        String::new()
    } else {
        format!(" (the baseline was counted with {}, here is {})", before.rustc, counted.rustc)
    };
    match worst {
        Judgement::Same => ExitCode::SUCCESS,
        Judgement::Better => {
            println!("\nFewer instructions a packet than the baseline{other}. Keep it so: {UPDATE}");
            ExitCode::SUCCESS
        }
        Judgement::Worse => {
            eprintln!("\nMore instructions a packet than the baseline allows{other}. If they are worth it: {UPDATE}");
            ExitCode::FAILURE
        }
    }
}

const UPDATE: &str = "cargo bench --bench instructions -- --update";

fn update() -> ExitCode {
    match count_all().and_then(|counted| counted.write()) {
        Ok(path) => {
            println!("written: {}", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("instructions: {error}");
    ExitCode::FAILURE
}

fn count_all() -> Result<Baseline, String> {
    let mut counted = Baseline::of_this_compiler()?;
    for case in CASES {
        let [without, with] = [WARM, WARM + COUNTED].map(|batches| count(case, batches));
        let difference = with?.saturating_sub(without?);
        let per_packet = difference as f64 / (f64::from(COUNTED) * BATCH as f64);
        counted.per_packet.insert(case.to_owned(), (per_packet * 10.0).round() / 10.0);
    }
    Ok(counted)
}

/// Instructions of one run of this program.
fn count(case: &str, batches: u32) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(Path::new(&program))
        .args(["--work", case, &batches.to_string()])
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("GLIBC_TUNABLES", PLAIN_PROCESSOR)
        .output()
        .map_err(|error| {
            format!("cannot run valgrind ({error}): install it (Debian: apt-get install valgrind libc6-dbg)")
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    let refused = || format!("valgrind of {case}: {}: {said}", output.status);
    if !output.status.success() {
        return Err(refused());
    }
    parse(&said).ok_or_else(refused)
}

/// Parses `==PID== I refs:        1,234,567` (the manual of cachegrind; one space less in older versions).
fn parse(said: &str) -> Option<u64> {
    let number = said.lines().find_map(|line| {
        let (_, rest) = line.split_once("refs:").filter(|(head, _)| head.trim_end().ends_with('I'))?;
        Some(rest.trim().replace(',', ""))
    });
    number?.parse().ok()
}
