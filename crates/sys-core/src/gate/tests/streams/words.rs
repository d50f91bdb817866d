//! Handlers that stream words, some of which they take for more than words.

use super::super::bed::{mail, path_of};
use crate::{
    call::Call,
    module::{Handlers, Next, Part},
    refusal::Refusal,
};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// Turns of `Flood`, of which one test makes use.
pub(in super::super) static FLOODED: AtomicUsize = AtomicUsize::new(0);
/// Words in one turn of it, and bytes in each.
pub(in super::super) const FLOOD: (usize, usize) = (16, 4_096);

#[derive(Clone, PartialEq, prost::Message)]
pub(in super::super) struct SayRequest {
    #[prost(string, repeated, tag = "1")]
    words: Vec<String>,
}

impl SayRequest {
    pub(in super::super) fn of(words: &[String]) -> Self {
        Self { words: words.to_vec() }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Word {
    #[prost(string, tag = "1")]
    word: String,
}

pub(in super::super) fn register(handlers: &mut Handlers) {
    handlers.server_stream(path_of("Recite"), async |_, request: SayRequest, said: usize| {
        let answers: Vec<Word> = request.words.get(said).map(word).into_iter().collect();
        let next = if answers.is_empty() { Next::After(Duration::from_secs(86_400)) } else { Next::Now };
        Ok(Part { answers, state: said + 1, next })
    });
    handlers.server_stream(path_of("Flood"), async |_, (): (), (): ()| {
        FLOODED.fetch_add(1, Ordering::SeqCst);
        let (words, bytes) = FLOOD;
        let answers = vec![Word { word: "w".repeat(bytes) }; words];
        Ok(Part { answers, state: (), next: Next::Now })
    });
    handlers.client_stream(
        path_of("Collect"),
        async |_, request: SayRequest, mut words: Vec<String>| {
            words.extend(request.words);
            Ok(words)
        },
        |words| Ok(SayRequest { words }),
    );
    handlers.bidi(path_of("Echo"), echo);
    handlers.unary(path_of("Repeat"), async |call: Call, request: SayRequest| {
        if request.words.first().is_some_and(|word| word == "mail") {
            call.after_commit(mail()).await?;
        }
        Ok(request)
    });
}

async fn echo(call: Call, request: SayRequest, (): ()) -> Result<(Vec<Word>, ()), Refusal> {
    match request.words.first().map(String::as_str) {
        Some("mail") => call.after_commit(mail()).await?,
        Some("hang") => std::future::pending().await,
        Some("refuse") => return Err(Refusal::permission_denied()),
        Some("panic") => panic!("a secret"),
        _ => {}
    }
    Ok((request.words.iter().map(word).collect(), ()))
}

fn word(text: impl Into<String>) -> Word {
    Word { word: text.into() }
}
