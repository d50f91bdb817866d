//! The world of the measurement: orgs of very different sizes with their projects, accounts and notes. All of it follows from
//! numbers, so that any part of it is known without being kept.

use std::io::{self, Read};
use sys_contract::id::{AccountId, OrgId, OrgTag, ProjectId, RecordId};

/// Notes of one project. Whoever writes many notes has many projects.
pub const NOTES_PER_PROJECT: u64 = 500;
/// When everything was made, in Unix milliseconds.
const BEGAN_MS: u64 = 1_700_000_000_000;
/// How fast sizes fall: org number n has a share of (n + 1)^-0.7 of all.
const SKEW: f64 = 0.7;
const WORDS: u64 = 4_096;
const SYLLABLES: [&str; 16] =
    ["ba", "ke", "lo", "mi", "nu", "ra", "se", "to", "vi", "zu", "da", "fe", "go", "hi", "ju", "pa"];

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub orgs: u64,
    pub accounts: u64,
    pub records: u64,
}

/// A world of some size.
#[derive(Debug)]
pub struct World {
    pub size: Size,
    /// For each org, the first of its accounts and of its notes; one more at the end.
    accounts: Vec<u64>,
    notes: Vec<u64>,
}

impl World {
    pub fn new(size: Size) -> Self {
        let weights: Vec<f64> = (0..size.orgs).map(|n| ((n + 1) as f64).powf(-SKEW)).collect();
        let total: f64 = weights.iter().sum();
        // Each org has one of everything, and its share of the rest.
        let shares = |count: u64| {
            let rest = count.saturating_sub(size.orgs) as f64;
            let mut sum = 0.0;
            let mut firsts = vec![0];
            for (n, weight) in weights.iter().enumerate() {
                sum += weight / total;
                firsts.push(n as u64 + 1 + (sum * rest) as u64);
            }
            firsts
        };
        Self { size, accounts: shares(size.accounts), notes: shares(size.records) }
    }

    pub fn notes_of(&self, org: u64) -> u64 {
        self.notes[org as usize + 1] - self.notes[org as usize]
    }

    pub fn accounts_of(&self, org: u64) -> u64 {
        self.accounts[org as usize + 1] - self.accounts[org as usize]
    }

    pub fn projects_of(&self, org: u64) -> u64 {
        self.notes_of(org).div_ceil(NOTES_PER_PROJECT)
    }

    pub fn org(&self, org: u64) -> OrgId {
        OrgId::from_record(RecordId::new(OrgTag::GLOBAL, BEGAN_MS + org, random(1, org, 0)))
    }

    pub fn project(&self, org: u64, n: u64) -> ProjectId {
        ProjectId::from_record(RecordId::new(OrgTag::GLOBAL, BEGAN_MS + org, random(2, org, n)))
    }

    /// The nth account of an org. The first is its admin, the others write in one project each.
    pub fn account(&self, org: u64, n: u64) -> AccountId {
        let number = self.accounts[org as usize] + n;
        AccountId::from_record(RecordId::new(OrgTag::GLOBAL, BEGAN_MS + number, random(3, org, n)))
    }

    pub fn email(&self, org: u64, n: u64) -> String {
        format!("{}.{org}.{n}@example.org", word(mixed(4, org, n)))
    }

    pub fn name(&self, org: u64, n: u64) -> String {
        format!("{} {}", word(mixed(4, org, n)), word(mixed(7, org, n)))
    }

    pub fn note(&self, org: u64, n: u64) -> RecordId {
        let number = self.notes[org as usize] + n;
        RecordId::new(self.org(org).tag(), BEGAN_MS + number, random(5, org, n))
    }

    /// Of which project an account writes.
    pub fn project_of(&self, org: u64, account: u64) -> u64 {
        account % self.projects_of(org)
    }

    fn org_line(&self, org: u64) -> String {
        format!(r#"{{"id":"{}","name":"{} {org}"}}"#, self.org(org), word(mixed(6, org, 0)))
    }

    fn project_lines(&self, org: u64) -> Vec<String> {
        let line =
            |n| format!(r#"{{"id":"{}","orgId":"{}","name":"project {n}"}}"#, self.project(org, n), self.org(org));
        (0..self.projects_of(org)).map(line).collect()
    }

    fn account_lines(&self, org: u64) -> Vec<String> {
        let line = |n| {
            let role = match n {
                0 => format!(r#"{{"role":"ADMIN","org_id":"{}"}}"#, self.org(org)),
                n => format!(
                    r#"{{"role":"USER","org_id":"{}","project_id":"{}"}}"#,
                    self.org(org),
                    self.project(org, self.project_of(org, n))
                ),
            };
            format!(
                r#"{{"id":"{}","email":"{}","display_name":"{}","managed_by_org_id":"{}","roles":[{role}]}}"#,
                self.account(org, n),
                self.email(org, n),
                self.name(org, n),
                self.org(org),
            )
        };
        (0..self.accounts_of(org)).map(line).collect()
    }

    fn note_lines(&self, org: u64) -> Vec<String> {
        let line = |n| {
            let number = mixed(8, org, n);
            format!(
                r#"{{"id":"{}","orgId":"{}","projectId":"{}","authorId":"{}","title":"{} {}","published":{}}}"#,
                self.note(org, n).text("note"),
                self.org(org),
                self.project(org, n / NOTES_PER_PROJECT),
                self.account(org, number % self.accounts_of(org)),
                word(number),
                word(number >> 20),
                number % 2 == 0,
            )
        };
        (0..self.notes_of(org)).map(line).collect()
    }

    /// What is imported, in the order of what depends on what: the kind, how many lines, and the lines.
    pub fn sources(self) -> Vec<(&'static str, Lines)> {
        let world = std::sync::Arc::new(self);
        let kinds: [(&'static str, fn(&Self, u64) -> Vec<String>); 4] = [
            ("sys.account.v1.Org", |world, org| vec![world.org_line(org)]),
            ("sys.account.v1.Project", Self::project_lines),
            ("accounts", Self::account_lines),
            ("notes.v1.Note", Self::note_lines),
        ];
        let lines = |make| Lines { world: world.clone(), make, org: 0, buffer: Vec::new(), read: 0 };
        kinds.map(|(what, make)| (what, lines(make))).into()
    }
}

/// Lines of one kind, made as they are read.
pub struct Lines {
    world: std::sync::Arc<World>,
    make: fn(&World, u64) -> Vec<String>,
    org: u64,
    buffer: Vec<u8>,
    read: usize,
}

impl Read for Lines {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.read == self.buffer.len() && self.org < self.world.size.orgs {
            self.buffer.clear();
            self.read = 0;
            for line in (self.make)(&self.world, self.org) {
                self.buffer.extend_from_slice(line.as_bytes());
                self.buffer.push(b'\n');
            }
            self.org += 1;
        }
        let count = to.len().min(self.buffer.len() - self.read);
        to[..count].copy_from_slice(&self.buffer[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

/// A word of 6 letters; there are 4,096.
pub fn word(number: u64) -> String {
    let number = number % WORDS;
    [number >> 8, number >> 4, number].iter().map(|n| SYLLABLES[(n % 16) as usize]).collect()
}

/// A number without order (Steele, Lea and Flood's SplitMix64).
pub fn mixed(kind: u64, a: u64, b: u64) -> u64 {
    let mut z = (kind << 56) ^ (a << 28) ^ b;
    for _ in 0..2 {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
    }
    z
}

fn random(kind: u64, a: u64, b: u64) -> [u8; 10] {
    let (one, two) = (mixed(kind, a, b).to_be_bytes(), mixed(kind + 16, a, b).to_be_bytes());
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&one);
    bytes[8..].copy_from_slice(&two[..2]);
    bytes
}
