//! Answers of DNS a second: ours beside knot, NSD and PowerDNS with the same zone, over UDP, TCP and TLS; over HTTPS beside unbound and dnsdist.
//!
//! The server has one core and the load the other. What is compared is how many answers a second of the server's processor time brings,
//! since others may want the same core; how long answers are waited for is told beside it, with what the machine itself makes of such a wait: an
//! echo on the server's core is asked like a server. Needs knotd, nsd, pdns_server, unbound, dnsdist, dnsperf, h2load, curl and openssl. Run it without
//! arguments, or with the names of ways (`DoH, POST`) to see those alone.

mod load;
mod ours;
mod servers;

use anyhow::{Result, ensure};
use load::{Waits, Wire};
use servers::{ALL, Server};
use std::{env, path::Path};
use sys_bench::{Spread, cpu_of_family, machine, process::move_to_load_core};

/// Rounds, in each of which every server is asked in turn; the first one warms up.
const ROUNDS: usize = 5;
/// Seconds that one server is asked in a round.
const LASTS_S: u32 = 2;
/// Questions a second, where what counts is how long each waits; how long they go on, and in how many rounds: many short ones, whose median a
/// moment in which the machine did something else does not move.
const CALM_PER_S: u32 = 10_000;
const CALM_S: u32 = 1;
const CALM_ROUNDS: usize = 15;
/// The zone: what each server is given, and what is asked for.
const RECORDS: &[(&str, &str, &str)] = &[
    ("example.org.", "NS", "ns1.example.org."),
    ("ns1.example.org.", "A", "192.0.2.53"),
    ("example.org.", "A", "192.0.2.1"),
    ("example.org.", "AAAA", "2001:db8::1"),
    ("example.org.", "MX", "10 mail.example.org."),
    ("example.org.", "TXT", "\"v=spf1 mx -all\""),
    ("www.example.org.", "A", "192.0.2.1"),
    ("www.example.org.", "AAAA", "2001:db8::1"),
    ("mail.example.org.", "A", "192.0.2.2"),
];
const SOA: &str = "ns1.example.org. hostmaster.example.org. 1 86400 7200 1209600 300";
const TTL_S: u32 = 600;

/// How they are asked, who, and how many answers for those of the best peer are wanted.
struct Way {
    name: &'static str,
    wire: Wire,
    servers: &'static [Server],
    goal: f64,
}

const IN_THE_CLEAR: &[Server] = &[Server::Ours, Server::Knot, Server::Nsd, Server::PowerDns];
const OVER_HTTPS: &[Server] = &[Server::Ours, Server::Unbound, Server::Dnsdist];
const WAYS: &[Way] = &[
    Way { name: "UDP", wire: Wire::Udp(&["-m", "udp"]), servers: IN_THE_CLEAR, goal: 0.75 },
    Way {
        name: "UDP, signed",
        wire: Wire::Udp(&["-m", "udp", "-D"]),
        servers: &[Server::Ours, Server::Knot],
        goal: 0.75,
    },
    Way { name: "TCP", wire: Wire::Tcp, servers: IN_THE_CLEAR, goal: 1.0 },
    Way { name: "DoT", wire: Wire::Tls, servers: &[Server::Ours, Server::Nsd], goal: 1.0 },
    Way { name: "DoH, GET", wire: Wire::HttpsGet, servers: OVER_HTTPS, goal: 1.0 },
    Way { name: "DoH, POST", wire: Wire::HttpsPost, servers: OVER_HTTPS, goal: 1.0 },
];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", dir] => return ours::serve(Path::new(dir)),
        ["echo"] => return servers::echo(),
        _ => {}
    }
    let ways: Vec<&Way> =
        WAYS.iter().filter(|way| arguments.is_empty() || arguments.iter().any(|name| name == way.name)).collect();
    ensure!(
        !ways.is_empty(),
        "ways are {}",
        WAYS.iter().map(|way| format!("`{}`", way.name)).collect::<Vec<_>>().join(", ")
    );
    move_to_load_core()?;
    let dir = tempfile::tempdir()?;
    servers::configure(dir.path())?;
    load::prepare(dir.path())?;
    let servers = ALL.iter().map(|server| server.start(dir.path())).collect::<Result<Vec<_>>>()?;
    let pids: Vec<u32> = servers.iter().map(|server| server.0.id()).collect();
    println!(
        "Answers a second of the server's processor time, median (min–max) of {} rounds of {LASTS_S} s, servers on one core, dnsperf 2.10 and h2load \
         1.52 on the other, {}. Knot 3.2, NSD 4.6, PowerDNS 4.7 with its packet cache, unbound 1.17 with local data, dnsdist 1.7 with its packet cache \
         before knot; no limits of answers anywhere. The ratio is that of the medians, to the best peer.\n",
        ROUNDS - 1,
        machine()
    );
    println!(
        "| way | {} | ratio | goal |\n|---|{}---|---|",
        ALL.map(Server::name).join(" | "),
        "---|".repeat(ALL.len())
    );
    for way in &ways {
        println!("{}", rates(way, dir.path(), &pids)?);
    }
    println!(
        "\nMilliseconds until an answer has come at {CALM_PER_S} questions a second, by the clock: the median of {CALM_ROUNDS} rounds of {CALM_S} s of how long 99 \
         of 100 waited at most (the least and the most of these), and of how long half of them did. The echo is what a program waits for that \
         sends back what it gets: what is no longer than that is the machine's.\n"
    );
    println!("| way | {} | echo, UDP |\n|---|{}---|", ALL.map(Server::name).join(" | "), "---|".repeat(ALL.len()));
    for way in &ways {
        println!("{}", waits(way, dir.path())?);
    }
    Ok(())
}

/// One line of the first table.
fn rates(way: &Way, dir: &Path, pids: &[u32]) -> Result<String> {
    way.servers.iter().try_for_each(|server| way.wire.check(*server, dir))?;
    let mut measured: Vec<_> = way.servers.iter().map(|server| (*server, Vec::new())).collect();
    for round in 0..ROUNDS {
        for (server, rates) in &mut measured {
            let pid = pids[server.place()];
            let begun = cpu_of_family(pid);
            let answers = way.wire.answers(*server, dir)?;
            let rate = answers / (cpu_of_family(pid) - begun).as_secs_f64();
            let by_the_clock = answers / f64::from(LASTS_S);
            eprintln!("{} {} {rate:.0} answers a CPU second, {by_the_clock:.0} by the clock", way.name, server.name());
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    let mut cells = ALL.map(|_| "–".to_owned());
    let (mut ours, mut best) = (0.0, 0.0_f64);
    for (server, rates) in measured {
        let spread = Spread::of(rates);
        if server == Server::Ours {
            ours = spread.median;
        } else {
            best = best.max(spread.median);
        }
        cells[server.place()] = spread.show(0);
    }
    let verdict = if ours / best >= way.goal { "reached" } else { "missed" };
    Ok(format!("| {} | {} | {:.2} | {:.2}, {verdict} |", way.name, cells.join(" | "), ours / best, way.goal))
}

/// One line of the second table.
fn waits(way: &Way, dir: &Path) -> Result<String> {
    let echo = Server::Echo.start(dir)?;
    let asked: Vec<_> = way
        .servers
        .iter()
        .map(|server| (*server, way.wire))
        .chain([(Server::Echo, Wire::Udp(&["-m", "udp"]))])
        .collect();
    let mut measured: Vec<Vec<Waits>> = asked.iter().map(|_| Vec::new()).collect();
    for _ in 0..CALM_ROUNDS {
        for ((server, wire), waits) in asked.iter().zip(&mut measured) {
            waits.push(wire.waits(*server, dir)?);
        }
    }
    drop(echo);
    let mut cells = vec!["–".to_owned(); ALL.len() + 1];
    for ((server, _), waits) in asked.iter().zip(measured) {
        let p99 = Spread::of(waits.iter().map(|waits| waits.p99_ms).collect());
        let half = Spread::of(waits.iter().map(|waits| waits.median_ms).collect());
        cells[server.place()] = format!("{}; {:.2}", p99.show(2), half.median);
        eprintln!("{} {} {}", way.name, server.name(), cells[server.place()]);
    }
    Ok(format!("| {} | {} |", way.name, cells.join(" | ")))
}
