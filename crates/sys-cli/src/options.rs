//! What a contract's options say about flags, read from the descriptors that the server sends.
//!
//! Only what changes the command line is read here; what the options mean is decided on the server.

use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, MessageDescriptor, MethodDescriptor,
    ReflectMessage, Value,
};

/// The extensions of one pool. A module that imports none of them has plain flags.
#[derive(Debug)]
pub(crate) struct Options {
    field: Option<ExtensionDescriptor>,
    record: Option<ExtensionDescriptor>,
    method: Option<ExtensionDescriptor>,
    validate: Option<ExtensionDescriptor>,
}

/// How a field of a record may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FieldOptions {
    /// The server sets it.
    pub(crate) output_only: bool,
    /// Set at creation alone.
    pub(crate) immutable: bool,
    /// Protovalidate wants something in it.
    pub(crate) required: bool,
}

impl Options {
    pub(crate) fn of(pool: &DescriptorPool) -> Self {
        Self {
            field: pool.get_extension_by_name("sys.policy.v1.field"),
            record: pool.get_extension_by_name("sys.policy.v1.record"),
            method: pool.get_extension_by_name("sys.policy.v1.method"),
            validate: pool.get_extension_by_name("buf.validate.field"),
        }
    }

    pub(crate) fn field(&self, field: &FieldDescriptor) -> FieldOptions {
        let options = field.options();
        let option = |extension: &Option<ExtensionDescriptor>| {
            let value = options.get_extension(extension.as_ref()?).into_owned();
            if let Value::Message(message) = value { Some(message) } else { None }
        };
        let (policy, rules) = (option(&self.field), option(&self.validate));
        FieldOptions {
            output_only: flag(policy.as_ref(), "output_only"),
            immutable: flag(policy.as_ref(), "immutable"),
            required: flag(rules.as_ref(), "required") || rules.as_ref().is_some_and(wants_text),
        }
    }

    /// Whether calls of this method may want a password that was shown lately.
    pub(crate) fn steps_up(&self, method: &MethodDescriptor) -> bool {
        let Some(extension) = &self.method else { return false };
        let options = method.options();
        let policy = options.get_extension(extension);
        policy.as_message().is_some_and(|policy| policy.has_field_by_name("step_up"))
    }

    /// Whether this method tells what is new among records.
    pub(crate) fn watches(&self, method: &MethodDescriptor) -> bool {
        let Some(extension) = &self.method else { return false };
        let options = method.options();
        let serve = options.get_extension(extension).as_message().and_then(|policy| {
            let (field, value) = (policy.descriptor().get_field_by_name("serve")?, policy.get_field_by_name("serve")?);
            let verb = field.kind().as_enum()?.get_value(value.as_enum_number()?)?;
            Some(verb.name() == "WATCH")
        });
        serve.unwrap_or_default()
    }

    /// Whether messages of this type are stored.
    pub(crate) fn is_record(&self, message: &MessageDescriptor) -> bool {
        self.record.as_ref().is_some_and(|extension| message.options().has_extension(extension))
    }
}

fn flag(options: Option<&DynamicMessage>, name: &str) -> bool {
    options.and_then(|options| options.get_field_by_name(name)?.as_bool()).unwrap_or_default()
}

/// `string.min_len` of 1 or more.
fn wants_text(rules: &DynamicMessage) -> bool {
    let text = rules.get_field_by_name("string");
    let least = text.and_then(|text| text.as_message()?.get_field_by_name("min_len")?.as_u64());
    least.is_some_and(|least| least > 0)
}
