//! Streams as commands: answers are shown as they come, requests are lines of standard input, and a watch goes on where it
//! was when its connection breaks.

use crate::{
    command_tree::{Verb, Watch},
    failure::Failure,
    output::{self, Format},
    secret::{Secrets, Terminal},
    table,
};
use clap::ArgMatches;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, MethodDescriptor, Value};
use std::{
    io::{self, BufRead},
    time::Duration,
};
use sys_client::{Answers, Client, ClientError, Code};
use sys_contract::model::WatchEvent;
use tokio::sync::{mpsc, oneshot};

/// Pauses before a watch is opened again: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Attempts without an answer, after which a watch gives up: some four minutes.
const MOST_ATTEMPTS: u32 = 12;
/// The columns of the longest word for an event.
const EVENT_WIDTH: usize = 7;

/// Runs the command of a stream, or of a list that is watched.
pub(crate) async fn run(verb: &Verb, matches: &ArgMatches, client: &Client, format: Format) -> Result<(), Failure> {
    if verb.method.is_client_streaming() {
        return converse(verb, client, format).await;
    }
    let request = verb.request(matches, &mut Terminal)?;
    let Some(watch) = verb.watch.as_ref().filter(|_| verb.is_to_watch(matches)) else {
        let (mut answers, mut next) = begun(verb, matches, client, &verb.method, &request).await?;
        while let Some(answer) = next {
            if !output::one_of_many(&answer, format)? {
                return Ok(());
            }
            next = answers.next().await?;
        }
        return Ok(());
    };
    let request = watch.request(&request);
    let begun = begun(verb, matches, client, &watch.method, &request).await?;
    follow(watch, request, begun, client, format).await
}

/// Opens a stream of answers, with the password where the server asks for it, and waits for the first.
async fn begun(
    verb: &Verb,
    matches: &ArgMatches,
    client: &Client,
    method: &MethodDescriptor,
    request: &DynamicMessage,
) -> Result<(Answers, Option<DynamicMessage>), Failure> {
    match opened(client, method, request).await {
        Err(error) if error.asks_for_password() => {
            let password = Terminal.read("password", verb.password_from_stdin(matches))?;
            client.step_up(&password.ok_or(error)?).await?;
            Ok(opened(client, method, request).await?)
        }
        opened => Ok(opened?),
    }
}

async fn opened(
    client: &Client,
    method: &MethodDescriptor,
    request: &DynamicMessage,
) -> Result<(Answers, Option<DynamicMessage>), ClientError> {
    let mut answers = client.listen(method, request).await?;
    let first = answers.next().await?;
    Ok((answers, first))
}

/// Sends the lines of standard input, and shows what is answered.
async fn converse(verb: &Verb, client: &Client, format: Format) -> Result<(), Failure> {
    let (requests, received) = mpsc::channel(1);
    let (done, reading) = oneshot::channel();
    let input = verb.method.input();
    // Of its own, since nothing wakes it while nobody types; it ends with the program.
    std::thread::spawn(move || done.send(send_lines(io::stdin().lock(), &input, &requests)));
    let answered = async {
        let mut answers = client.converse(&verb.method, received).await?;
        while let Some(answer) = answers.next().await? {
            if !output::one_of_many(&answer, format)? {
                break;
            }
        }
        Ok::<(), Failure>(())
    };
    answered.await?;
    // A line that is no request ended the requests. Where the answers ended first, nobody waits for more lines.
    let mut reading = reading;
    reading.try_recv().unwrap_or(Ok(()))
}

/// Sends each line as a request. Comes back at the end of the lines, or when nobody takes them any more.
fn send_lines(
    lines: impl BufRead,
    input: &MessageDescriptor,
    requests: &mpsc::Sender<DynamicMessage>,
) -> Result<(), Failure> {
    for (number, line) in (1..).zip(lines.lines()) {
        let wrong = |what: String| {
            let help = "write one request in JSON on each line, with the field names of the contract; the lines before it were sent";
            Failure::Usage(format!("line {number} of standard input {what}"), help.to_owned())
        };
        let line = line.map_err(|error| wrong(format!("cannot be read: {error}")))?;
        if line.trim().is_empty() {
            continue;
        }
        let mut json = serde_json::Deserializer::from_str(&line);
        let options = DeserializeOptions::new().deny_unknown_fields(true);
        let request = DynamicMessage::deserialize_with_options(input.clone(), &mut json, &options)
            .and_then(|request| json.end().map(|()| request))
            .map_err(|error| wrong(format!("is no {}: {error}", input.name())))?;
        if requests.blocking_send(request).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Shows events, and opens the watch again from the last token when it breaks off.
async fn follow(
    watch: &Watch,
    mut request: DynamicMessage,
    (mut answers, mut next): (Answers, Option<DynamicMessage>),
    client: &Client,
    format: Format,
) -> Result<(), Failure> {
    let (mut attempts, mut shown) = (0, false);
    loop {
        let broken = loop {
            let Some(event) = next else { break None };
            attempts = 0;
            let kind = event.get_field(&watch.event).as_enum_number().and_then(WatchEvent::of);
            // At the beginning there is nothing to forget.
            let is_beginning = kind == Some(WatchEvent::Reset) && !shown && format == Format::Table;
            shown |= kind == Some(WatchEvent::Added);
            let token = event.get_field(&watch.resume_token);
            if token.as_str().is_some_and(|token| !token.is_empty()) {
                request.set_field(&watch.from, token.into_owned());
            }
            if !is_beginning && !watch.show(kind, &event, format)? {
                return Ok(());
            }
            match answers.next().await {
                Ok(event) => next = event,
                Err(error) if is_passing(&error) => break Some(error),
                Err(error) => return Err(error.into()),
            }
        };
        (answers, next) = loop {
            attempts += 1;
            if attempts > MOST_ATTEMPTS {
                let gone = "the server ends the watch again and again".to_owned();
                return Err(broken.map_or_else(|| Failure::Usage(gone, "try again later".to_owned()), Into::into));
            }
            tokio::time::sleep(pause(attempts)).await;
            match opened(client, &watch.method, &request).await {
                Ok(opened) => break opened,
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error.into()),
            }
        };
    }
}

/// Whether it makes sense to come back after this.
fn is_passing(error: &ClientError) -> bool {
    matches!(error.code(), Some(Code::Unavailable | Code::Aborted))
}

fn pause(attempt: u32) -> Duration {
    let (first, longest) = PAUSES;
    first.saturating_mul(1 << attempt.saturating_sub(1).min(5)).min(longest)
}

impl Watch {
    /// The request for a watch of what a list with this request shows; or the request of a watch itself.
    fn request(&self, list: &DynamicMessage) -> DynamicMessage {
        let mut request = DynamicMessage::new(self.method.input());
        for (field, value) in list.fields() {
            if let Some(same) = self.method.input().get_field_by_name(field.name()) {
                request.set_field(&same, value.clone());
            }
        }
        request
    }

    /// Shows an event; whether anybody still reads.
    fn show(&self, kind: Option<WatchEvent>, event: &DynamicMessage, format: Format) -> Result<bool, Failure> {
        if format != Format::Table {
            return Ok(output::one_of_many(event, format)?);
        }
        let word = match kind {
            Some(WatchEvent::Added) => "ADDED",
            Some(WatchEvent::Changed) => "CHANGED",
            Some(WatchEvent::Removed) => "REMOVED",
            Some(WatchEvent::Reset) => "RESET",
            // What was shown is up to date, which goes without saying; nor does a later server's event mean anything here.
            Some(WatchEvent::Current) | None => return Ok(true),
        };
        let item = event.get_field(&self.item);
        let line = match item.as_message().filter(|_| event.has_field(&self.item)) {
            Some(record) => table::row_behind(&format!("{word:EVENT_WIDTH$}"), record, output::width()),
            None => format!("{word:EVENT_WIDTH$}  {}", text(&event.get_field(&self.id))).trim_end().to_owned(),
        };
        Ok(output::line(&line)?)
    }
}

fn text(value: &Value) -> String {
    crate::plain::line(value.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::ReflectMessage;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let pauses: Vec<u64> = (1..=7).map(|attempt| pause(attempt).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn lines_are_requests_and_a_line_that_is_none_is_named() {
        let pool = prost_reflect::DescriptorPool::global();
        let any = pool.get_message_by_name("google.protobuf.SourceContext").unwrap();
        let (requests, mut received) = mpsc::channel(8);
        let text = "{\"fileName\": \"one\"}\n\n{\"file_name\": \"two\"}\n";
        send_lines(text.as_bytes(), &any, &requests).unwrap();
        for name in ["one", "two"] {
            let request = received.try_recv().unwrap();
            assert_eq!(request.get_field_by_name("file_name").unwrap().as_str(), Some(name));
            assert_eq!(request.descriptor(), any);
        }
        for wrong in ["{}\n{\"nonsense\": 1}", "{}\n{} {}", "{}\nnonsense"] {
            let failure = send_lines(wrong.as_bytes(), &any, &requests).unwrap_err();
            assert!(failure.to_string().starts_with("line 2 of standard input"), "{failure}");
        }
    }
}
