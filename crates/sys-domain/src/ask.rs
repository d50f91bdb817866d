//! A small stub resolver: asks one resolver one question, over UDP, and over TCP where the answer does not fit.
//!
//! What comes back is read by a bounded parser of our own, which takes the records of the asked name and type and nothing else. It
//! believes the resolver, which the operator chose: no decision that lets somebody in stands on what it says. What must never
//! happen here: more work or memory for an answer than its octets are worth.

use std::{io, net::SocketAddr, time::Duration};
use sys_dns::zone::{Data, Kind, Name};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How long one try may take, and how many there are.
const PATIENCE: Duration = Duration::from_secs(3);
const TRIES: u32 = 2;
/// Octets of an answer over UDP that we ask for (RFC 9715), and over TCP.
const UDP_BYTES: u16 = 1_232;
const TCP_BYTES: usize = 16 << 10;
/// Records of an answer that are looked at.
const MAX_RECORDS: u16 = 200;
/// Pointers of one name: more than labels fit into it.
const MAX_POINTERS: usize = 128;

/// What a resolver says of a name and type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Said {
    /// The records of that name and type.
    pub(crate) records: Vec<Data>,
    /// How long they may be kept, in seconds: the shortest of them.
    pub(crate) ttl_s: u32,
}

/// Why nothing is known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It could not be reached.
    #[error("the resolver cannot be reached")]
    Reach(#[from] io::Error),
    /// Nothing came.
    #[error("the resolver does not answer")]
    Silent,
    /// It says that it could not find out: a name server does not answer, or signatures are wrong.
    #[error(
        "the resolver could not find out (its code is {0}): the name servers of the domain do not answer it, or what they say does not validate"
    )]
    Failed(u8),
    /// What came is no answer.
    #[error("the resolver's answer cannot be read")]
    Unreadable,
}

/// Asks a resolver. No such name, and no records of it, are no records.
pub(crate) async fn ask(resolver: SocketAddr, id: u16, name: &Name, kind: Kind) -> Result<Said, AskError> {
    let question = question(id, name, kind);
    let mut result = Err(AskError::Silent);
    for _ in 0..TRIES {
        result = match timeout(PATIENCE, by_udp(resolver, &question)).await {
            Ok(answer) => answer,
            Err(_) => Err(AskError::Silent),
        };
        if result.is_ok() {
            break;
        }
    }
    let mut message = result?;
    if message.get(2).is_some_and(|flags| flags & 2 != 0) {
        message = timeout(PATIENCE, by_tcp(resolver, &question)).await.map_err(|_| AskError::Silent)??;
    }
    read(&message, id, name, kind)
}

async fn by_udp(resolver: SocketAddr, question: &[u8]) -> Result<Vec<u8>, AskError> {
    let here = if resolver.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(here).await?;
    // Connected: what comes from elsewhere is not seen.
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; usize::from(UDP_BYTES)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let message = buffer.get(..length).unwrap_or_default();
        if message.get(..2) == question.get(..2) {
            return Ok(message.to_vec());
        }
    }
}

async fn by_tcp(resolver: SocketAddr, question: &[u8]) -> Result<Vec<u8>, AskError> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(question.len()).map_err(|_| AskError::Unreadable)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    if length > TCP_BYTES {
        return Err(AskError::Unreadable);
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// One question, recursion desired, with EDNS (RFC 6891).
fn question(id: u16, name: &Name, kind: Kind) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    message.extend_from_slice(name.wire());
    message.extend(kind.number().to_be_bytes());
    message.extend([0, 1]);
    message.extend([0, 0, 41]);
    message.extend(UDP_BYTES.to_be_bytes());
    message.extend([0; 6]);
    message
}

/// The records of this name and type in an answer.
pub(crate) fn read(message: &[u8], id: u16, name: &Name, kind: Kind) -> Result<Said, AskError> {
    let mut reader = Reader { message, at: 0 };
    reader.answer(id, name, kind).ok_or(AskError::Unreadable)?
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn answer(&mut self, id: u16, name: &Name, kind: Kind) -> Option<Result<Said, AskError>> {
        if self.number()? != id {
            return None;
        }
        let flags = self.number()?;
        let (questions, answers) = (self.number()?, self.number()?);
        self.skip(4)?;
        let is_answer = flags & 0x8000 != 0;
        if !is_answer || questions != 1 || answers > MAX_RECORDS {
            return None;
        }
        let asked = self.name()?;
        if asked != *name || self.number()? != kind.number() || self.number()? != 1 {
            return None;
        }
        match u8::try_from(flags & 15).ok()? {
            0 => {}
            3 => return Some(Ok(Said::default())),
            code => return Some(Err(AskError::Failed(code))),
        }
        let mut said = Said { records: Vec::new(), ttl_s: u32::MAX };
        for _ in 0..answers {
            let owner = self.name()?;
            let (number, class) = (self.number()?, self.number()?);
            let ttl_s = (u32::from(self.number()?) << 16) | u32::from(self.number()?);
            let length = usize::from(self.number()?);
            let end = self.at.checked_add(length).filter(|end| *end <= self.message.len())?;
            if owner == *name && number == kind.number() && class == 1 {
                said.records.extend(self.data(kind, end));
                said.ttl_s = said.ttl_s.min(ttl_s);
            }
            self.at = end;
        }
        if said.records.is_empty() {
            said.ttl_s = 0;
        }
        Some(Ok(said))
    }

    /// The data of a record that is asked for here; nothing of one that cannot be read.
    fn data(&mut self, kind: Kind, end: usize) -> Option<Data> {
        match kind {
            Kind::Ns => self.name().filter(|_| self.at == end).map(Data::Ns),
            Kind::A => <[u8; 4]>::try_from(self.message.get(self.at..end)?).ok().map(|octets| Data::A(octets.into())),
            Kind::Aaaa => {
                <[u8; 16]>::try_from(self.message.get(self.at..end)?).ok().map(|octets| Data::Aaaa(octets.into()))
            }
            Kind::Ds => {
                let (key_tag, [algorithm, digest_type]) = (self.number()?, self.number()?.to_be_bytes());
                let digest = self.message.get(self.at..end)?.to_vec();
                Some(Data::Ds { key_tag, algorithm, digest_type, digest })
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u16> {
        let (number, _) = self.message.get(self.at..)?.split_first_chunk::<2>()?;
        self.at = self.at.checked_add(2)?;
        Some(u16::from_be_bytes(*number))
    }

    fn skip(&mut self, octets: usize) -> Option<()> {
        self.at = self.at.checked_add(octets).filter(|at| *at <= self.message.len())?;
        Some(())
    }

    /// A name, which may go on elsewhere (RFC 1035 section 4.1.4).
    fn name(&mut self) -> Option<Name> {
        let (mut wire, mut at, mut behind) = (Vec::new(), self.at, None);
        for _ in 0..MAX_POINTERS {
            let length = *self.message.get(at)?;
            match length {
                0 => {
                    wire.push(0);
                    self.at = behind.unwrap_or(at.checked_add(1)?);
                    return Name::from_wire(&wire);
                }
                1..=63 => {
                    let end = at.checked_add(1)?.checked_add(usize::from(length))?;
                    wire.extend_from_slice(self.message.get(at..end)?);
                    at = end;
                }
                192.. => {
                    let next = at.checked_add(1)?;
                    let target = (usize::from(length & 63) << 8) | usize::from(*self.message.get(next)?);
                    behind = behind.or(next.checked_add(1));
                    // Only backwards, so that it ends.
                    at = Some(target).filter(|target| *target < at)?;
                }
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// An answer with these records behind the question: owner as a pointer to it, data as it stands.
    fn answer(flags: u16, kind: Kind, records: &[(u16, u32, Vec<u8>)]) -> Vec<u8> {
        let mut message = question(7, &name("example.org"), kind);
        message.truncate(message.len() - 11);
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        message[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
        message[10..12].copy_from_slice(&[0, 0]);
        for (kind, ttl_s, data) in records {
            message.extend([0xc0, 12]);
            message.extend(kind.to_be_bytes());
            message.extend([0, 1]);
            message.extend(ttl_s.to_be_bytes());
            message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            message.extend(data);
        }
        message
    }

    fn said(message: &[u8], kind: Kind) -> Result<Said, AskError> {
        read(message, 7, &name("example.org"), kind)
    }

    #[test]
    fn the_records_that_were_asked_for_are_read() {
        let server = [&b"\x03ns1"[..], &[0xc0, 12]].concat();
        let other = name("ns.example.com").wire().to_vec();
        let message = answer(0x8180, Kind::Ns, &[(2, 300, server), (2, 60, other), (46, 5, vec![1, 2, 3])]);
        let expect = [Data::Ns(name("ns1.example.org")), Data::Ns(name("ns.example.com"))];
        assert_eq!(said(&message, Kind::Ns).unwrap(), Said { records: expect.to_vec(), ttl_s: 60 });
        let ds = [&[0x12, 0x34, 13, 2][..], &[9; 32]].concat();
        let expect = Data::Ds { key_tag: 0x1234, algorithm: 13, digest_type: 2, digest: vec![9; 32] };
        assert_eq!(said(&answer(0x8180, Kind::Ds, &[(43, 1, ds)]), Kind::Ds).unwrap().records, [expect]);
    }

    #[test]
    fn no_such_name_is_no_records_and_a_failure_is_none() {
        assert_eq!(said(&answer(0x8183, Kind::Ds, &[]), Kind::Ds).unwrap(), Said::default());
        assert_eq!(said(&answer(0x8180, Kind::Ds, &[]), Kind::Ds).unwrap(), Said::default());
        assert!(matches!(said(&answer(0x8182, Kind::Ds, &[]), Kind::Ds), Err(AskError::Failed(2))));
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_refused() {
        let good = answer(0x8180, Kind::A, &[(1, 5, vec![192, 0, 2, 1])]);
        assert_eq!(said(&good, Kind::A).unwrap().records.len(), 1);
        let asked_else = |change: fn(&mut Vec<u8>)| {
            let mut message = good.clone();
            change(&mut message);
            said(&message, Kind::A).is_err()
        };
        assert!(asked_else(|message| message[1] = 8), "another id");
        assert!(asked_else(|message| message[2] = 1), "a question");
        assert!(asked_else(|message| message[13] = b'x'), "another name");
        assert!(asked_else(|message| message.truncate(40)), "cut off");
        assert!(asked_else(|message| message[30] = 200), "a name that points forward");
        assert!(said(&good, Kind::Ns).is_err(), "another type");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..60_usize, byte: u8) {
            let _ = said(&bytes, Kind::Ns);
            let server = [&b"\x03ns1"[..], &[0xc0, 12]].concat();
            let mut message = answer(0x8180, Kind::Ns, &[(2, 300, server)]);
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
            let _ = said(&message, Kind::Ns);
        }
    }
}
