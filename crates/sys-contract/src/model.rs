//! A contract in types: what the descriptors and their options say, checked once and never looked up again.
//!
//! Values here are made by [`crate::load()`] alone. They say what is written; what it means stands in `sys-policy`.

use crate::problem::Place;
use prost_reflect::{DescriptorPool, FieldDescriptor, MessageDescriptor, MethodDescriptor};
use std::num::NonZeroU32;

/// One module's contract: the only input of the gate, the store, the CLI and the docs.
#[derive(Debug, Clone)]
pub struct Contract {
    /// The module's name, such as `mod-notes`.
    pub module: String,
    /// Whether this is one of the project's own contracts (`sys.*`), which may use `home: GLOBAL` and SUPERADMIN.
    pub built_in: bool,
    /// The descriptors of the module's files and of all that they import, with comments and options.
    pub pool: DescriptorPool,
    /// The paths of the module's own files, without what they import.
    pub files: Vec<String>,
    /// The services in the order of their files.
    pub services: Vec<Service>,
    /// The records in the order of their files.
    pub records: Vec<Record>,
    /// The validation rules that are written in CEL, in no order that means anything.
    pub validations: Vec<Validation>,
}

/// A validation rule in CEL (`(buf.validate.field).cel`, `(buf.validate.message).cel`), as it is written.
#[derive(Debug, Clone)]
pub struct Validation {
    /// The expression.
    pub expression: String,
    /// What it judges.
    pub this: Validated,
    /// Where it is written.
    pub place: Place,
}

/// What a validation rule calls `this`.
#[derive(Debug, Clone)]
pub enum Validated {
    /// A message.
    Message(MessageDescriptor),
    /// A whole list or map.
    Items(FieldDescriptor),
    /// A single value.
    Scalar,
}

/// A service and its methods.
#[derive(Debug, Clone)]
pub struct Service {
    /// `notes.v1.NoteService`.
    pub full_name: String,
    /// What the CLI calls it: the name without `Service`, in kebab case: `note`.
    pub noun: String,
    /// The leading comment, without comment signs.
    pub comment: String,
    /// Its methods.
    pub methods: Vec<Method>,
    /// Where it is declared.
    pub place: Place,
}

/// A method and what may be done through it.
#[derive(Debug, Clone)]
pub struct Method {
    /// The path on the wire without the leading slash: `notes.v1.NoteService/CreateNote`.
    pub path: String,
    /// What the CLI calls it: the name without the service's noun, in kebab case: `create`.
    pub verb_name: String,
    /// Its descriptor, with input and output.
    pub descriptor: MethodDescriptor,
    /// The leading comment.
    pub comment: String,
    /// How many messages go which way.
    pub flow: Flow,
    /// Served from a record, or by a handler.
    pub serve: Option<Serve>,
    /// The record that a call is judged on, where a handler serves the method.
    pub target: Option<Target>,
    /// What a handler may touch besides, with the caller's rights.
    pub reach: Vec<Access>,
    /// What a handler may touch with the module's own rights.
    pub elevate: Vec<Access>,
    /// The grants of the method itself; empty on served methods, which are judged by their record's.
    pub allow: Vec<Grant>,
    /// Successful reads are audited, too.
    pub audit_full: bool,
    /// Audited and throttled as a sign-in.
    pub sign_in: bool,
    /// Whether a call needs a password that was shown lately.
    pub step_up: Option<StepUp>,
    /// How often one caller may call, where the contract says it.
    pub rate: Option<Rate>,
    /// Upper bound of a request in bytes, on the wire and unpacked.
    pub max_request_bytes: u32,
    /// Upper bound of a call in milliseconds.
    pub deadline_ms: u32,
    /// Where it is declared.
    pub place: Place,
}

/// How many messages of a call go which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    /// One request, one answer.
    Unary,
    /// One request, any number of answers.
    ServerStream,
    /// Any number of requests, one answer.
    ClientStream,
    /// Any number of both.
    Bidi,
}

impl Flow {
    /// That of a method as it is written.
    #[must_use]
    pub fn of(method: &MethodDescriptor) -> Self {
        match (method.is_client_streaming(), method.is_server_streaming()) {
            (false, false) => Self::Unary,
            (false, true) => Self::ServerStream,
            (true, false) => Self::ClientStream,
            (true, true) => Self::Bidi,
        }
    }

    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "a stream of answers",
            Self::ClientStream => "a stream of requests",
            Self::Bidi => "a stream both ways",
        }
    }
}

/// How often one caller may call a method: an account, or the source of a caller without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls in a minute.
    pub per_minute: NonZeroU32,
    /// Calls at once.
    pub burst: NonZeroU32,
}

/// A call needs a password that was shown lately.
#[derive(Debug, Clone)]
pub struct StepUp {
    /// The calls that do not, as a condition in CEL; none: every call does.
    pub unless: Option<String>,
    /// Where it is declared.
    pub place: Place,
}

/// A served method: what sys-core does, on which record, and where the parts stand in its messages.
#[derive(Debug, Clone)]
pub struct Serve {
    /// What is done.
    pub verb: Verb,
    /// Index of the record in [`Contract::records`].
    pub record: usize,
    /// The shape of the request and response (AIP-131 to 135).
    pub shape: Shape,
}

/// Where the parts of a served method stand in its messages.
#[derive(Debug, Clone)]
pub enum Shape {
    /// `id` in, the record out.
    Get {
        /// The request's `id`.
        id: FieldDescriptor,
    },
    /// Filter and page in, records and the next page's token out.
    List {
        /// `org_id`: required for records at home in an org.
        org: Option<FieldDescriptor>,
        /// `project_id`.
        project: Option<FieldDescriptor>,
        /// `filter`.
        filter: Option<FieldDescriptor>,
        /// `order_by`.
        order_by: Option<FieldDescriptor>,
        /// `page_size`.
        page_size: FieldDescriptor,
        /// `page_token`.
        page_token: FieldDescriptor,
        /// The response's repeated record field.
        items: FieldDescriptor,
        /// The response's `next_page_token`.
        next_page_token: FieldDescriptor,
    },
    /// A record in, the stored record out.
    Create {
        /// The request's record field.
        item: FieldDescriptor,
    },
    /// A record and a mask in, the stored record out.
    Update {
        /// The request's record field.
        item: FieldDescriptor,
        /// `update_mask`.
        mask: FieldDescriptor,
    },
    /// Filter in, a number out.
    Count {
        /// `org_id`: required for records at home in an org.
        org: Option<FieldDescriptor>,
        /// `project_id`.
        project: Option<FieldDescriptor>,
        /// `filter`.
        filter: Option<FieldDescriptor>,
        /// The response's `count`.
        count: FieldDescriptor,
    },
    /// Filter and resume token in, a stream of events out.
    Watch {
        /// `org_id`: required for records at home in an org.
        org: Option<FieldDescriptor>,
        /// `project_id`.
        project: Option<FieldDescriptor>,
        /// `filter`.
        filter: Option<FieldDescriptor>,
        /// The request's `resume_token`.
        resume_token: FieldDescriptor,
        /// The message's `event`, a [`WatchEvent`].
        event: FieldDescriptor,
        /// Its `id`.
        id: FieldDescriptor,
        /// Its record.
        item: FieldDescriptor,
        /// Its `resume_token`.
        next_resume_token: FieldDescriptor,
    },
    /// `id` in, nothing out.
    Delete {
        /// The request's `id`.
        id: FieldDescriptor,
        /// `etag`.
        etag: Option<FieldDescriptor>,
    },
}

/// The record that a handler's method is judged on.
#[derive(Debug, Clone)]
pub struct Target {
    /// Index of the record in [`Contract::records`].
    pub record: usize,
    /// The path of request fields that leads to its id.
    pub id: Vec<FieldDescriptor>,
}

/// A record and a verb on it, as in `reach` and `elevate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Access {
    /// Index of the record in [`Contract::records`].
    pub record: usize,
    /// GET, CREATE, UPDATE or DELETE.
    pub verb: Verb,
}

/// A message that is stored.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its descriptor.
    pub message: MessageDescriptor,
    /// What stands before `_` in its ids: the message name in snake case.
    pub prefix: String,
    /// The leading comment.
    pub comment: String,
    /// The table's name.
    pub table: String,
    /// The tablespace that its records live in.
    pub home: Home,
    /// The field `id`.
    pub id: FieldDescriptor,
    /// The field `etag`, where it has one.
    pub etag: Option<FieldDescriptor>,
    /// The field that names its org.
    pub org: Option<FieldDescriptor>,
    /// The field that names its project.
    pub project: Option<FieldDescriptor>,
    /// The field that names its owner's account.
    pub owner: Option<FieldDescriptor>,
    /// Who may do what.
    pub allow: Vec<Grant>,
    /// One for each field of the message, in the order of their numbers.
    pub fields: Vec<Field>,
    /// Where it is declared.
    pub place: Place,
}

/// A record's field.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its descriptor.
    pub descriptor: FieldDescriptor,
    /// Set by the server.
    pub output_only: bool,
    /// Set on CREATE alone.
    pub immutable: bool,
    /// How it may be searched.
    pub index: Option<Index>,
    /// Says something about a person.
    pub personal: bool,
    /// Who may read it; empty: whoever reads the record.
    pub read: Vec<Grant>,
    /// Who may write it; empty: whoever writes the record and reads the field.
    pub write: Vec<Grant>,
    /// Where it is declared.
    pub place: Place,
}

/// One way in: all that is set must hold.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The verbs that it opens; empty on methods and fields.
    pub verbs: Vec<Verb>,
    /// A role, held at the resource's scope at this level.
    pub role: Option<(Role, Level)>,
    /// Any binding in the record's org.
    pub member: bool,
    /// The account in `scope.owner`.
    pub owner: bool,
    /// A verified account.
    pub signed_in: bool,
    /// Anybody.
    pub public: bool,
    /// A permission of a custom role.
    pub permission: Option<String>,
    /// A condition in CEL.
    pub when: Option<String>,
    /// Why strangers may see it.
    pub reveals: Option<String>,
    /// Where it is written.
    pub place: Place,
}

/// What is done to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Read one.
    Get,
    /// Read many: what GET allows.
    List,
    /// Say how many: what GET allows.
    Count,
    /// Say what is new among many: what GET allows.
    Watch,
    /// Make one.
    Create,
    /// Change one.
    Update,
    /// Remove one.
    Delete,
}

impl Verb {
    /// The verb that grants name for it: who may read one record lists and counts what he may read.
    #[must_use]
    pub const fn granted_as(self) -> Self {
        match self {
            Self::List | Self::Count | Self::Watch => Self::Get,
            Self::Get | Self::Create | Self::Update | Self::Delete => self,
        }
    }
}

/// What a message of a served WATCH says: `sys.policy.v1.WatchEvent`, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum WatchEvent {
    /// It holds a record that is shown now.
    Added = 1,
    /// It holds a record that looks different now.
    Changed = 2,
    /// It holds the id of a record that is shown no more.
    Removed = 3,
    /// It holds a resume token.
    Current = 4,
    /// All comes again.
    Reset = 5,
}

impl WatchEvent {
    /// The event with a number.
    #[must_use]
    pub const fn of(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Added),
            2 => Some(Self::Changed),
            3 => Some(Self::Removed),
            4 => Some(Self::Current),
            5 => Some(Self::Reset),
            _ => None,
        }
    }

    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }
}

/// A role; ordered, a higher one satisfies a grant for a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Has an account and a binding.
    Guest,
    /// Works in the org or project.
    User,
    /// Administers it.
    Admin,
    /// Runs the server; bound at SYSTEM only.
    Superadmin,
}

/// Where a role is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// The server. Contains no org and no project.
    System,
    /// The record's org.
    Org,
    /// The record's project; a binding at the org contains it.
    Project,
}

/// The tablespace that records of a type live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Home {
    /// That of the record's org.
    Org,
    /// The module's global one.
    Global,
}

/// How a field may be searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Index {
    /// `==` and `in`.
    Equal,
    /// EQUAL, and no two records within hold the same value.
    Unique {
        /// How far.
        within: Within,
    },
    /// Words by their beginning.
    Search {
        /// And the whole text: `==` and `in`.
        whole: bool,
    },
    /// Order and ranges. The values stand readable on disk.
    Ordered,
}

/// How far a unique field is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Within {
    /// Among all records of the type, whatever their org: records at home GLOBAL only.
    System,
    /// Among the records of one org.
    Org,
    /// Among the records of one project.
    Project,
    /// Among the records of one owner.
    Owner,
}
