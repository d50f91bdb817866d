//! Bytes of a data directory that are not what was written: a server says so or is right, and the doctor sees what it does not.
//!
//! A server checks what it opens, and finds a damaged page when it reads it. A page that was written whole to the wrong place is
//! none the less one: rows may be missing then, which the doctor alone sees, since it reads everything.

use crate::{
    LIST_NOTES, LOGIN, json_of,
    server::{Begun, Server, eventually, program, terminate, workspace},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Stdio},
};

const ROUNDS: u64 = 40;
const PAGE_BYTES: usize = 4_096;
const LIST_PROJECTS: &str = "sys.account.v1.ProjectService/ListProjects";
const CREATE_NOTE: &str = "notes.v1.NoteService/CreateNote";

/// Numbers that look random, and are the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }
}

/// Who reads, and where.
struct Reader {
    email: String,
    password: String,
    org: String,
}

/// Answers by what was asked; `Err` is a refusal, with its code.
type Answers = BTreeMap<&'static str, Result<Value, String>>;

impl Reader {
    fn ask(addr: SocketAddr, path: &str, token: Option<&str>, body: &Value) -> Result<Value, String> {
        let body = body.to_string();
        let mut begun = Begun::call(addr, path, token, body.len());
        begun.send(&body);
        let (status, answer) = begun.answer();
        let answer = json_of(&answer);
        if status == 200 { Ok(answer) } else { Err(answer["code"].as_str().unwrap_or_default().to_owned()) }
    }

    fn token(&self, addr: SocketAddr) -> Result<String, String> {
        let login = Self::ask(addr, LOGIN, None, &json!({"email": self.email, "password": self.password}))?;
        Ok(login["accessToken"].as_str().unwrap().to_owned())
    }

    /// All that he sees.
    fn reads(&self, addr: SocketAddr) -> Answers {
        let token = match self.token(addr) {
            Ok(token) => token,
            Err(code) => return Answers::from([("login", Err(code))]),
        };
        let notes = json!({"orgId": self.org, "pageSize": 1_000});
        let found = json!({"orgId": self.org, "pageSize": 1_000, "filter": "published"});
        let ask = |path, body: &Value| Self::ask(addr, path, Some(&token), body);
        Answers::from([
            ("projects", ask(LIST_PROJECTS, &json!({}))),
            ("notes", ask(LIST_NOTES, &notes)),
            ("published", ask(LIST_NOTES, &found)),
        ])
    }
}

/// Fills a data directory and leaves it.
fn filled() -> (tempfile::TempDir, Reader, Answers) {
    let demo = workspace().join("demo/bootstrap.yaml");
    let server = Server::start(&["--bootstrap", demo.to_str().unwrap()]);
    let drawn = fs::read_to_string(server.dir.path().join("data/passwords.txt")).unwrap();
    let (email, password) = drawn.lines().nth(1).and_then(|line| line.split_once(' ')).unwrap();
    let mut reader = Reader { email: email.to_owned(), password: password.to_owned(), org: String::new() };
    let token = reader.token(server.addr).unwrap();
    let projects = Reader::ask(server.addr, LIST_PROJECTS, Some(&token), &json!({})).unwrap();
    let projects = projects["projects"].as_array().unwrap();
    reader.org = projects[0]["orgId"].as_str().unwrap().to_owned();
    for number in 0..40 {
        let note = json!({"orgId": reader.org, "projectId": projects[number % projects.len()]["id"],
            "title": format!("note {number}"), "published": number % 2 == 0});
        let created = Reader::ask(server.addr, CREATE_NOTE, Some(&token), &json!({ "note": note }));
        assert!(created.is_ok() || projects.len() > 1, "{created:?}");
    }
    let answers = reader.reads(server.addr);
    assert!(answers.values().all(Result::is_ok), "{answers:?}");
    server.terminate();
    (server.ended().1, reader, answers)
}

/// Changes some bytes.
fn damage(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let at = written[numbers.below(written.len())];
    let page = at / PAGE_BYTES * PAGE_BYTES;
    let other = written[numbers.below(written.len())] / PAGE_BYTES * PAGE_BYTES;
    let end = |page: usize| (page + PAGE_BYTES).min(bytes.len());
    match numbers.below(5) {
        0 => bytes[at] ^= 1 << numbers.below(8),
        1 => bytes.truncate(at),
        2 => {
            let end = end(page);
            bytes[page..end].fill(0);
        }
        3 => bytes.extend(std::iter::repeat_n(0xa5, 1 + numbers.below(PAGE_BYTES))),
        _ => {
            let (from, to) = (bytes[page..end(page)].to_vec(), bytes[other..end(other)].to_vec());
            let length = from.len().min(to.len());
            bytes[page..page + length].copy_from_slice(&to[..length]);
            bytes[other..other + length].copy_from_slice(&from[..length]);
        }
    }
}

/// Starts a server on damaged data; its address if it comes to that.
fn started(data: &Path, log: &Path) -> (Child, Option<SocketAddr>) {
    let mut command = program();
    command.arg("run").arg("--data-dir").arg(data).arg("--danger-key-file").arg(data.join("danger-master.key"));
    command.arg("--module").arg(workspace().join("modules/mod-notes")).args(["--listen", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(fs::File::create(log).unwrap()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let addr = lines.filter_map(|line| line.strip_prefix("ready http://").map(|addr| addr.parse().unwrap())).next();
    (child, addr)
}

fn doctors_code(data: &Path) -> i32 {
    let mut command = program();
    command.arg("doctor").arg("--data-dir").arg(data).arg("--danger-key-file").arg(data.join("danger-master.key"));
    let output = command.output().unwrap();
    let code = output.status.code().unwrap();
    assert!(matches!(code, 0..=2), "{}", String::from_utf8_lossy(&output.stderr));
    code
}

#[test]
fn a_damaged_file_ends_in_a_word_or_a_right_answer_and_the_doctor_sees_the_rest() {
    let (dir, reader, right) = filled();
    let (kept, data, log) = (dir.path().join("data"), dir.path().join("damaged"), dir.path().join("log"));
    let (mut told, mut served) = (0, 0);
    for round in 1..=ROUNDS {
        let mut numbers = Numbers(round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::metadata(&kept).unwrap().permissions()).unwrap();
        for file in ["store.redb", "keys.sys", "danger-master.key"] {
            fs::copy(kept.join(file), data.join(file)).unwrap();
        }
        let file =
            data.join(["store.redb", "store.redb", "store.redb", "keys.sys", "danger-master.key"][numbers.below(5)]);
        let mut bytes = fs::read(&file).unwrap();
        damage(&mut bytes, &mut numbers);
        fs::write(&file, bytes).unwrap();

        let code = doctors_code(&data);
        let (mut child, addr) = started(&data, &log);
        let answers = addr.map(|addr| reader.reads(addr));
        if addr.is_some() {
            terminate(&child);
        }
        let ended = eventually("the end", || child.try_wait().unwrap());
        let said = fs::read_to_string(&log).unwrap();
        assert!(!said.contains("fault of the server"), "round {round}: {said}");
        match answers {
            None => {
                assert_eq!(ended.code(), Some(1), "round {round}: {said}");
                assert!(said.contains("ERROR"), "round {round} without a word");
                told += 1;
            }
            Some(answers) => {
                assert_eq!(ended.code(), Some(0), "round {round}: {said}");
                assert!(
                    answers == right || code != 0,
                    "round {round}: the doctor saw nothing, and it answered {answers:?}"
                );
                served += 1;
            }
        }
        fs::remove_dir_all(&data).unwrap();
    }
    // Else nothing was shown of the one or the other.
    assert!(told > 0 && served > 0, "{told} ended in a word, {served} served");
}
