//! The module host: which methods there are, and what stands behind each.
//!
//! The table is swapped whole, so that a request sees one state of it. A module loads whole or not at all: each method is
//! served or has a handler, each handler has a method, and each validation rule compiles.

use crate::{
    describe::{Kept, Shown},
    metrics::MethodCalls,
    module::{Handler, Handlers, Module},
    refusal::Refusal,
    throttle::MethodRate,
    validation::{Judged, Validation, has_known_values},
};
use arc_swap::ArcSwap;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};
use sys_contract::{
    id::RecordId,
    model::{Contract, Method, Serve, Shape},
    problem::Problems,
};
use sys_policy::{Caller, MethodRules, Now, Rules};
use sys_store::{Open, Store, Table, Tables};

/// The package of protovalidate's options.
const VALIDATION_PACKAGE: &str = "buf.validate";

/// A message of any type, packed into bytes.
const ANY: &str = "google.protobuf.Any";

/// A module that is loaded.
pub struct LoadedModule {
    pub(crate) contract: Arc<Contract>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) validation: Validation,
}

impl fmt::Debug for LoadedModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedModule").field("module", &self.contract.module).finish_non_exhaustive()
    }
}

/// A method that is loaded, with all that the gate needs to know of it.
pub struct LoadedMethod {
    pub(crate) module: Arc<LoadedModule>,
    service: usize,
    method: usize,
    /// Whom the method lets in; for a served method its record's rules say it.
    pub(crate) rules: Arc<MethodRules>,
    pub(crate) handler: Option<Handler>,
    /// How often one caller may call, where the contract says it.
    pub(crate) rate: Option<MethodRate>,
    /// What has been counted of it.
    pub(crate) calls: MethodCalls,
    /// Whether a record can stand anywhere in the response: then it is redacted.
    pub(crate) answers_records: bool,
    /// Whether a validation rule stands anywhere in the request: else the validator, which copies it, is not asked.
    is_validated: bool,
}

impl fmt::Debug for LoadedMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedMethod").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl LoadedMethod {
    /// The contract's words on it.
    pub(crate) fn method(&self) -> &Method {
        // INVARIANT: the two numbers were counted off this very contract in `pair`.
        #[allow(clippy::indexing_slicing, reason = "INVARIANT: see above")]
        &self.module.contract.services[self.service].methods[self.method]
    }

    /// Whether any grant of the method might hold for this caller on some record.
    pub(crate) fn could(&self, caller: &Caller, now: &Now) -> bool {
        self.rules.could(caller, now)
    }

    /// Its path without the leading slash.
    pub(crate) fn path(&self) -> &str {
        &self.method().path
    }
}

/// All methods, and the modules that they belong to.
#[derive(Debug, Default)]
pub(crate) struct MethodTable {
    methods: BTreeMap<String, Arc<LoadedMethod>>,
    pub(crate) modules: Vec<Arc<LoadedModule>>,
    shown: Kept,
}

/// Loads modules.
#[derive(Debug)]
pub struct Host {
    store: Store,
    table: ArcSwap<MethodTable>,
}

/// Why a module does not load.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// Its rules do not compile.
    #[error(transparent)]
    Contract(#[from] Problems),
    /// The store refuses its tables.
    #[error(transparent)]
    Store(#[from] sys_store::LoadError),
    /// A method has neither `serve` nor a handler.
    #[error("{path} ({place}): no handler stands ready for it; write `serve` in its option, or register a handler")]
    NoHandler {
        /// The method.
        path: String,
        /// Where it is declared.
        place: String,
    },
    /// The handler is for another kind of method.
    #[error("{path} ({place}): the contract says that it is {flow}, and its handler is registered for something else")]
    OtherFlow {
        /// The method.
        path: String,
        /// Where it is declared.
        place: String,
        /// What it is.
        flow: &'static str,
    },
    /// A handler's answer could hold a record that the gate cannot see, and so not redact.
    #[error("{path} ({place}): its answer holds a {ANY}, in which no record can be redacted; name the message type")]
    Opaque {
        /// The method.
        path: String,
        /// Where it is declared.
        place: String,
    },
    /// The rules were compiled from another contract.
    #[error("{path} has no rules")]
    NoRules {
        /// The method.
        path: String,
    },
    /// A handler stands ready for a method that the contract does not name or serves itself, or twice for one.
    #[error("a handler stands ready for {path}, which the contract of {module} does not leave to one handler")]
    ExtraHandler {
        /// The path that was registered.
        path: String,
        /// The module.
        module: String,
    },
    /// A noun, package or method is another module's.
    #[error("{module}: {what} belongs to another module that is loaded")]
    Taken {
        /// The module that came later.
        module: String,
        /// The noun, package or path.
        what: String,
    },
    /// A validation rule does not compile.
    #[error("{message}: a validation rule does not compile: {cause}")]
    Validation {
        /// The message that it stands in.
        message: String,
        /// Why.
        cause: String,
    },
}

impl Host {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, table: ArcSwap::default() }
    }

    /// Loads a module that is a contract only.
    pub async fn load_served(&self, contract: Arc<Contract>) -> Result<Arc<LoadedModule>, ModuleError> {
        self.load_with(contract, Handlers::default()).await
    }

    /// Loads a module with handlers in this process.
    pub async fn load(&self, module: Arc<dyn Module>) -> Result<Arc<LoadedModule>, ModuleError> {
        let mut handlers = Handlers::default();
        let contract = module.contract();
        module.register(&mut handlers);
        self.load_with(contract, handlers).await
    }

    async fn load_with(
        &self,
        contract: Arc<Contract>,
        mut handlers: Handlers,
    ) -> Result<Arc<LoadedModule>, ModuleError> {
        let rules = Arc::new(Rules::compile(&contract)?);
        refuse_taken(&contract, &self.table.load())?;
        let validation = Validation::of(&contract)?;
        let paired = pair(&contract, &rules, &mut handlers)?;
        if let Some(path) = handlers.left_over().next() {
            return Err(ModuleError::ExtraHandler { path: path.to_owned(), module: contract.module.clone() });
        }
        // Last, since it is kept: what a store has loaded once is what later versions are held against.
        let tables = self.store.load(contract.clone(), rules.clone()).await?;
        let module = Arc::new(LoadedModule { contract, tables, validation });
        let loaded: Vec<_> = paired.into_iter().map(|method| Arc::new(method.of(module.clone()))).collect();
        self.table.rcu(|table| {
            let mut methods = table.methods.clone();
            methods.extend(loaded.iter().map(|method| (method.path().to_owned(), method.clone())));
            let modules = table.modules.iter().chain([&module]).cloned().collect();
            MethodTable { methods, modules, shown: Kept::default() }
        });
        Ok(module)
    }

    /// A module that is loaded, by its name.
    pub fn loaded(&self, module: &str) -> Option<Arc<LoadedModule>> {
        self.table.load().modules.iter().find(|loaded| loaded.contract.module == module).cloned()
    }

    /// All modules that are loaded.
    pub fn modules(&self) -> Vec<Arc<LoadedModule>> {
        self.table.load().modules.clone()
    }

    pub(crate) fn method(&self, path: &str) -> Option<Arc<LoadedMethod>> {
        self.table.load().methods.get(path).cloned()
    }

    /// All methods, by their paths.
    pub(crate) fn methods(&self) -> Vec<Arc<LoadedMethod>> {
        self.table.load().methods.values().cloned().collect()
    }

    /// What describes the methods that this caller might call.
    pub(crate) fn shown_to(&self, caller: &Caller, now: &Now) -> Result<Arc<Shown>, Refusal> {
        let table = self.table.load();
        let visible: Vec<bool> = table.methods.values().map(|method| method.could(caller, now)).collect();
        table.shown.get(visible, || {
            let could =
                |method: &Method| table.methods.get(&method.path).is_some_and(|method| method.could(caller, now));
            table.modules.iter().filter_map(|module| module.contract.select(could)).map(Into::into).collect()
        })
    }
}

impl LoadedModule {
    /// The module's contract.
    pub fn contract(&self) -> &Arc<Contract> {
        &self.contract
    }

    /// The module's tables.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }
}

/// A method with what stands behind it, before its module is loaded.
struct Paired {
    service: usize,
    method: usize,
    rules: Arc<MethodRules>,
    handler: Option<Handler>,
    rate: Option<MethodRate>,
    answers_records: bool,
    is_validated: bool,
}

impl Paired {
    fn of(self, module: Arc<LoadedModule>) -> LoadedMethod {
        let Self { service, method, rules, handler, rate, answers_records, is_validated } = self;
        let calls = MethodCalls::default();
        LoadedMethod { module, service, method, rules, handler, rate, calls, answers_records, is_validated }
    }
}

/// Finds for each method of a contract what serves it.
fn pair(contract: &Contract, rules: &Rules, handlers: &mut Handlers) -> Result<Vec<Paired>, ModuleError> {
    let is_record = |message: &MessageDescriptor| contract.records.iter().any(|record| record.message == *message);
    let is_any = |message: &MessageDescriptor| message.full_name() == ANY;
    let mut paired = Vec::new();
    for (service_index, service) in contract.services.iter().enumerate() {
        for (method_index, method) in service.methods.iter().enumerate() {
            let (path, place) = (method.path.clone(), method.place.to_string());
            let (input, output) = (method.descriptor.input(), method.descriptor.output());
            let handler = if method.serve.is_some() { None } else { handlers.take(&path) };
            if method.serve.is_none() && handler.is_none() {
                return Err(ModuleError::NoHandler { path, place });
            }
            if handler.as_ref().is_some_and(|handler| handler.flow() != method.flow) {
                return Err(ModuleError::OtherFlow { path, place, flow: method.flow.name() });
            }
            if handler.is_some() && holds(&output, &is_any, &mut BTreeSet::new()) {
                return Err(ModuleError::Opaque { path, place });
            }
            let rules = rules.method(&path).cloned().ok_or(ModuleError::NoRules { path })?;
            paired.push(Paired {
                service: service_index,
                method: method_index,
                rules,
                handler,
                rate: method.rate.map(MethodRate::new),
                answers_records: holds(&output, &is_record, &mut BTreeSet::new()),
                is_validated: holds(&input, &has_validation_rule, &mut BTreeSet::new()),
            });
        }
    }
    Ok(paired)
}

/// Whether a message of such a type can stand anywhere in a message of this type, itself included.
fn holds(message: &MessageDescriptor, such: &impl Fn(&MessageDescriptor) -> bool, seen: &mut BTreeSet<String>) -> bool {
    if such(message) {
        return true;
    }
    if !seen.insert(message.full_name().to_owned()) {
        return false;
    }
    message.fields().any(|field| field.kind().as_message().is_some_and(|inner| holds(inner, such, seen)))
}

/// Whether an option of protovalidate stands on the message, its fields or its oneofs.
fn has_validation_rule(message: &MessageDescriptor) -> bool {
    let is_rule = |options: DynamicMessage| {
        options.extensions().any(|(extension, _)| extension.parent_file().package_name() == VALIDATION_PACKAGE)
    };
    is_rule(message.options())
        || message.fields().any(|field| is_rule(field.options()))
        || message.oneofs().any(|oneof| is_rule(oneof.options()))
}

fn refuse_taken(contract: &Contract, table: &MethodTable) -> Result<(), ModuleError> {
    let taken = |what: String| ModuleError::Taken { module: contract.module.clone(), what };
    for other in &table.modules {
        if other.contract.module == contract.module {
            return Err(taken(format!("the name `{}`", contract.module)));
        }
        for service in &contract.services {
            if other.contract.services.iter().any(|s| s.noun == service.noun) {
                return Err(taken(format!("the noun `{}`", service.noun)));
            }
        }
        if let Some(file) = contract.files.iter().find(|file| other.contract.files.contains(file)) {
            return Err(taken(format!("the file `{file}`")));
        }
        let packages = |contract: &Contract| -> BTreeSet<String> {
            let files = contract.pool.files().filter(|file| contract.files.iter().any(|own| own == file.name()));
            files.map(|file| file.package_name().to_owned()).collect()
        };
        if let Some(package) = packages(contract).intersection(&packages(&other.contract)).next() {
            return Err(taken(format!("the package `{package}`")));
        }
    }
    Ok(())
}

/// Holds a request against the validation rules that stand beside its fields. What an update would change is left to
/// [`validate_result`], since a request names only a part of it.
pub(crate) fn validate(method: &LoadedMethod, request: &DynamicMessage) -> Result<(), Refusal> {
    has_known_values(request)?;
    if !method.is_validated {
        return Ok(());
    }
    let judged = match &method.method().serve {
        Some(Serve { shape: Shape::Update { item, .. }, .. }) => Judged::AllBut(item),
        _ => Judged::Whole,
    };
    method.module.validation.check(request, &judged)
}

/// Holds a record as an update left it against the rules of its type. Judged are the fields that the update changed and what
/// is said of the record as a whole.
pub(crate) async fn validate_result(
    open: &mut Open,
    method: &LoadedMethod,
    table: &Arc<Table>,
    id: RecordId,
    changed: &[String],
) -> Result<(), Refusal> {
    let stored = open.danger_unruled(table).get(id).await?.ok_or_else(Refusal::not_found)?;
    method.module.validation.check(stored.message(), &Judged::Fields(changed))
}
