//! Answers that nobody reads.

use super::{
    super::{Front, FrontBody},
    bed::Bed,
};
use crate::throttle::CallerKey;
use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use prost::Message;
use serde_json::json;
use tower::{Service, ServiceExt};

/// What one alone may leave unread, and an answer of which few fit.
const HALF: usize = 64 << 20;
const LARGE: usize = 30_000;

/// Asks for words of so many bytes, after this one.
fn repeat(bed: &Bed, token: Option<&str>, first: &str, bytes: usize) -> Request<Full<Bytes>> {
    let mut request = bed.request("Repeat", token);
    *request.body_mut() = Full::from(json!({"words": [first, "w".repeat(bytes)]}).to_string());
    request
}

async fn answered(bed: &Bed, request: Request<Full<Bytes>>) -> Response<FrontBody> {
    let mut front: Front = bed.monitor().front();
    ServiceExt::<Request<Full<Bytes>>>::ready(&mut front).await.unwrap().call(request).await.unwrap()
}

#[tokio::test]
async fn who_does_not_read_his_answers_is_given_no_more_and_others_are() {
    let bed = Bed::new().await;
    let (token, others) = (bed.token().await, bed.token().await);
    let account = bed.gate().holder(&token).await.unwrap().claims.account;
    let share = || CallerKey::of(Some(account), None);
    let rest = bed.gate().kept.room_for(share(), HALF - 2 * LARGE).unwrap();
    let unread = answered(&bed, repeat(&bed, Some(&token), "read", LARGE)).await;
    assert_eq!(unread.status(), 200);
    assert_eq!(answered(&bed, repeat(&bed, Some(&token), "read", LARGE)).await.status(), 503);
    assert_eq!(
        answered(&bed, repeat(&bed, Some(&token), "read", 1_000)).await.status(),
        200,
        "small ones need no room"
    );
    assert_eq!(answered(&bed, repeat(&bed, Some(&others), "read", LARGE)).await.status(), 200);
    assert_eq!(answered(&bed, repeat(&bed, None, "read", LARGE)).await.status(), 200);
    // What was stored is answered, and counts.
    let before = bed.gate().kept.bytes();
    let stored = answered(&bed, repeat(&bed, Some(&token), "mail", LARGE)).await;
    assert_eq!(stored.status(), 200);
    let past = bed.gate().kept.room_anyway(share(), 8 << 20);
    assert_eq!(answered(&bed, repeat(&bed, Some(&token), "mail", 1)).await.status(), 503, "not begun with");
    assert_eq!(answered(&bed, repeat(&bed, Some(&others), "mail", 1)).await.status(), 200);
    assert_eq!(bed.gate().kept.bytes(), before, "nobody else has less for it");
    drop((stored, past));
    assert_eq!(answered(&bed, repeat(&bed, Some(&token), "mail", 1)).await.status(), 200);
    // Once it is read, all is as before.
    let read = unread.into_body().collect().await.unwrap().to_bytes();
    assert!(read.len() > LARGE);
    drop((read, rest));
    assert_eq!(bed.gate().kept.bytes(), 0);
}

#[tokio::test]
async fn answers_are_not_packed_whoever_asks_for_it_and_requests_may_be() {
    let bed = Bed::new().await;
    let mut request = repeat(&bed, None, "read", LARGE);
    request.headers_mut().insert(header::ACCEPT_ENCODING, "gzip".parse().unwrap());
    let response = answered(&bed, request).await;
    assert!(response.headers().get(header::CONTENT_ENCODING).is_none(), "{:?}", response.headers());
    assert!(response.into_body().collect().await.unwrap().to_bytes().len() > LARGE);
    // The same by gRPC.
    let message = super::streams::words::SayRequest::of(&["w".repeat(LARGE)]).encode_to_vec();
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(message.len().try_into().unwrap());
    body.put_slice(&message);
    let mut request = bed.request("Repeat", None);
    request.headers_mut().insert(header::CONTENT_TYPE, "application/grpc+proto".parse().unwrap());
    request.headers_mut().insert("grpc-accept-encoding", "gzip".parse().unwrap());
    *request.version_mut() = http::Version::HTTP_2;
    *request.body_mut() = Full::from(body.freeze());
    let response = answered(&bed, request).await;
    let answer = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!((answer[0], &answer[5..]), (0, message.as_slice()), "its flag says that it is not packed");
}
