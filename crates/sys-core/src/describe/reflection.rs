//! gRPC server reflection (`grpc.reflection.v1`, and `v1alpha` for older tools) over the files that the caller may see.

use super::Shown;
use crate::refusal::Refusal;
use bytes::Bytes;
use connectrpc::{ConnectError, EncodedBody, EncodedStream, dispatcher::RequestStream};
use futures_util::StreamExt;
use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};
use std::{collections::BTreeMap, future::Future, sync::Arc};

/// Questions on one stream. A client that wants more opens another one, and is identified anew.
const MAX_QUESTIONS: usize = 1_000;
/// Bytes of a question, which is a name and is sent back with the answer.
pub(crate) const QUESTION_BYTES: usize = 4 << 10;
/// gRPC's NOT_FOUND.
const NOT_FOUND: i32 = 5;
pub(super) const V1: &str = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
pub(super) const V1_ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

#[derive(Clone, PartialEq, Message)]
struct ServerReflectionRequest {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(oneof = "Question", tags = "3, 4, 5, 6, 7")]
    question: Option<Question>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Question {
    #[prost(string, tag = "3")]
    FileByFilename(String),
    #[prost(string, tag = "4")]
    FileContainingSymbol(String),
    #[prost(message, tag = "5")]
    FileContainingExtension(ExtensionRequest),
    #[prost(string, tag = "6")]
    AllExtensionNumbersOfType(String),
    #[prost(string, tag = "7")]
    ListServices(String),
}

#[derive(Clone, PartialEq, Message)]
struct ExtensionRequest {
    #[prost(string, tag = "1")]
    containing_type: String,
    #[prost(int32, tag = "2")]
    extension_number: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ServerReflectionResponse {
    #[prost(string, tag = "1")]
    valid_host: String,
    #[prost(message, optional, tag = "2")]
    original_request: Option<ServerReflectionRequest>,
    #[prost(oneof = "Answer", tags = "4, 5, 6, 7")]
    answer: Option<Answer>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Answer {
    #[prost(message, tag = "4")]
    Files(FileDescriptorResponse),
    #[prost(message, tag = "5")]
    ExtensionNumbers(ExtensionNumberResponse),
    #[prost(message, tag = "6")]
    Services(ListServiceResponse),
    #[prost(message, tag = "7")]
    Error(ErrorResponse),
}

#[derive(Clone, PartialEq, Message)]
struct FileDescriptorResponse {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    file_descriptor_proto: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct ExtensionNumberResponse {
    #[prost(string, tag = "1")]
    base_type_name: String,
    #[prost(int32, repeated, tag = "2")]
    extension_number: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct ListServiceResponse {
    #[prost(message, repeated, tag = "1")]
    service: Vec<ServiceResponse>,
}

#[derive(Clone, PartialEq, Message)]
struct ServiceResponse {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ErrorResponse {
    #[prost(int32, tag = "1")]
    error_code: i32,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// google.protobuf.FileDescriptorSet with the files left as bytes, so that custom options survive.
#[derive(Clone, PartialEq, Message)]
struct RawFileSet {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    file: Vec<Bytes>,
}

/// An index over what one caller is shown.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_name: BTreeMap<String, Bytes>,
    /// Full names of services, methods, messages, fields, enums, enum values and extensions, and the file of each.
    by_symbol: BTreeMap<String, String>,
    /// Extended type and number, and the file of each.
    extensions: BTreeMap<(String, i32), String>,
    services: Vec<String>,
}

/// Answers one question after the other, each by what the caller is shown at that moment.
pub(crate) fn answer<F>(questions: RequestStream, shown: impl Fn() -> F + Send + 'static) -> EncodedStream
where
    F: Future<Output = Result<Arc<Shown>, Refusal>> + Send + 'static,
{
    Box::pin(questions.take(MAX_QUESTIONS).then(move |question| {
        let shown = shown();
        async move {
            let request = decode(question?)?;
            Ok(EncodedBody::Contiguous(shown.await?.index.response(request)))
        }
    }))
}

fn decode(question: Bytes) -> Result<ServerReflectionRequest, ConnectError> {
    ServerReflectionRequest::decode(question).map_err(|_| ConnectError::invalid_argument("not a reflection request"))
}

/// The answer to one question, over these FileDescriptorSets.
pub(crate) fn answer_question(sets: &[Bytes], question: Bytes) -> Option<Bytes> {
    let request = decode(question).ok()?;
    Some(Index::of(sets).ok()?.response(request))
}

impl Index {
    /// The answer's bytes. The question goes back with it.
    fn response(&self, request: ServerReflectionRequest) -> Bytes {
        let answer = self.answer(request.question.as_ref());
        let valid_host = request.host.clone();
        ServerReflectionResponse { valid_host, original_request: Some(request), answer: Some(answer) }
            .encode_to_vec()
            .into()
    }

    /// Over these FileDescriptorSets, one for each module.
    pub(super) fn of(sets: &[Bytes]) -> Result<Self, Refusal> {
        let mut index = Self::default();
        for set in sets {
            for bytes in RawFileSet::decode(set.clone()).map_err(Refusal::internal)?.file {
                let file = FileDescriptorProto::decode(bytes.clone()).map_err(Refusal::internal)?;
                index.add(&file, bytes);
            }
        }
        Ok(index)
    }

    fn add(&mut self, file: &FileDescriptorProto, bytes: Bytes) {
        let name = file.name().to_owned();
        if self.by_name.insert(name.clone(), bytes).is_some() {
            // Two modules import the same file; it is the same for both.
            return;
        }
        let package = file.package();
        for service in &file.service {
            let full = join(package, service.name());
            self.services.push(full.clone());
            service.method.iter().for_each(|method| self.symbol(join(&full, method.name()), &name));
            self.symbol(full, &name);
        }
        file.message_type.iter().for_each(|message| self.add_message(package, message, &name));
        file.enum_type.iter().for_each(|descriptor| self.add_enum(package, descriptor, &name));
        for extension in &file.extension {
            self.symbol(join(package, extension.name()), &name);
            let extended = extension.extendee().trim_start_matches('.').to_owned();
            self.extensions.insert((extended, extension.number()), name.clone());
        }
    }

    fn add_message(&mut self, parent: &str, message: &DescriptorProto, file: &str) {
        let full = join(parent, message.name());
        message.field.iter().for_each(|field| self.symbol(join(&full, field.name()), file));
        message.nested_type.iter().for_each(|nested| self.add_message(&full, nested, file));
        message.enum_type.iter().for_each(|descriptor| self.add_enum(&full, descriptor, file));
        self.symbol(full, file);
    }

    fn add_enum(&mut self, parent: &str, descriptor: &EnumDescriptorProto, file: &str) {
        // Values are siblings of their enum, as in C++.
        descriptor.value.iter().for_each(|value| self.symbol(join(parent, value.name()), file));
        self.symbol(join(parent, descriptor.name()), file);
    }

    fn symbol(&mut self, name: String, file: &str) {
        self.by_symbol.insert(name, file.to_owned());
    }

    fn answer(&self, question: Option<&Question>) -> Answer {
        let found = match question {
            Some(Question::FileByFilename(name)) => self.file(name),
            Some(Question::FileContainingSymbol(symbol)) => {
                self.by_symbol.get(symbol.trim_start_matches('.')).and_then(|file| self.file(file))
            }
            Some(Question::FileContainingExtension(extension)) => self
                .extensions
                .get(&(extension.containing_type.trim_start_matches('.').to_owned(), extension.extension_number))
                .and_then(|file| self.file(file)),
            Some(Question::AllExtensionNumbersOfType(base)) => {
                let base = base.trim_start_matches('.');
                let extension_number: Vec<i32> = self
                    .extensions
                    .keys()
                    .filter(|(extended, _)| extended == base)
                    .map(|(_, number)| *number)
                    .collect();
                let known = !extension_number.is_empty() || self.by_symbol.contains_key(base);
                known.then(|| {
                    Answer::ExtensionNumbers(ExtensionNumberResponse {
                        base_type_name: base.to_owned(),
                        extension_number,
                    })
                })
            }
            Some(Question::ListServices(_)) => {
                let service = self.services.iter().map(|name| ServiceResponse { name: name.clone() }).collect();
                Some(Answer::Services(ListServiceResponse { service }))
            }
            None => None,
        };
        found.unwrap_or_else(|| {
            let error_message = "nothing of this name that you may call".to_owned();
            Answer::Error(ErrorResponse { error_code: NOT_FOUND, error_message })
        })
    }

    fn file(&self, name: &str) -> Option<Answer> {
        let bytes = self.by_name.get(name)?.clone();
        Some(Answer::Files(FileDescriptorResponse { file_descriptor_proto: vec![bytes] }))
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}
