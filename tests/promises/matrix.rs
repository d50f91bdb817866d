//! The matrix, called for real: each method of each contract, as each person of a small world, on targets in the person's
//! own org and in another one. The outcome of every call stands in `matrix.txt`, which is read as a diff.
//!
//! `UPDATE_GOLDEN=1 cargo test -p sys-tests matrix` writes it anew. A method without a line, and a caller who may call but is
//! told that the request is invalid, fail the test: then [`request_for`] has no case for it.

use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};
use sys_contract::model::Contract;
use sys_tests::{Client, Options, PASSWORD, Person, TestServer, World, workspace};

/// Somebody who calls.
struct Who<'a> {
    name: &'static str,
    client: Client,
    person: Option<&'a Person>,
}

/// What stands where: ids in one org.
#[derive(Clone)]
struct Place {
    org: String,
    project: String,
    note: String,
    /// A member of the org whom it manages.
    account: String,
    invitation: String,
}

#[tokio::test]
async fn every_method_answers_each_caller_as_the_matrix_says() {
    let (server, world) = World::start().await;
    let north = fill(&server, &world, &world.north, "north").await;
    let south = fill(&server, &world, &world.south, "south").await;
    let unverified = unverified(&server).await;
    let contracts = contracts(&server);
    let kept = server.stop().await.expect("a directory of its own");

    let mut matrix = String::new();
    for contract in &contracts {
        for method in contract.services.iter().flat_map(|service| &service.methods) {
            for (where_, place) in [("own", &north), ("other", &south)] {
                let mut line = BTreeMap::<&str, Vec<&str>>::new();
                let copies = !is_read(&method.path);
                let mut running = None;
                for number in 0..PEOPLE {
                    // A call that changes something is made on a copy of its own.
                    let server = match running.take() {
                        Some(server) if !copies => server,
                        _ => copy_of(kept.path()).await,
                    };
                    let who = &people(&server, &world, &unverified)[number];
                    let body = request_for(&method.path, place, who);
                    let answer = who.client.call(&method.path, body.clone()).await;
                    let outcome = outcome(&answer);
                    assert_ne!(outcome, "invalid_argument", "{} as {}: {body} {}", method.path, who.name, answer.body);
                    line.entry(outcome).or_default().push(who.name);
                    if copies {
                        server.stop().await;
                    } else {
                        running = Some(server);
                    }
                }
                if let Some(server) = running {
                    server.stop().await;
                }
                writeln!(matrix, "{} on {where_}", method.path).expect("a string");
                for (outcome, names) in line {
                    writeln!(matrix, "  {outcome:<18} {}", names.join(" ")).expect("a string");
                }
            }
        }
    }
    compare(&workspace().join("tests/promises/matrix.txt"), &matrix);
}
