//! What the program makes of audit logs: heads that it keeps, logs that it checks, files that it writes and checks.

use super::{Ran, Sys, server::Server};
use prost::Message;
use serde_json::{Value as Json, json};
use std::{
    fs,
    io::{BufRead, BufReader},
    ops::Range,
    process::Stdio,
};
use sys_audit::{
    Hash, HeadKey, Leaf,
    head::Head,
    tree::{self, Run, leaf_hash},
};

/// The log of `org_1`, held by a server that does with it what it likes.
#[derive(Debug)]
pub(crate) struct Log {
    leaves: Vec<(Hash, Vec<u8>)>,
    key: HeadKey,
}

impl Log {
    /// Of so many entries.
    pub(crate) fn of(entries: u64) -> Self {
        let key = HeadKey::new(&[1; 32]).expect("a key");
        let mut log = Self { leaves: Vec::new(), key };
        log.grow(entries);
        log
    }

    fn grow(&mut self, entries: u64) {
        for _ in 0..entries {
            let number = i64::try_from(self.leaves.len()).expect("few");
            let method = "notes.v1.NoteService/CreateNote".to_owned();
            let leaf = Leaf { unix_s: 1_800_000_000 + number, method, outcome: "OK".to_owned(), ..Leaf::default() };
            let leaf = leaf.encode_to_vec();
            self.leaves.push((leaf_hash(&leaf), leaf));
        }
    }

    /// The answer of AuditService to a request about this log.
    pub(crate) fn answer(&self, method: &str, message: &[u8]) -> Option<Vec<u8>> {
        let request = Numbers::decode(message).expect("a request");
        assert_eq!(request.org_id, "org_1");
        Some(match method {
            "GetAuditHead" => self.head().encode_to_vec(),
            "GetAuditConsistency" => {
                let ranges = tree::consistency(request.first, request.second)?;
                Path { path: ranges.into_iter().map(|range| self.root(range).0.to_vec()).collect() }.encode_to_vec()
            }
            "ReadAuditLeaves" => {
                let count = usize::try_from(request.second).expect("few");
                let leaves = (0..).zip(&self.leaves).skip(usize::try_from(request.first).expect("few")).take(count);
                let leaf = |(number, (hash, leaf)): (u64, &(Hash, Vec<u8>))| AuditLeaf {
                    number,
                    leaf_hash: hash.0.to_vec(),
                    leaf: leaf.clone(),
                };
                Leaves { leaves: leaves.map(leaf).collect() }.encode_to_vec()
            }
            _ => return None,
        })
    }

    fn root(&self, range: Range<u64>) -> Hash {
        let mut run = Run::default();
        let number = |number: u64| usize::try_from(number).expect("few");
        self.leaves[number(range.start)..number(range.end)].iter().for_each(|(hash, _)| run.push_leaf(*hash));
        run.root()
    }

    fn head(&self) -> AuditHead {
        let size = self.leaves.len() as u64;
        let head = Head { log_id: "org_1".to_owned(), size, root: self.root(0..size), unix_s: 1_800_000_000 };
        let signed = self.key.sign(head);
        AuditHead {
            log_id: signed.head.log_id,
            tree_size: size,
            root_hash: signed.head.root.0.to_vec(),
            time: Some(prost_types::Timestamp { seconds: signed.head.unix_s, nanos: 0 }),
            public_key: signed.public_key.to_vec(),
            signature: signed.signature,
        }
    }
}

/// What a server does to its log.
type Deed = fn(&mut Log);

const VERIFY: [&str; 4] = ["audit", "verify", "--org-id", "org_1"];

fn log_in(sys: &Sys, server: &Server, more: &[&str]) -> Ran {
    let words = ["login", "--server", &server.url, "--email", "a@example.org", "--password-stdin"];
    sys.run_with_input(&[&words[..], more].concat(), "right\n")
}

fn heads(sys: &Sys) -> Json {
    let text = fs::read_to_string(sys.config.path().join("audit-heads.json")).expect("kept heads");
    serde_json::from_str(&text).expect("JSON")
}

/// Lets the server do something to its log.
fn with(server: &Server, deed: impl FnOnce(&mut Log)) {
    deed(server.log().as_mut().expect("a log"));
}

#[test]
fn the_head_of_each_login_goes_on_from_the_one_before() {
    let server = Server::start();
    *server.log() = Some(Log::of(5));
    let sys = Sys::logged_in(&server);
    assert_eq!(heads(&sys)["heads"][0]["head"]["tree_size"], 5);
    for size in [5, 8, 200] {
        with(&server, |log| log.grow(size - log.leaves.len() as u64));
        let ran = log_in(&sys, &server, &[]);
        assert!(ran.exit == 0 && !ran.err.contains("warning"), "{ran:?}");
        assert_eq!(heads(&sys)["heads"][0]["head"]["tree_size"], size);
    }
    // Logging out forgets the session and no head.
    assert_eq!(sys.run(&["logout"]).exit, 0);
    assert_eq!(heads(&sys)["heads"].as_array().map(Vec::len), Some(1));
}

#[test]
fn nobody_stays_logged_in_to_a_server_whose_log_was_cut_or_rewritten() {
    let deeds: [(&str, Deed); 4] = [
        ("was cut: it had 9 entries, and has 4 now", |log| log.leaves.truncate(4)),
        ("was rewritten: its first 9 entries are not those that it had", |log| log.leaves.swap(1, 2)),
        ("was rewritten", |log| {
            log.leaves.remove(3);
            log.grow(30);
        }),
        ("the head kept here is signed by", |log| log.key = HeadKey::new(&[2; 32]).expect("a key")),
    ];
    for (said, deed) in deeds {
        let server = Server::start();
        *server.log() = Some(Log::of(9));
        let sys = Sys::logged_in(&server);
        let kept = heads(&sys);
        with(&server, deed);
        for _ in 0..2 {
            let ran = log_in(&sys, &server, &[]);
            ran.fails(9, said);
            assert!(ran.err.contains("what to do: ") && ran.err.contains("--trust-audit-anew"), "{ran:?}");
            assert_eq!((sys.session(), heads(&sys)), (String::new(), kept.clone()), "{said}");
        }
        let anew = log_in(&sys, &server, &["--trust-audit-anew"]);
        assert!(anew.exit == 0 && anew.err.contains("warning: ") && anew.err.contains(said), "{anew:?}");
        assert_eq!(heads(&sys)["set_aside"][0]["head"], kept["heads"][0]["head"], "the evidence stays");
        assert_eq!(log_in(&sys, &server, &[]).exit, 0);
    }
}

#[test]
fn a_log_that_cannot_be_read_is_told_of_where_a_head_of_it_is_kept() {
    let server = Server::start();
    let sys = Sys::new();
    let quiet = log_in(&sys, &server, &[]);
    assert!(quiet.exit == 0 && !quiet.err.contains("warning"), "{quiet:?}");
    *server.log() = Some(Log::of(3));
    assert_eq!(log_in(&sys, &server, &[]).exit, 0);
    *server.log() = None;
    let told = log_in(&sys, &server, &[]);
    assert!(told.exit == 0 && told.err.contains("warning: the audit log of org_1 could not be checked"), "{told:?}");
}

#[test]
fn a_whole_log_is_verified_entry_by_entry() {
    let server = Server::start();
    *server.log() = Some(Log::of(2_500));
    let sys = Sys::logged_in(&server);
    let verified = sys.run(&VERIFY).json();
    assert_eq!((&verified["verified"], &verified["head"]["tree_size"]), (&json!(true), &json!(2_500)));
    assert_eq!(verified["kept_head"]["tree_size"], 2_500);
    assert!(sys.run(&[&VERIFY[..], &["--output", "table"]].concat()).out.contains("entries  2500 (0 erased)\n"));
    with(&server, |log| log.leaves[7].1.clear());
    assert_eq!(sys.run(&VERIFY).json()["erased"], 1);
    let deeds: [(&str, Deed); 2] = [
        ("entry 2000 was changed", |log| log.leaves[2_000].1[0] ^= 1),
        ("was rewritten: its first 2500 entries", |log| log.leaves.swap(5, 6)),
    ];
    for (said, deed) in deeds {
        *server.log() = Some(Log::of(2_500));
        with(&server, deed);
        sys.run(&VERIFY).fails(9, said);
    }
}

#[test]
fn an_export_is_checked_without_a_server_and_each_change_of_it_is_found() {
    let server = Server::start();
    *server.log() = Some(Log::of(20));
    let sys = Sys::logged_in(&server);
    let path = sys.config.path().join("log.jsonl");
    let file = path.to_str().expect("UTF-8");
    let exported = sys.run(&["audit", "export", "--org-id", "org_1", "--file", file]);
    assert!(exported.exit == 0 && exported.err.contains("wrote 20 entries"), "{exported:?}");
    // A log that is not whole leaves no file in the place of one that was.
    with(&server, |log| log.leaves[19].1[0] ^= 1);
    assert_eq!(sys.run(&["audit", "export", "--org-id", "org_1", "--file", file]).exit, 9);
    let (verify, nobody) = (["audit", "verify", "--file", file], Sys::new());
    drop(server);
    let verified = sys.run(&verify);
    assert_eq!((verified.exit, verified.err.as_str()), (0, ""), "{verified:?}");
    assert!(nobody.run(&verify).err.contains("no head of this log is kept here"));
    let text = fs::read_to_string(&path).expect("the export");
    let lines: Vec<&str> = text.lines().collect();
    let check = |said: &str, changed: Vec<String>| {
        fs::write(&path, changed.join("\n")).expect("written");
        sys.run(&verify).fails(9, said);
    };
    let owned = || lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let changed = |at: usize, from: &str, to: &str| {
        let mut lines = owned();
        assert!(lines[at].contains(from));
        lines[at] = lines[at].replace(from, to);
        lines
    };
    check("line 4: it does not say what was hashed", changed(3, "CreateNote", "DeleteNote"));
    check(
        "line 1: the head of the audit log of org_1 is not signed",
        changed(0, "\"tree_size\":20", "\"tree_size\":19"),
    );
    check("line 1: no head", owned().split_off(1));
    check("was cut: it had 20 entries, and has 19 now", owned()[..20].to_vec());
    let mut swapped = owned();
    swapped.swap(4, 5);
    check("entry 3 is missing", swapped);
    let mut longer = owned();
    longer.push(longer[20].replace("\"number\":19", "\"number\":20"));
    check("was rewritten", longer);
}

#[test]
fn the_tail_of_a_log_shows_what_came_and_what_comes() {
    let server = Server::start();
    *server.log() = Some(Log::of(5));
    let sys = Sys::logged_in(&server);
    let words = ["audit", "tail", "--org-id", "org_1", "--lines", "2", "--interval", "1"];
    let mut child = sys.command(&words).stdout(Stdio::piped()).spawn().expect("the program runs");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut number = || -> Json { serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON") };
    assert_eq!((number()["number"].clone(), number()["number"].clone()), (json!(3), json!(4)));
    with(&server, |log| log.grow(1));
    let came = number();
    assert_eq!((&came["number"], &came["outcome"]), (&json!(5), &json!("OK")));
    child.kill().expect("it runs on");
    child.wait().expect("it ends");
}

/// The requests of AuditService about an org: two numbers at most beside it.
#[derive(Clone, PartialEq, Message)]
struct Numbers {
    #[prost(string, tag = "1")]
    org_id: String,
    #[prost(uint64, tag = "2")]
    first: u64,
    #[prost(uint64, tag = "3")]
    second: u64,
}

#[derive(Clone, PartialEq, Message)]
struct AuditHead {
    #[prost(string, tag = "1")]
    log_id: String,
    #[prost(uint64, tag = "2")]
    tree_size: u64,
    #[prost(bytes = "vec", tag = "3")]
    root_hash: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    time: Option<prost_types::Timestamp>,
    #[prost(bytes = "vec", tag = "6")]
    public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    signature: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Path {
    #[prost(bytes = "vec", repeated, tag = "1")]
    path: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Leaves {
    #[prost(message, repeated, tag = "1")]
    leaves: Vec<AuditLeaf>,
}

#[derive(Clone, PartialEq, Message)]
struct AuditLeaf {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(bytes = "vec", tag = "2")]
    leaf_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    leaf: Vec<u8>,
}
