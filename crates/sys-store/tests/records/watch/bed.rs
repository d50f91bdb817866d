//! Somebody who watches, as a client does: a map that the events are applied to, and what it was when a token came.

use crate::harness::*;
use prost::Message;
use prost_reflect::{DynamicMessage, Kind as FieldKind, ReflectMessage, Value};
use std::{collections::BTreeMap, sync::Arc};
use sys_contract::id::RecordId;
use sys_keys::{Keyring, Unsealer, deterministic::SeededEntropy};
use sys_policy::{Caller, Now};
use sys_store::{
    ListRequest, MAX_PAGE_SIZE, Moment, Open, Refused, Store, Table, Watch, WatchEvent, WatchRequest,
    engine::{
        AnyEngine,
        redb::{RedbEngine, RedbOptions},
    },
};

const POSTS: &str = include_str!("../contracts/posts.proto");

/// As bytes: messages of two loads of one contract are never equal.
pub(crate) type Shown = BTreeMap<RecordId, Vec<u8>>;

/// A store with posts, and a clock.
pub(crate) struct Bed {
    pub(crate) world: World,
    pub(crate) posts: Arc<Table>,
    pub(crate) now: Now,
    /// How often the server was started: each start draws other ids.
    starts: u64,
}

impl Bed {
    pub(crate) async fn new(kind: Kind) -> Self {
        Self::of(World::new(kind).await).await
    }

    pub(crate) async fn of(world: World) -> Self {
        let posts = posts(&world.store, POSTS).await;
        Self { world, posts, now: NOW, starts: 1 }
    }

    /// Closes the file and opens it again, as after a crash: nothing but the file is left.
    pub(crate) async fn restart(&mut self) {
        let AnyEngine::Redb(engine) = &self.world.engine else { panic!("redb") };
        engine.close();
        self.starts += 1;
        let entropy = Arc::new(SeededEntropy::danger_from_seed(100 + self.starts));
        let path = |name: &str| self.world.files.path().join(name);
        let keyring = Keyring::open(&path("keys"), &Unsealer::DangerKeyFile(path("danger")), entropy.clone()).unwrap();
        let engine = AnyEngine::Redb(RedbEngine::open(&path("data"), RedbOptions::default()).unwrap());
        self.world.store = Store::open(engine.clone(), keyring, entropy).await.unwrap();
        self.world.engine = engine;
        let contract = compile("sys-directory", "sys/directory/v1/directory.proto", DIRECTORY);
        let directory = load(&self.world.store, contract).await.unwrap();
        let tables = [0, 1].map(|at| directory.table(at).unwrap().clone());
        let [orgs, projects] = tables;
        self.world.store.set_directory(orgs, projects).unwrap();
        self.posts = posts(&self.world.store, POSTS).await;
    }

    pub(crate) async fn begin(&self) -> Open {
        self.world.store.begin(self.now).await.unwrap()
    }

    pub(crate) fn pass(&mut self, seconds: i64) {
        self.now.unix_s += seconds;
    }

    /// A post as it would be stored, of an account, in a project; times are seconds from the beginning of all.
    pub(crate) fn post(&self, owner: u8, project: usize, fields: &Fields) -> DynamicMessage {
        let mut post = self.world.task(&self.posts, project, &[]);
        post.set_field_by_name("owner_id", text(&account(owner).to_string()));
        fields.set(&mut post);
        post
    }

    pub(crate) async fn create(&self, post: DynamicMessage) -> RecordId {
        let mut open = self.begin().await;
        let id = open.danger_unruled(&self.posts).create(post).await.unwrap().id();
        open.commit().await.unwrap();
        id
    }

    pub(crate) async fn change(&self, id: RecordId, fields: &Fields) {
        let mut open = self.begin().await;
        let mut unruled = open.danger_unruled(&self.posts);
        let mut post = unruled.get(id).await.unwrap().unwrap().into_message();
        fields.set(&mut post);
        unruled.update(id, post).await.unwrap();
        open.commit().await.unwrap();
    }

    pub(crate) async fn delete(&self, id: RecordId) {
        let mut open = self.begin().await;
        open.danger_unruled(&self.posts).delete(id).await.unwrap();
        open.commit().await.unwrap();
    }

    /// What a list shows now, all pages of it, and in which order.
    pub(crate) async fn listed(&self, caller: &Caller, request: &WatchRequest) -> Shown {
        let mut asked = ListRequest {
            org_id: request.org_id.clone(),
            project_id: request.project_id.clone(),
            filter: request.filter.clone(),
            page_size: i32::try_from(MAX_PAGE_SIZE).unwrap(),
            ..ListRequest::default()
        };
        let mut shown = Shown::new();
        let mut open = self.begin().await;
        loop {
            let page = open.confined(&self.posts, caller).list(&asked).await.unwrap();
            shown.extend(page.views.iter().map(|view| (view.id(), view.message().encode_to_vec())));
            if page.next_page_token.is_empty() {
                return shown;
            }
            asked.page_token = page.next_page_token;
        }
    }

    pub(crate) async fn watch(&self, caller: &Caller, request: &WatchRequest) -> Result<Watcher, Refused> {
        let watch = self.begin().await.confined(&self.posts, caller).watch(request).await?;
        let request = request.clone();
        Ok(Watcher { watch, request, shown: Shown::new(), kept: (String::new(), Shown::new()), wake_at: None })
    }

    pub(crate) fn asked(&self, org: usize, filter: &str) -> WatchRequest {
        WatchRequest { org_id: self.world.org_text(org), filter: filter.to_owned(), ..WatchRequest::default() }
    }
}

pub(crate) async fn posts(store: &sys_store::Store, text: &str) -> Arc<Table> {
    load(store, compile("mod-posts", "posts/v1/posts.proto", text)).await.unwrap().table(0).unwrap().clone()
}

/// What a post says. Nothing is a field that stays as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields {
    pub(crate) title: Option<&'static str>,
    pub(crate) open: Option<bool>,
    pub(crate) opens: Option<i64>,
    pub(crate) closes: Option<i64>,
    pub(crate) secret: Option<&'static str>,
    pub(crate) answer: Option<&'static str>,
}

impl Fields {
    pub(crate) fn titled(title: &'static str) -> Self {
        Self { title: Some(title), ..Self::default() }
    }

    pub(crate) fn set(&self, post: &mut DynamicMessage) {
        for (field, value) in [("title", self.title), ("secret", self.secret), ("answer", self.answer)] {
            if let Some(value) = value {
                post.set_field_by_name(field, text(value));
            }
        }
        if let Some(open) = self.open {
            post.set_field_by_name("open", Value::Bool(open));
        }
        for (field, seconds) in [("opens", self.opens), ("closes", self.closes)] {
            let Some(seconds) = seconds else { continue };
            let FieldKind::Message(of) = post.descriptor().get_field_by_name(field).unwrap().kind() else { panic!() };
            let mut time = DynamicMessage::new(of);
            time.set_field_by_name("seconds", Value::I64(NOW.unix_s + seconds));
            post.set_field_by_name(field, Value::Message(time));
        }
    }
}

/// Somebody who watches.
pub(crate) struct Watcher {
    pub(crate) watch: Watch,
    pub(crate) request: WatchRequest,
    /// The events applied to an empty map.
    pub(crate) shown: Shown,
    /// The last token, and what the map was then.
    pub(crate) kept: (String, Shown),
    pub(crate) wake_at: Option<Now>,
}

impl Watcher {
    /// Follows until there is no more to tell. Gives what was told.
    pub(crate) async fn follow(&mut self, bed: &Bed, caller: &Caller) -> Result<Vec<WatchEvent>, Refused> {
        self.follow_to(bed, caller, &Moment::of(&bed.begin().await)).await
    }

    /// The same up to a moment that may have passed.
    pub(crate) async fn follow_to(
        &mut self,
        bed: &Bed,
        caller: &Caller,
        up_to: &Moment,
    ) -> Result<Vec<WatchEvent>, Refused> {
        let mut told = Vec::new();
        loop {
            let batch = bed.begin().await.confined(&bed.posts, caller).follow(&mut self.watch, up_to).await?;
            batch.events.iter().for_each(|event| self.apply(event));
            told.extend(batch.events);
            if !batch.more {
                self.wake_at = batch.wake_at;
                return Ok(told);
            }
        }
    }

    /// Each event must mean something for what is there: none comes twice, none is missing.
    pub(crate) fn apply(&mut self, event: &WatchEvent) {
        match event {
            WatchEvent::Reset => self.shown.clear(),
            WatchEvent::Added(view) => {
                let before = self.shown.insert(view.id(), view.message().encode_to_vec());
                assert_eq!(before, None, "added what is there already");
            }
            WatchEvent::Changed(view) => {
                let before = self.shown.insert(view.id(), view.message().encode_to_vec());
                assert!(before.is_some_and(|before| before != self.shown[&view.id()]), "changed, and looks as before");
            }
            WatchEvent::Removed(id) => assert!(self.shown.remove(id).is_some(), "removed what is not there"),
            WatchEvent::Current { resume_token } => self.kept = (resume_token.clone(), self.shown.clone()),
        }
    }

    /// Goes on from the last token, with what was kept then.
    pub(crate) async fn resume(self, bed: &Bed, caller: &Caller) -> Result<Self, Refused> {
        let (resume_token, shown) = self.kept.clone();
        let request = WatchRequest { resume_token, ..self.request };
        let watch = bed.begin().await.confined(&bed.posts, caller).watch(&request).await?;
        Ok(Self { watch, request, shown, kept: self.kept, wake_at: None })
    }
}

/// The events in short: kinds and titles.
pub(crate) fn short(events: &[WatchEvent]) -> Vec<String> {
    let title = |view: &sys_store::View| field_text(view.message(), "title");
    let say = |event: &WatchEvent| match event {
        WatchEvent::Reset => "reset".to_owned(),
        WatchEvent::Added(view) => format!("+{}", title(view)),
        WatchEvent::Changed(view) => format!("~{}", title(view)),
        WatchEvent::Removed(_) => "-".to_owned(),
        WatchEvent::Current { .. } => "current".to_owned(),
    };
    events.iter().map(say).collect()
}
