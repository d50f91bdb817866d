//! Tells systemd how we are (sd_notify(3)), where it wants to hear it.

use rustix::time::{ClockId, clock_gettime};
use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// What there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Whoever connects is answered: after the start, and after a reload.
    Ready,
    /// The configuration is read anew. [`State::Ready`] follows.
    Reloading,
    /// What is under way is brought to its end.
    Stopping,
}

/// Tells it, if somebody listens; where nobody does there is nothing to tell.
pub fn notify(state: State) -> io::Result<()> {
    match env::var_os("NOTIFY_SOCKET") {
        Some(socket) if !socket.is_empty() => send(&socket, state),
        _ => Ok(()),
    }
}

fn send(socket: &OsStr, state: State) -> io::Result<()> {
    let text = text(state, monotonic_us());
    // `@` stands for the zero byte of an abstract name.
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
}

/// A reload names its moment, so that systemd can tell it from an earlier one.
fn text(state: State, monotonic_us: i128) -> String {
    match state {
        State::Ready => "READY=1\n".to_owned(),
        State::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={monotonic_us}\n"),
        State::Stopping => "STOPPING=1\n".to_owned(),
    }
}

fn monotonic_us() -> i128 {
    let now = clock_gettime(ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    fn heard(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn whoever_started_us_hears_how_we_are() {
        let unique = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let name = format!("sys-edge-notify-{}-{unique}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), State::Ready).unwrap();
        assert_eq!(heard(&by_name), "READY=1\n");
        let path = env::temp_dir().join(&name);
        let by_path = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), State::Stopping).unwrap();
        assert_eq!(heard(&by_path), "STOPPING=1\n");
        send(path.as_os_str(), State::Reloading).unwrap();
        let reloading = heard(&by_path);
        let moment = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("both lines");
        assert!(moment.trim_end().parse::<u64>().unwrap() > 0, "{reloading}");
        std::fs::remove_file(&path).unwrap();
        assert!(send(path.as_os_str(), State::Ready).is_err(), "nobody is there");
    }
}
