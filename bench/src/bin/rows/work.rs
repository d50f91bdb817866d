//! What both servers are asked: the kinds of calls, the world that they are about, and that both answer alike before they
//! are measured.

use crate::{
    messages::{AssignRole, CreateNote, GetNote, ListNotes, Login, Note, Page, TokenPair, WhoAmI, path},
    people::{PASSWORD, PROJECTS, PROJECTS_PER_ORG, Person},
};
use bytes::Bytes;
use prost::Message;
use std::{net::SocketAddr, sync::Arc};
use sys_bench::client::{CONNECTIONS, Call, Client, STREAMS, load};

/// Notes of each project before the measurement. Every second is published.
pub const NOTES: usize = 320;
const PAGE: i32 = 50;
const GUEST: i32 = 1;
const USER: i32 = 2;

/// A kind of call.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// A writer gets one of his notes.
    Get,
    /// A writer lists his project.
    ListProject,
    /// A guest lists his org, where he may read what is published.
    ListOrg,
    /// A writer writes a note.
    Create,
    /// An admin makes a guest a user, or a user a guest.
    AssignRole,
    /// Somebody logs in.
    Login,
}

impl Work {
    /// All of them, with what the table calls them, the calls of a stream in a round, and the goal.
    pub const ALL: [(Self, &str, usize, f64); 6] = [
        (Self::Get, "get", 600, 5.0),
        (Self::ListProject, "list of 50, a project's by its writer", 120, 5.0),
        (Self::ListOrg, "list of 50, the published of an org by a guest", 120, 5.0),
        (Self::Create, "create", 120, 1.0),
        (Self::AssignRole, "role change", 60, 1.0),
        (Self::Login, "login", 2, 1.0),
    ];
}

/// What a load knows of one server's world.
#[derive(Debug, Clone)]
pub struct World {
    /// Access tokens and account ids, by [`Person::index`].
    tokens: Vec<String>,
    accounts: Vec<String>,
    /// Ids of the org and project, by project.
    places: Vec<(String, String)>,
    /// Ids of notes, by project. Odd ones are published.
    notes: Vec<Vec<String>>,
}

/// One of the two servers.
#[derive(Debug)]
pub struct Side {
    /// Where it listens.
    pub addr: SocketAddr,
    world: Arc<World>,
}

impl Side {
    /// Logs all in, and has each writer write his notes.
    pub async fn prepare(addr: SocketAddr) -> Self {
        let world = World { tokens: Vec::new(), accounts: Vec::new(), places: Vec::new(), notes: Vec::new() };
        let mut side = Self { addr, world: Arc::new(world) };
        side.log_in().await;
        let mut client = Client::connect(addr).await;
        let mut world = (*side.world).clone();
        for project in 0..PROJECTS {
            let call = world.call(path::WHO_AM_I, Person::Writer(project), &());
            let binding = answer::<WhoAmI>(&mut client, &call).await.bindings.pop().expect("a writer's role");
            world.places.push((binding.org_id, binding.project_id));
        }
        side.world = Arc::new(world);
        side.load(Work::Create, CONNECTIONS, STREAMS, NOTES * PROJECTS / CONNECTIONS / STREAMS).await;
        let mut world = (*side.world).clone();
        for project in 0..PROJECTS {
            let page = answer::<Page>(&mut client, &world.list(Person::Writer(project), project, true, 1_000)).await;
            assert_eq!(page.notes.len(), NOTES);
            let (published, own): (Vec<_>, Vec<_>) = page.notes.into_iter().partition(|note| note.published);
            world
                .notes
                .push(own.into_iter().zip(published).flat_map(|(own, published)| [own.id, published.id]).collect());
        }
        side.world = Arc::new(world);
        side
    }

    /// Logs all in anew: a measurement lasts longer than an access token.
    pub async fn log_in(&mut self) {
        let mut client = Client::connect(self.addr).await;
        let mut world = (*self.world).clone();
        (world.tokens, world.accounts) = (Vec::new(), Vec::new());
        for person in Person::all() {
            let pair = answer::<TokenPair>(&mut client, &login(person)).await;
            world.tokens.push(pair.access_token);
            world.accounts.push(pair.account_id);
        }
        self.world = Arc::new(world);
    }

    /// Makes calls of one kind and returns the milliseconds that each took.
    pub async fn load(&self, work: Work, connections: usize, streams: usize, each: usize) -> Vec<f64> {
        let world = self.world.clone();
        load(self.addr, connections, streams, each, move |stream, n| world.work(work, stream, n)).await
    }

    /// Asks what decides whether the two do the same work. They differ in how they name a refusal, and in nothing else.
    pub async fn prove(&self) {
        let mut client = Client::connect(self.addr).await;
        let world = &self.world;
        let (writer, guest, admin) = (Person::Writer(0), Person::Guest(0), Person::Admin(0));
        let (hidden, published) = (&world.notes[0][0], &world.notes[0][1]);
        let get = |person, id: &String| world.call(path::GET_NOTE, person, &GetNote { id: id.clone() });

        let own = answer::<Note>(&mut client, &get(writer, hidden)).await;
        assert!(!own.draft.is_empty() && own.author_id == world.accounts[writer.index()], "an author reads his draft");
        let seen = answer::<Note>(&mut client, &get(guest, published)).await;
        assert!(seen.published && seen.draft.is_empty(), "what is published is read without its draft");
        refused(&mut client, &get(guest, hidden), &[404]).await;
        refused(&mut client, &get(Person::Writer(PROJECTS_PER_ORG), published), &[404]).await;
        refused(&mut client, &Call { token: String::new(), ..get(writer, hidden) }, &[401]).await;

        let page = answer::<Page>(&mut client, &world.list(writer, 0, true, PAGE)).await;
        assert!(page.notes.len() == 50 && !page.next_page_token.is_empty(), "a page of the project");
        let page = answer::<Page>(&mut client, &world.list(guest, 0, false, PAGE)).await;
        assert!(page.notes.len() == 50 && page.notes.iter().all(|note| note.published), "a page of what is published");

        refused(&mut client, &world.create(writer, 1, "In a project of others"), &[403, 404]).await;
        refused(&mut client, &world.create(writer, 0, ""), &[400]).await;
        refused(&mut client, &world.assign(writer, 0, USER), &[403, 404]).await;
        for _ in 0..2 {
            answer::<()>(&mut client, &world.assign(admin, 0, USER)).await;
            answer::<Note>(&mut client, &get(guest, hidden)).await;
            answer::<()>(&mut client, &world.assign(admin, 0, GUEST)).await;
            refused(&mut client, &get(guest, hidden), &[404]).await;
        }
    }
}

impl World {
    /// The call that a stream of a load makes as its `n`-th. Each has a project of its own.
    fn work(&self, work: Work, stream: usize, n: usize) -> Call {
        let project = stream % PROJECTS;
        match work {
            Work::Get => {
                let id = self.notes[project][n * 7 % NOTES].clone();
                self.call(path::GET_NOTE, Person::Writer(project), &GetNote { id })
            }
            Work::ListProject => self.list(Person::Writer(project), project, true, PAGE),
            Work::ListOrg => self.list(Person::Guest(project), project, false, PAGE),
            Work::Create => {
                self.create(Person::Writer(project), project, &format!("Note {n} on the lamps of the harbour"))
            }
            Work::AssignRole => {
                // An even number of calls leaves a guest a guest.
                let role = if n % 2 == 0 { USER } else { GUEST };
                self.assign(Person::Admin(project / PROJECTS_PER_ORG), project, role)
            }
            Work::Login => login(Person::all().nth((stream * 2 + n) % (PROJECTS * 2)).expect("somebody")),
        }
    }

    fn create(&self, caller: Person, project: usize, title: &str) -> Call {
        let (org_id, project_id) = self.places[project].clone();
        let published = title.bytes().filter(u8::is_ascii_digit).next_back().is_some_and(|digit| digit % 2 == 1);
        let (title, draft) = (title.to_owned(), "What nobody but the author reads, a line or so of it.".to_owned());
        let note = Note { org_id, project_id, title, published, draft, ..Note::default() };
        self.call(path::CREATE_NOTE, caller, &CreateNote { note: Some(note) })
    }

    fn list(&self, caller: Person, project: usize, of_project: bool, page_size: i32) -> Call {
        let (org_id, project_id) = self.places[project].clone();
        let project_id = if of_project { project_id } else { String::new() };
        self.call(path::LIST_NOTES, caller, &ListNotes { org_id, project_id, page_size, ..ListNotes::default() })
    }

    fn assign(&self, caller: Person, project: usize, role: i32) -> Call {
        let (org_id, project_id) = self.places[project].clone();
        let account_id = self.accounts[Person::Guest(project).index()].clone();
        self.call(path::ASSIGN_ROLE, caller, &AssignRole { org_id, project_id, account_id, role })
    }

    fn call(&self, path: &'static str, caller: Person, message: &impl Message) -> Call {
        Call { path, token: self.tokens[caller.index()].clone(), body: message.encode_to_vec().into() }
    }
}

fn login(person: Person) -> Call {
    let message = Login { email: person.email(), password: PASSWORD.to_owned(), device_name: "a laptop".to_owned() };
    Call { path: path::LOGIN, token: String::new(), body: message.encode_to_vec().into() }
}

async fn answer<M: Message + Default>(client: &mut Client, call: &Call) -> M {
    let (status, answer) = client.call(call).await;
    assert_eq!(status, 200, "{}: {}", call.path, shown(&answer));
    M::decode(answer).expect("the answer's message")
}

async fn refused(client: &mut Client, call: &Call, with: &[u16]) {
    let (status, answer) = client.call(call).await;
    assert!(with.contains(&status), "{}: {status} instead of {with:?}: {}", call.path, shown(&answer));
}

fn shown(answer: &Bytes) -> String {
    String::from_utf8_lossy(answer).into_owned()
}
