//! A server as a process of its own, as an operator runs it.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a test waits for a state before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sys-server"));
    // What the developer has set must not change what is tested.
    command.env_remove("SYS_LOG").env_remove("SYS_LOG_FORMAT").env_remove("SYS_SMTP");
    command
}

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A running server with the notes module, over a directory of its own.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) metrics: SocketAddr,
    /// Empty where there is a superadmin.
    pub(crate) setup_token: String,
    pub(crate) dir: TempDir,
    child: Child,
}

impl Server {
    /// Starts one with these arguments besides the usual ones, and waits until it is ready.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    /// Starts one over what an earlier one left.
    pub(crate) fn start_in(dir: TempDir, arguments: &[&str]) -> Self {
        Self::start_as(program(), dir, arguments)
    }

    /// Starts one as this command line begins it.
    pub(crate) fn start_as(mut command: Command, dir: TempDir, arguments: &[&str]) -> Self {
        let data = dir.path().join("data");
        command.arg("run").arg("--data-dir").arg(&data).arg("--danger-key-file").arg(data.join("danger-master.key"));
        command.arg("--module").arg(workspace().join("modules/mod-notes"));
        command.args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]).args(arguments);
        command.stdout(Stdio::piped()).stderr(File::create(dir.path().join("log")).unwrap());
        let mut child = command.spawn().unwrap();
        let said = said_at_start(&mut child, &dir.path().join("log"));
        let after = |word: &str| {
            let found = said.iter().find_map(|line| line.split_once(word)).map(|(_, behind)| behind);
            found.and_then(|behind| behind.split([' ', '/']).next()).unwrap_or_default().to_owned()
        };
        let addr = after("ready http://").parse().unwrap();
        let metrics = after("metrics http://").parse().unwrap();
        Self { addr, metrics, setup_token: after("this token: "), dir, child }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Calls a method; the status and the body of the answer.
    pub(crate) fn call(&self, path: &str, token: Option<&str>, json: &str) -> (u16, String) {
        let mut begun = Begun::call(self.addr, path, token, json.len());
        begun.send(json);
        begun.answer()
    }

    /// The metrics now.
    pub(crate) fn metrics(&self) -> String {
        let (status, body) = get(self.metrics, "/metrics", "127.0.0.1");
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Its number among the processes.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, as a service manager does.
    pub(crate) fn terminate(&self) {
        terminate(&self.child);
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(mut self) -> (ExitStatus, TempDir) {
        let status = eventually("the end of the server", || self.child.try_wait().unwrap());
        // The directory outlives the process, which is gone: there is nothing left to kill.
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        (status, dir)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that fails leaves no process behind. One that has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks a process to stop.
pub(crate) fn terminate(child: &Child) {
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
}

/// The lines up to the one that says that it is ready.
pub(crate) fn said_at_start(child: &mut Child, log: &Path) -> Vec<String> {
    let (tell, told) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| line.starts_with("ready ")) {
        let log = || fs::read_to_string(log).unwrap_or_default();
        said.push(told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it is not ready: {said:?}\n{}", log())));
    }
    said
}

/// A request of which the head has been sent.
pub(crate) struct Begun(TcpStream);

impl Begun {
    /// Sends the head of a call whose body will have so many bytes.
    pub(crate) fn call(addr: SocketAddr, path: &str, token: Option<&str>, length: usize) -> Self {
        Self::call_with(addr, path, token, "", length)
    }

    /// The same, with these lines in the head.
    pub(crate) fn call_with(addr: SocketAddr, path: &str, token: Option<&str>, lines: &str, length: usize) -> Self {
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "POST /{path} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\nconnection: close\r\n\
             {token}{lines}content-length: {length}\r\n\r\n"
        )
        .unwrap();
        Self(stream)
    }

    /// Sends a piece of the body.
    pub(crate) fn send(&mut self, body: &str) {
        self.0.write_all(body.as_bytes()).unwrap();
    }

    /// Reads the answer to the end of the connection.
    pub(crate) fn answer(mut self) -> (u16, String) {
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
        let body = match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            true => unchunked(body),
            false => body.to_owned(),
        };
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }
}

/// The pieces of a body, put together (RFC 9112 section 7.1). One that was cut off ends where it was.
fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, behind)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(behind.get(..length).unwrap_or(behind));
        body = behind.get(length + 2..).unwrap_or_default();
    }
    whole
}

/// Reads a page.
pub(crate) fn get(addr: SocketAddr, path: &str, host: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    Begun(stream).answer()
}

/// Waits until `look` finds something, for a bounded time.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not come within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
