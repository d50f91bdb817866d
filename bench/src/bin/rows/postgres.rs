//! PostgreSQL 15 for one measurement: a cluster of its own in a directory of its own, reached through a UNIX socket.

use crate::{
    peer,
    people::{ORGS, PASSWORD, PROJECTS, PROJECTS_PER_ORG, Person},
};
use anyhow::{Context, Result, ensure};
use std::{
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use sys_bench::process::{SERVER_CORE, pinned};
use tokio_postgres::NoTls;
use uuid::Uuid;

/// Where Debian's package puts the programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// Who owns the cluster where this runs as root, which PostgreSQL refuses to be.
const USER: &str = "postgres";
/// Who owns the tables.
const OWNER: &str = "owner";
/// The database.
pub const DATABASE: &str = "postgres";
const SCHEMA: &str = include_str!("schema.sql");
/// How long it may take to listen.
const START: Duration = Duration::from_secs(30);
/// What differs from the defaults. Durability is as it comes: fsync, full_page_writes and synchronous_commit are on.
const SETTINGS: [&str; 12] = [
    // Said all the same, so that it is seen here.
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    // All in memory, no checkpoint while it is measured, no compiler for statements of a millisecond.
    "shared_buffers=1GB",
    "effective_cache_size=4GB",
    "checkpoint_timeout=1h",
    "max_wal_size=8GB",
    "wal_buffers=64MB",
    "random_page_cost=1.1",
    "jit=off",
    "max_connections=64",
    // The UNIX socket alone, which costs less than TCP.
    "listen_addresses=",
];

/// A cluster that runs until it is dropped.
pub struct Postgres {
    server: Child,
    /// Where the socket is, and below it the data.
    pub dir: PathBuf,
}

impl Postgres {
    /// Makes a cluster in this empty directory, starts it on the servers' core, and brings in the schema and the people.
    pub async fn start(dir: &Path) -> Result<Self> {
        let dir = dir.canonicalize()?;
        ensure!(Path::new(PROGRAMS).is_dir(), "{PROGRAMS} is missing: install Debian's postgresql-15");
        if as_other() {
            chown(&dir, Some(id(&["-u", USER])?), Some(id(&["-g", USER])?)).context("giving the directory away")?;
        }
        let mut initdb = run_as_user(Command::new("env"), "initdb");
        initdb.arg("--pgdata").arg(dir.join("data")).args(["--username", OWNER, "--auth=trust"]);
        let made = initdb.args(["--encoding=UTF8", "--locale=C"]).current_dir(&dir).stdout(Stdio::null()).status()?;
        ensure!(made.success(), "initdb fails: {made}");
        let mut server = run_as_user(pinned(SERVER_CORE), "postgres");
        server.arg("-D").arg(dir.join("data")).arg("-k").arg(&dir);
        for setting in SETTINGS {
            server.args(["-c", setting]);
        }
        let log = std::fs::File::create(dir.join("server.log"))?;
        let server = server.current_dir(&dir).stdout(log.try_clone()?).stderr(log).spawn()?;
        let postgres = Self { server, dir };
        postgres.fill().await?;
        Ok(postgres)
    }

    /// The process that all others of the cluster are children of.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Tables of which much has just been written get their statistics, as the daemon would see to within a minute.
    pub async fn analyze(&self) -> Result<()> {
        Ok(self.connect().await?.batch_execute("VACUUM ANALYZE").await?)
    }

    async fn connect(&self) -> Result<tokio_postgres::Client> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.dir).user(OWNER).dbname(DATABASE);
        let begun = Instant::now();
        loop {
            match config.connect(NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return Ok(client);
                }
                Err(error) if begun.elapsed() > START => return Err(error).context("PostgreSQL does not listen"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn fill(&self) -> Result<()> {
        let client = self.connect().await?;
        client.batch_execute(SCHEMA).await?;
        let orgs: Vec<_> = (0..ORGS).map(|_| Uuid::now_v7()).collect();
        let projects: Vec<_> = (0..PROJECTS).map(|_| Uuid::now_v7()).collect();
        for (n, org) in orgs.iter().enumerate() {
            client.execute("INSERT INTO org VALUES ($1, $2)", &[org, &format!("Org {n}")]).await?;
        }
        for (n, project) in projects.iter().enumerate() {
            let row = "INSERT INTO project VALUES ($1, $2, $3)";
            client.execute(row, &[project, &orgs[n / PROJECTS_PER_ORG], &format!("Project {n}")]).await?;
        }
        let password = peer::hash(PASSWORD)?;
        for person in Person::all() {
            let (account, email) = (Uuid::now_v7(), person.email());
            let row = "INSERT INTO account VALUES ($1, $2, $3, $2, true)";
            client.execute(row, &[&account, &email, &password]).await?;
            let (project, role) = person.holds();
            let project = project.map(|n| projects[n]);
            let row = "INSERT INTO member VALUES ($1, $2, $3, $4)";
            client.execute(row, &[&account, &orgs[person.org()], &project, &role]).await?;
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // What it wrote goes with the directory.
        let mut stop = run_as_user(Command::new("env"), "pg_ctl");
        let stop = stop.arg("--pgdata").arg(self.dir.join("data")).args(["stop", "--mode=immediate", "--silent"]);
        let _ = stop.current_dir(&self.dir).status();
        let _ = self.server.wait();
    }
}

/// One of PostgreSQL's programs behind `command`, as a user whom it accepts.
fn run_as_user(mut command: Command, program: &str) -> Command {
    if as_other() {
        command.args(["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"]);
    }
    command.arg(Path::new(PROGRAMS).join(program));
    command
}

/// Whether this runs as root.
fn as_other() -> bool {
    id(&["-u"]).is_ok_and(|id| id == 0)
}

fn id(args: &[&str]) -> Result<u32> {
    let output = Command::new("id").args(args).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
