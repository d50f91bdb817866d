//! Tokens and sessions against a model: random people log in, refresh, show old tokens, revoke, prove themselves and change
//! passwords, while the clock goes on, is set back, and the server restarts. After each step every token that was ever handed
//! out is shown over each kind of connection, and what becomes of it is what the model says. The model knows the promises and
//! none of the code.

use super::harness::{Answer, Connection, PASSWORD, Person, Server};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const BEGUN: i64 = 1_800_000_000;
const MINUTE: i64 = 60;
const DAY: i64 = 86_400;
/// An access token lasts ten minutes, a shown password as long.
const TOKEN_S: i64 = 10 * MINUTE;
/// A session ends when it was not refreshed for 30 days, and in any case after 180.
const IDLE_S: i64 = 30 * DAY;
const LIFE_S: i64 = 180 * DAY;
/// How far the clock may have been set back before what was issued counts as issued in the future.
const SKEW_S: i64 = 30;
const PEOPLE: [&str; 2] = ["ada", "bob"];
const CONNECTIONS: [Connection; 4] =
    [Connection::Plain, Connection::Tls, Connection::Certificate(1), Connection::Certificate(2)];

/// What happens next. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    LogIn {
        who: usize,
        over: Connection,
    },
    /// Mostly the newest token of a session, else any that was ever handed out; mostly where the session was begun.
    Refresh {
        pair: usize,
        any: bool,
        over: Option<Connection>,
    },
    LogOut {
        pair: usize,
    },
    Revoke {
        pair: usize,
        session: usize,
    },
    RevokeAll {
        pair: usize,
        keep_current: bool,
    },
    Prove {
        pair: usize,
    },
    ChangePassword {
        pair: usize,
    },
    Wait {
        seconds: i64,
    },
    /// A session is used for five months.
    Age {
        session: usize,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let one = || 0_usize..64;
    let over = || prop::sample::select(CONNECTIONS.to_vec());
    let elsewhere = prop::option::weighted(0.3, over());
    let waits = prop_oneof![
        prop::sample::select(vec![1, 29, 31, TOKEN_S - 1, TOKEN_S, DAY, IDLE_S - 1, IDLE_S]),
        prop::sample::select(vec![-1, -SKEW_S, -SKEW_S - 1, -TOKEN_S, -DAY]),
    ];
    prop_oneof![
        3 => (0..PEOPLE.len(), over()).prop_map(|(who, over)| Step::LogIn { who, over }),
        6 => (one(), prop::bool::weighted(0.2), elsewhere)
            .prop_map(|(pair, any, over)| Step::Refresh { pair, any, over }),
        1 => one().prop_map(|pair| Step::LogOut { pair }),
        1 => (one(), one()).prop_map(|(pair, session)| Step::Revoke { pair, session }),
        1 => (one(), any::<bool>()).prop_map(|(pair, keep_current)| Step::RevokeAll { pair, keep_current }),
        2 => one().prop_map(|pair| Step::Prove { pair }),
        1 => one().prop_map(|pair| Step::ChangePassword { pair }),
        6 => waits.prop_map(|seconds| Step::Wait { seconds }),
        1 => one().prop_map(|session| Step::Age { session }),
        1 => Just(Step::Restart),
    ]
}

/// A session as it should be.
#[derive(Debug)]
struct Session {
    who: usize,
    /// The connection that it was begun over.
    over: Connection,
    begun: i64,
    last_used: i64,
    ends: i64,
    proven: i64,
    /// The newest pair of tokens, by number.
    newest: usize,
    gone: bool,
}

/// Two tokens that were handed out together.
#[derive(Debug)]
struct Pair {
    session: usize,
    issued: i64,
    tokens: Person,
    session_id: String,
}

#[derive(Debug, Default)]
struct Model {
    now: i64,
    sessions: Vec<Session>,
    pairs: Vec<Pair>,
}

impl Session {
    /// Whether its tokens may be used over this. A session that was begun with a certificate is bound to it.
    fn is_usable_over(&self, connection: Connection) -> bool {
        !self.is_bound() || connection == self.over
    }

    fn is_bound(&self) -> bool {
        matches!(self.over, Connection::Certificate(_))
    }
}

impl Model {
    /// Whether an access token opens anything.
    fn is_good(&self, pair: &Pair) -> bool {
        let session = &self.sessions[pair.session];
        let issued = pair.issued <= self.now + SKEW_S && self.now < pair.issued + TOKEN_S;
        issued && !session.gone && self.now < session.ends
    }

    /// Whether the password was shown lately in a session.
    fn is_fresh(&self, session: usize) -> bool {
        let proven = self.sessions[session].proven;
        proven <= self.now + SKEW_S && self.now < proven + TOKEN_S
    }

    fn end(&mut self, ends: impl Fn(usize, &Session) -> bool) {
        for (number, session) in self.sessions.iter_mut().enumerate() {
            session.gone |= ends(number, session);
        }
    }

    /// Somebody has logged in. What had run out by then does not come back when the clock is set back.
    fn logged_in(&mut self, who: usize, over: Connection, tokens: Person, session_id: String) {
        let now = self.now;
        self.end(|_, session| session.who == who && session.ends <= now);
        let (session, newest) = (self.sessions.len(), self.pairs.len());
        let session_row =
            Session { who, over, begun: now, last_used: now, ends: now + IDLE_S, proven: now, newest, gone: false };
        self.sessions.push(session_row);
        self.pairs.push(Pair { session, issued: now, tokens, session_id });
    }

    /// What becomes of a refresh token: whether the next pair is handed out.
    fn refreshes(&mut self, pair: usize, over: Connection) -> bool {
        let session = &mut self.sessions[self.pairs[pair].session];
        if session.gone {
            return false;
        }
        if !session.is_usable_over(over) {
            // A thief without the key, who must not log the owner out.
            return false;
        }
        if session.newest != pair {
            session.gone = true;
            return false;
        }
        if session.ends <= self.now {
            return false;
        }
        session.last_used = self.now;
        session.ends = (self.now + IDLE_S).min(session.begun + LIFE_S);
        session.newest = self.pairs.len();
        true
    }

    fn proves(&mut self, session: usize) {
        let now = self.now;
        let session = &mut self.sessions[session];
        (session.proven, session.last_used) = (now, now);
    }

    /// The sessions that somebody is shown.
    fn shown(&self, who: usize) -> BTreeSet<(String, i64, i64, i64, bool)> {
        let alive = |session: &&Session| session.who == who && !session.gone && self.now < session.ends;
        let id = |session: &Session| self.pairs[session.newest].session_id.clone();
        let row = |session: &Session| (id(session), session.begun, session.last_used, session.ends, session.is_bound());
        self.sessions.iter().filter(alive).map(row).collect()
    }
}

struct World {
    server: Server,
    model: Model,
    emails: Vec<String>,
    /// Everybody has one password; each change of it makes another.
    passwords: Vec<String>,
}

impl World {
    async fn new() -> Self {
        let server = Server::at(BEGUN).await;
        let mut emails = Vec::new();
        for name in PEOPLE {
            let email = server.register(name).await;
            let token = server.token_for(&email).await;
            let proof = json!({"token": token, "password": PASSWORD});
            server.call(None, "AuthService/VerifyEmail", proof).await.unwrap();
            emails.push(email);
        }
        let passwords = vec![PASSWORD.to_owned(); PEOPLE.len()];
        Self { server, model: Model { now: BEGUN, ..Model::default() }, emails, passwords }
    }

    /// A call of who was handed these tokens, where he was handed them.
    async fn call(&self, pair: usize, method: &str, request: Value) -> Answer {
        self.server.come_over(self.model.sessions[self.model.pairs[pair].session].over);
        self.server.call(Some(&self.model.pairs[pair].tokens), method, request).await
    }

    async fn take(&mut self, step: &Step) {
        let pairs = self.model.pairs.len();
        let (Step::LogIn { .. } | Step::Wait { .. } | Step::Restart) = step else {
            if pairs > 0 {
                self.act(step).await;
            }
            return;
        };
        if let Step::LogIn { who, over } = step {
            self.server.come_over(*over);
            let request = json!({"email": self.emails[*who], "password": self.passwords[*who], "deviceName": "d"});
            let pair = self.server.call(None, "AuthService/Login", request).await.unwrap();
            let tokens = super::harness::person(&self.emails[*who], &pair);
            self.model.logged_in(*who, *over, tokens, pair["sessionId"].as_str().unwrap().to_owned());
        }
        if let Step::Wait { seconds } = step {
            self.wait(*seconds);
        }
    }

    fn wait(&mut self, seconds: i64) {
        self.server.wait_s(seconds);
        self.model.now += seconds;
    }

    /// A step of somebody who has a pair of tokens.
    async fn act(&mut self, step: &Step) {
        let chosen = |pair: &usize| pair % self.model.pairs.len();
        match step {
            Step::Refresh { pair, any, over } => {
                let session = pair % self.model.sessions.len();
                let pair = if *any { chosen(pair) } else { self.model.sessions[session].newest };
                self.refresh(pair, *over).await;
            }
            Step::LogOut { pair } => {
                let pair = chosen(pair);
                let good = self.model.is_good(&self.model.pairs[pair]);
                let done = self.call(pair, "AuthService/Logout", json!({})).await;
                assert_eq!(done.is_ok(), good, "{done:?}");
                let session = self.model.pairs[pair].session;
                self.model.end(|number, _| good && number == session);
            }
            Step::Revoke { pair, session } => self.revoke(chosen(pair), session % self.model.sessions.len()).await,
            Step::RevokeAll { pair, keep_current } => self.revoke_all(chosen(pair), *keep_current).await,
            Step::Prove { pair } => {
                let pair = chosen(pair);
                let (good, session) = (self.model.is_good(&self.model.pairs[pair]), self.model.pairs[pair].session);
                let password = &self.passwords[self.model.sessions[session].who];
                let done = self.call(pair, "AuthService/StepUp", json!({"password": password})).await;
                assert_eq!(done.is_ok(), good, "{done:?}");
                if good {
                    self.model.proves(session);
                }
            }
            Step::ChangePassword { pair } => self.change_password(chosen(pair)).await,
            Step::Age { session } => {
                let session = session % self.model.sessions.len();
                for _ in 0..5 {
                    self.wait(IDLE_S - 1);
                    self.refresh(self.model.sessions[session].newest, None).await;
                }
            }
            Step::LogIn { .. } | Step::Wait { .. } | Step::Restart => {}
        }
    }

    async fn refresh(&mut self, pair: usize, over: Option<Connection>) {
        let over = over.unwrap_or(self.model.sessions[self.model.pairs[pair].session].over);
        self.server.come_over(over);
        let request = json!({"refreshToken": self.model.pairs[pair].tokens.refresh});
        let answer = self.server.call(None, "AuthService/Refresh", request).await;
        let expected = self.model.refreshes(pair, over);
        assert_eq!(answer.is_ok(), expected, "{answer:?}");
        if let Ok(next) = answer {
            let before = &self.model.pairs[pair];
            let (session, session_id) = (before.session, before.session_id.clone());
            let tokens = super::harness::person(&before.tokens.email, &next);
            let ends = next["accessExpiresAt"].as_str().unwrap().to_owned();
            let until = (self.model.now + TOKEN_S).min(self.model.sessions[session].ends);
            assert_eq!(unix_s(&ends), until, "no token outlives its session");
            self.model.pairs.push(Pair { session, issued: self.model.now, tokens, session_id });
        }
    }

    async fn revoke(&mut self, pair: usize, session: usize) {
        let (caller, named) = (&self.model.pairs[pair], &self.model.sessions[session]);
        let own = self.model.sessions[caller.session].who == named.who && !named.gone;
        let expected = self.model.is_good(caller).then_some(own);
        let request = json!({"id": self.model.pairs[named.newest].session_id});
        let done = self.call(pair, "SessionService/RevokeSession", request).await;
        match expected {
            None => assert_eq!(done.unwrap_err().0, "unauthenticated"),
            Some(false) => assert_eq!(done.unwrap_err().0, "not_found", "another's is not there"),
            Some(true) => {
                done.unwrap();
                self.model.end(|number, _| number == session);
            }
        }
    }

    async fn revoke_all(&mut self, pair: usize, keep_current: bool) {
        let caller = &self.model.pairs[pair];
        let (good, current) = (self.model.is_good(caller), caller.session);
        let fresh = self.model.is_fresh(current);
        let done = self.call(pair, "SessionService/RevokeAllSessions", json!({"keepCurrent": keep_current})).await;
        match (good, fresh) {
            (false, _) => assert_eq!(done.unwrap_err().0, "unauthenticated"),
            (true, false) => assert_eq!(done.unwrap_err().0, "permission_denied"),
            (true, true) => {
                done.unwrap();
                let who = self.model.sessions[current].who;
                self.model.end(|number, session| session.who == who && !(keep_current && number == current));
            }
        }
    }

    async fn change_password(&mut self, pair: usize) {
        let (good, current) = (self.model.is_good(&self.model.pairs[pair]), self.model.pairs[pair].session);
        let who = self.model.sessions[current].who;
        let next = format!("{PASSWORD} {}", self.model.pairs.len());
        let request = json!({"password": self.passwords[who], "newPassword": next});
        let done = self.call(pair, "AuthService/ChangePassword", request).await;
        assert_eq!(done.is_ok(), good, "{done:?}");
        if good {
            self.passwords[who] = next;
            self.model.end(|number, session| session.who == who && number != current);
            self.model.proves(current);
        }
    }

    /// Shows every access token that was ever handed out.
    async fn check(&self) {
        for (number, pair) in self.model.pairs.iter().enumerate() {
            let about = || format!("pair {number} of session {} at {}", pair.session, self.model.now - BEGUN);
            for over in CONNECTIONS {
                self.server.come_over(over);
                let shown = self.server.call(Some(&pair.tokens), "SessionService/ListSessions", json!({})).await;
                let good = self.model.is_good(pair) && self.model.sessions[pair.session].is_usable_over(over);
                match shown {
                    Ok(_) => assert!(good, "{} over {over:?}", about()),
                    Err((code, _)) => assert_eq!((code.as_str(), good), ("unauthenticated", false), "{}", about()),
                }
            }
            let listed = self.call(number, "SessionService/ListSessions", json!({})).await;
            if !self.model.is_good(pair) {
                assert_eq!(listed.unwrap_err().0, "unauthenticated", "{}", about());
                continue;
            }
            let listed = listed.unwrap_or_else(|refused| panic!("{}: {refused:?}", about()));
            let sessions = listed["sessions"].as_array().unwrap();
            let rows = sessions.iter().map(|row| {
                let at = |field: &str| unix_s(row[field].as_str().unwrap());
                let id = row["id"].as_str().unwrap().to_owned();
                (id, at("createdAt"), at("lastUsedAt"), at("expiresAt"), row["boundToDevice"] == true)
            });
            assert_eq!(
                rows.collect::<BTreeSet<_>>(),
                self.model.shown(self.model.sessions[pair.session].who),
                "{}",
                about()
            );
            let current = sessions.iter().filter(|row| row["current"] == true).map(|row| row["id"].as_str().unwrap());
            assert_eq!(current.collect::<Vec<_>>(), [pair.session_id.as_str()], "{}", about());
            // A method that asks for a password shown lately; there is nothing that it could do.
            let absent = json!({"id": absent_account()});
            let dangerous = self.call(number, "AccountService/DeleteAccount", absent).await.unwrap_err();
            let expected = if self.model.is_fresh(pair.session) { "not_found" } else { "permission_denied" };
            assert_eq!(dangerous.0, expected, "{}: {dangerous:?}", about());
        }
    }
}

/// The id of an account that is not there.
fn absent_account() -> String {
    let id = sys_contract::id::RecordId::new(sys_contract::id::OrgTag::GLOBAL, 1, [7; 10]);
    sys_contract::id::AccountId::from_record(id).to_string()
}

/// `2027-01-15T08:00:00Z`, as JSON has it, in Unix seconds.
fn unix_s(text: &str) -> i64 {
    let timestamp: prost_types::Timestamp = text.parse().unwrap();
    timestamp.seconds
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 64, ..ProptestConfig::default() })]
    #[test]
    fn every_token_is_good_as_long_as_the_model_says(steps in prop::collection::vec(step(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in &steps {
                world.take(step).await;
                if let Step::Restart = step {
                    world = World { server: world.server.restart().await, ..world };
                }
                world.check().await;
            }
        });
    }
}
