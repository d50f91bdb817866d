//! Sessions and tokens: what is good, how long, and how often.

use super::bed::{Bed, NOW, Person};
use crate::{
    identity::{
        Email, Registered, SignedIn,
        limits::{MAX_LIVE_TOKENS, MAX_SESSIONS_PER_ACCOUNT, SESSION_IDLE_S, SESSION_LIFE_S},
        one_time::Chosen,
        sessions::Device,
        wire::{OneTimeToken, Principal, Purpose, Session},
    },
    password::StoredPassword,
    refusal::{Code, Refusal},
};

async fn log_in(bed: &Bed, who: &Person, now_unix_s: i64) -> SignedIn {
    let account = who.account;
    bed.act_at(None, now_unix_s, async |turn| turn.open_session(&bed.identity, account, Device::default()).await)
        .await
        .unwrap()
}

async fn refresh(bed: &Bed, token: &str, now_unix_s: i64) -> Result<SignedIn, Refusal> {
    let parsed = bed.identity.0.refresh.parse(token).unwrap();
    bed.act_at(None, now_unix_s, async |turn| turn.refresh_session(&bed.identity, &parsed, None, |_| Ok(())).await)
        .await
}

#[tokio::test]
async fn a_replayed_refresh_token_ends_its_session() {
    let bed = Bed::new().await;
    let user = bed.person("user").await;
    let first = log_in(&bed, &user, NOW).await;
    let other = log_in(&bed, &user, NOW).await;
    let second = refresh(&bed, &first.refresh, NOW).await.unwrap();
    let third = refresh(&bed, &second.refresh, NOW).await.unwrap();
    let before = bed.epoch(&user).await;
    let replayed = refresh(&bed, &first.refresh, NOW).await.unwrap_err();
    assert_eq!((replayed.code, replayed.keeps_writes()), (Code::Unauthenticated, true));
    assert_ne!(bed.epoch(&user).await, before);
    let refused = refresh(&bed, &third.refresh, NOW).await.unwrap_err();
    assert_eq!(refused.code, Code::Unauthenticated, "the thief's and the owner's are both void");
    let thief = Person { session: first.session, ..user.clone() };
    assert_eq!(bed.bindings(&thief).await.unwrap_err().code, Code::Unauthenticated);
    refresh(&bed, &other.refresh, NOW).await.unwrap();
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_or_old() {
    let bed = Bed::new().await;
    let user = bed.person("user").await;
    let idle = log_in(&bed, &user, NOW).await;
    assert!(refresh(&bed, &idle.refresh, NOW + SESSION_IDLE_S).await.is_err());
    let mut pair = log_in(&bed, &user, NOW).await;
    let mut now = NOW;
    while now + SESSION_IDLE_S - 1 < NOW + SESSION_LIFE_S {
        now += SESSION_IDLE_S - 1;
        pair = refresh(&bed, &pair.refresh, now).await.unwrap();
    }
    assert!(refresh(&bed, &pair.refresh, NOW + SESSION_LIFE_S).await.is_err());
}

#[tokio::test]
async fn one_login_too_many_ends_the_oldest_session() {
    let bed = Bed::new().await;
    let user = bed.person("user").await;
    for _ in 1..MAX_SESSIONS_PER_ACCOUNT {
        log_in(&bed, &user, NOW + 1).await;
    }
    assert!(bed.bindings(&user).await.is_ok());
    log_in(&bed, &user, NOW + 2).await;
    assert_eq!(bed.bindings(&user).await.unwrap_err().code, Code::Unauthenticated);
    assert_eq!(bed.all::<Session>().await.len(), MAX_SESSIONS_PER_ACCOUNT);
}

#[tokio::test]
async fn a_one_time_token_is_good_for_its_purpose_and_time() {
    let bed = Bed::new().await;
    let user = bed.person("user").await;
    let account = user.account;
    let issued = bed.act_at(None, NOW, async |turn| turn.issue(account, Purpose::Reset, 60, None).await).await;
    let text = issued.unwrap().unwrap().text().to_string();
    let find = async |text: &str, purpose, now| {
        bed.act_at(None, now, async |turn| turn.find_token(text, purpose).await).await.is_ok()
    };
    assert!(find(&text, Purpose::Reset, NOW + 59).await);
    assert!(!find(&text, Purpose::Reset, NOW + 60).await);
    assert!(!find(&text, Purpose::Verify, NOW).await);
    assert!(!find(&text, Purpose::Setup, NOW).await);
    for wrong in ["", " ", &text[1..], &"A".repeat(43)] {
        assert!(!find(wrong, Purpose::Reset, NOW).await, "fault 5: {wrong:?}");
    }
    let stored = bed.all::<OneTimeToken>().await;
    assert_eq!(stored.len(), 1);
    let secret = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
    let row = prost::Message::encode_to_vec(&stored[0]);
    assert!(!row.windows(secret.len()).any(|part| part == secret), "its hash is stored, not the token");
}

#[tokio::test]
async fn strangers_who_ask_again_and_again_void_no_token_and_flood_no_mailbox() {
    let bed = Bed::new().await;
    let user = bed.person("user").await;
    let account = user.account;
    let issue =
        async || bed.act_at(None, NOW, async |turn| turn.issue(account, Purpose::Reset, 60, None).await).await.unwrap();
    let first = issue().await.unwrap().text().to_string();
    for _ in 1..MAX_LIVE_TOKENS {
        assert!(issue().await.is_some());
    }
    assert!(issue().await.is_none());
    bed.act_at(None, NOW, async |turn| turn.find_token(&first, Purpose::Reset).await).await.unwrap();
    // What has expired makes room.
    let later = bed.act_at(None, NOW + 60, async |turn| turn.issue(account, Purpose::Reset, 60, None).await).await;
    assert!(later.unwrap().is_some());
    assert_eq!(bed.all::<OneTimeToken>().await.len(), 1);
}

#[tokio::test]
async fn to_ask_for_a_new_password_is_as_much_work_for_an_address_without_account() {
    let bed = Bed::new().await;
    let (user, shut_out) = (bed.person("user").await, bed.person("out").await);
    let root = bed.superadmin().await;
    let account = shut_out.account;
    bed.act(&root, async |turn| turn.set_disabled(account, true).await).await.unwrap();
    let nobody = Email::assume_canonical("nobody@example.org");
    let written = async |email: &Email| {
        let (open, done) = bed.begin(None, NOW, async |turn| turn.forget_password(email).await).await;
        let records = open.changed_records().count();
        open.commit().await.unwrap();
        (done.unwrap().is_some(), records)
    };
    for asked in 1..=MAX_LIVE_TOKENS + 1 {
        let rows = usize::from(asked <= MAX_LIVE_TOKENS);
        assert_eq!(written(&user.email).await, (rows == 1, rows), "{asked}");
        assert_eq!(written(&nobody).await, (false, rows), "{asked}");
        assert_eq!(written(&shut_out.email).await, (false, rows), "{asked}");
    }
    // What nobody has does not stay.
    let later = NOW + 3_600;
    for number in 0..200 {
        let email = Email::assume_canonical(format!("n{number}@example.org"));
        bed.act_at(None, later, async |turn| turn.forget_password(&email).await).await.unwrap();
    }
    let left = bed.all::<OneTimeToken>().await;
    let old = left.iter().filter(|row| row.purpose() == Purpose::Nothing && row.expires_unix_s <= later).count();
    assert_eq!(old, 0);
}

#[tokio::test]
async fn two_registrations_of_one_address_at_once_make_one_account() {
    let bed = Bed::new().await;
    let email = Email::assume_canonical("ada@example.org");
    let password = StoredPassword::from_phc("$argon2id$x".to_owned());
    let chosen = Chosen { password: &password, display_name: "Ada" };
    let register = async || bed.begin(None, NOW, async |turn| turn.register(&email, chosen).await).await;
    let ((left, one), (right, two)) = (register().await, register().await);
    assert!(matches!((one.unwrap(), two.unwrap()), (Registered::New { .. }, Registered::New { .. })));
    assert!(!super::bed::conflicts(left).await);
    assert!(super::bed::conflicts(right).await);
    let (again, outcome) = register().await;
    assert!(matches!(outcome.unwrap(), Registered::Waiting { .. }));
    assert!(!super::bed::conflicts(again).await);
    assert_eq!(bed.all::<Principal>().await.len(), 1);
}

#[tokio::test]
async fn who_registers_anothers_address_first_does_not_choose_its_password_or_name() {
    let bed = Bed::new().await;
    let email = Email::assume_canonical("ada@example.org");
    let register = async |phc: &str| {
        let password = StoredPassword::from_phc(phc.to_owned());
        let chosen = Chosen { password: &password, display_name: phc };
        bed.act_at(None, NOW, async |turn| turn.register(&email, chosen).await).await.unwrap()
    };
    assert!(matches!(register("eve's").await, Registered::New { .. }));
    let Registered::Waiting { token: Some(hers) } = register("ada's").await else { panic!("no token") };
    let text = hers.text().to_string();
    let proven = bed.act_at(None, NOW, async |turn| {
        let token = turn.find_token(&text, Purpose::Verify).await?;
        turn.prove(&token).await
    });
    assert_eq!(proven.await.unwrap().1, "ada's");
    let rows = bed.all::<Principal>().await;
    assert_eq!(rows.iter().map(|row| (row.password_phc.as_str(), row.verified)).collect::<Vec<_>>(), [("ada's", true)]);
    assert!(bed.all::<OneTimeToken>().await.is_empty(), "eve's is void");
}

#[tokio::test]
async fn the_setup_token_is_made_while_there_is_no_superadmin_and_replaces_older_ones() {
    let bed = Bed::new().await;
    let entropy = bed.store.entropy().clone();
    let make = async || {
        let mut open = bed.open(NOW).await;
        let token = bed.identity.danger_new_setup_token(&mut open, &*entropy).await.unwrap();
        open.commit().await.unwrap();
        token.map(|token| token.text().to_string())
    };
    let (old, new) = (make().await.unwrap(), make().await.unwrap());
    let find = async |text: &str, now| {
        bed.act_at(None, now, async |turn| turn.find_token(text, Purpose::Setup).await).await.is_ok()
    };
    assert!(!find(&old, NOW).await);
    assert!(find(&new, NOW + 1_799).await);
    assert!(!find(&new, NOW + 1_800).await, "good for half an hour");
    bed.superadmin().await;
    assert!(make().await.is_none());
}
