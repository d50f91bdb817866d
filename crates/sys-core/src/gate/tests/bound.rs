//! Tokens of sessions that are bound to a certificate: good on connections with it, and on no others, whatever is called and
//! however; and what the audit log says of the connection.

use super::{
    PATIENCE,
    bed::{Answer, Bed, METHODS},
};
use crate::{
    audit::{Connection, DeviceKey, Leaf},
    gate::{FrontBody, Source, Transport, callers::TokenHash},
    refusal::Reason,
    throttle::{Rate, Rates},
    token::CertificateHash,
};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full};
use std::{net::IpAddr, num::NonZeroU32};
use sys_contract::id::OrgTag;
use tokio::time::timeout;
use tower::ServiceExt;

const HOUR_S: i64 = 3_600;
const OWN: CertificateHash = CertificateHash([1; 32]);
/// Differs from it in its last bit.
const OTHER: CertificateHash = {
    let mut hash = [1; 32];
    hash[31] = 0;
    CertificateHash(hash)
};
/// What connections there are: plain ones of this machine, and over TLS with or without a certificate.
const CONNECTIONS: [Option<Option<CertificateHash>>; 4] = [None, Some(None), Some(Some(OWN)), Some(Some(OTHER))];

const UNARY: &[&str] = &["application/json", "application/grpc+json", "application/grpc-web+json"];
const STREAMS: &[&str] = &["application/connect+json", "application/grpc+json", "application/grpc-web+json"];
const ENTER: &str = "sys.attack.v1.AttackService/Enter";
/// What is called, with a request, in these forms.
const CALLS: &[(&str, &str, &[&str])] = &[
    (ENTER, "{}", UNARY),
    ("sys.attack.v1.AttackService/Pass", "{}", UNARY),
    ("sys.attack.v1.AttackService/Recite", r#"{"words":["one"]}"#, STREAMS),
    ("sys.attack.v1.AttackService/Echo", r#"{"words":["one"]}"#, STREAMS),
    ("sys.attack.v1.AttackService/WatchEntries", "{}", STREAMS),
    ("sys.core.v1.DescriptorService/GetDescriptors", "{}", UNARY),
];

fn transport(client_certificate: Option<CertificateHash>) -> Transport {
    Transport { version: 0x0304, group: 0x11ec, ech_accepted: true, client_certificate }
}

fn request(
    path: &str,
    json: &str,
    form: &str,
    token: &str,
    connection: Option<Option<CertificateHash>>,
) -> Request<Full<Bytes>> {
    let mut body = BytesMut::new();
    if form != "application/json" {
        body.put_u8(0);
        body.put_u32(json.len().try_into().unwrap());
    }
    body.put_slice(json.as_bytes());
    let mut request = Request::post(format!("/{path}"))
        .header(header::CONTENT_TYPE, form)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .extension(Source(IpAddr::from([127, 0, 0, 1])));
    if let Some(certificate) = connection {
        request = request.extension(transport(certificate));
    }
    request.body(Full::from(body.freeze())).unwrap()
}

/// Whether the caller was let in; if not, that it was for his token.
async fn is_let_in(bed: &Bed, request: Request<Full<Bytes>>) -> bool {
    let response = bed.monitor().front().oneshot(request).await.unwrap();
    timeout(PATIENCE, refused_for(response)).await.expect("an answer").is_none_or(|code| {
        assert_eq!(code, "unauthenticated");
        false
    })
}

/// Why a call was refused, by the first that comes of its answer, which may be without end.
async fn refused_for(response: Response<FrontBody>) -> Option<&'static str> {
    const UNAUTHENTICATED: &str = "16";
    let is_refused = |headers: &HeaderMap| headers.get("grpc-status").map(|status| status == UNAUTHENTICATED);
    if is_refused(response.headers()) == Some(true) || response.status() == 401 {
        return Some("unauthenticated");
    }
    assert_eq!(response.status(), 200);
    let frame = response.into_body().frame().await?.unwrap();
    if let Some(trailers) = frame.trailers_ref() {
        return if is_refused(trailers) == Some(true) { Some("unauthenticated") } else { None };
    }
    let data = String::from_utf8_lossy(frame.data_ref().unwrap()).to_lowercase().replace(' ', "");
    let said = data.contains("\"code\":\"unauthenticated\"") || data.contains("grpc-status:16");
    assert!(said || !data.contains("\"code\":") && !data.contains("grpc-status:1"), "{data}");
    said.then_some("unauthenticated")
}

#[tokio::test]
async fn a_bound_token_is_good_with_its_certificate_alone_whatever_is_called_and_however() {
    for bound_to in [None, Some(OWN)] {
        let bed = Bed::new().await;
        for connection in CONNECTIONS {
            let good = bound_to.is_none() || connection == Some(Some(OWN));
            for (path, json, forms) in CALLS {
                for form in *forms {
                    for cached in [false, true] {
                        let token = bed.token_bound_to(bound_to, HOUR_S).await;
                        let own = || request(ENTER, "{}", "application/json", &token, Some(bound_to));
                        if cached {
                            assert!(is_let_in(&bed, own()).await);
                        }
                        assert_eq!(bed.gate().callers.get(&TokenHash::of(&token)).is_some(), cached);
                        let said = is_let_in(&bed, request(path, json, form, &token, connection)).await;
                        let what = format!("{path} as {form}, bound to {bound_to:?}, cached {cached}, {connection:?}");
                        assert_eq!(said, good, "{what}");
                        assert!(is_let_in(&bed, own()).await, "the owner is still in: {what}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn who_has_not_the_key_learns_no_more_than_that_the_token_is_refused() {
    let bed = Bed::new().await;
    let token = bed.token_bound_to(Some(OWN), HOUR_S).await;
    let answer = async |token: &str, certificate| {
        let request = request(ENTER, "{}", "application/json", token, certificate);
        let Answer { status, code, text } = bed.send(request).await;
        (status, code, text)
    };
    let made_up = answer("made-up", None).await;
    for connection in [None, Some(None), Some(Some(OTHER))] {
        assert_eq!(answer(&token, connection).await, made_up);
    }
}

#[tokio::test]
async fn a_stolen_token_is_seen_in_the_log_with_its_account_and_the_thiefs_connection() {
    let bed = Bed::new().await;
    let token = bed.token_bound_to(Some(OWN), HOUR_S).await;
    let look = "sys.attack.v1.AttackService/Look";
    for connection in [Some(Some(OWN)), Some(Some(CertificateHash([9; 32]))), None] {
        bed.send(request(look, "{}", "application/json", &token, connection)).await;
    }
    let claims = bed.gate().holder(&token).await.unwrap().claims;
    let leaves: Vec<Leaf> = bed.stopped_leaves().await.into_iter().filter(|leaf| leaf.method == look).collect();
    let connection = |certificate: u8| {
        Some(Connection { version: 0x0304, group: 0x11ec, ech_accepted: true, certificate: vec![certificate; 8] })
    };
    let said: Vec<_> =
        leaves.iter().map(|leaf| (leaf.outcome.as_str(), leaf.device_key(), leaf.connection.clone())).collect();
    let refused = Reason::TokenRefused.name();
    let expected = [
        ("OK", DeviceKey::Shown, connection(1)),
        (refused, DeviceKey::NotShown, connection(9)),
        (refused, DeviceKey::NotShown, None),
    ];
    assert_eq!(said, expected);
    for leaf in &leaves {
        assert_eq!(leaf.account_id, claims.account.to_string());
        assert_eq!(leaf.session_id, claims.session.to_string());
    }
}

#[tokio::test]
async fn who_has_not_the_key_uses_up_nothing_of_what_its_owner_may_call() {
    let few = Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::new(2).unwrap() };
    let bed = Bed::with_rates(Rates { account: few, ..Rates::default() }).await;
    let token = bed.token_bound_to(Some(OWN), HOUR_S).await;
    let status = async |connection| bed.send(request(ENTER, "{}", "application/json", &token, connection)).await.status;
    for _ in 0..10 {
        assert_eq!(status(Some(Some(OTHER))).await, 401);
    }
    assert_eq!((status(Some(Some(OWN))).await, status(Some(Some(OWN))).await), (200, 200));
    assert_eq!(status(Some(Some(OWN))).await, 429, "the bucket is as small as that");
}

#[tokio::test]
async fn who_is_loaded_anew_is_held_against_what_his_session_is_bound_to() {
    let bed = Bed::new().await;
    let token = bed.token_bound_to(Some(OWN), HOUR_S).await;
    let known = bed.gate().holder(&token).await.unwrap();
    for (path, connection, good) in [("Enter", Some(OWN), true), ("Look", Some(OTHER), false)] {
        let request = request(&format!("{METHODS}/{path}"), "{}", "application/json", &token, Some(connection));
        // His account changes by another hand, so that what is kept of him is stale.
        let mut open = bed.open().await;
        crate::epoch::advance(&mut open, known.claims.account).await.unwrap();
        open.commit().await.unwrap();
        assert_eq!(is_let_in(&bed, request).await, good);
    }
}

#[tokio::test]
async fn a_handler_is_told_of_the_connection() {
    let bed = Bed::new().await;
    for (connection, expected) in [(None, None), (Some(Some(OWN)), Some(transport(Some(OWN))))] {
        let mut request = bed.request("Leak", None);
        if let Some(certificate) = connection {
            request.extensions_mut().insert(transport(certificate));
        }
        assert_eq!(bed.send(request).await.status, 200);
        let call = bed.leaked.lock().unwrap().take().unwrap();
        assert_eq!(call.transport(), expected.as_ref());
    }
}

#[tokio::test]
async fn what_came_in_plain_leaves_leaves_without_a_connection() {
    let bed = Bed::new().await;
    bed.post("Look").await;
    let leaf = bed.leaves(OrgTag::GLOBAL).await.pop().unwrap();
    assert_eq!((leaf.method.ends_with("/Look"), leaf.connection.clone()), (true, None));
    assert_eq!(leaf.device_key(), DeviceKey::None);
}
