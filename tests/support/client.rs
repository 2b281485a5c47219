//! A blocking RESP client that shares no code with the crate under test.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What a server said, RESP2 or RESP3, with every type kept apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(String),
    /// `$-1`, `*-1` and `_`.
    Null,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Push(Vec<Reply>),
    Verbatim(String),
    /// Anything else: its type byte and line.
    Other(String),
}

impl Reply {
    /// The text of a simple string, bulk, verbatim string or error; other types print themselves.
    pub fn text(&self) -> String {
        match self {
            Reply::Simple(t) | Reply::Error(t) | Reply::Bulk(t) | Reply::Verbatim(t) => t.clone(),
            other => other.to_string(),
        }
    }

    /// The elements of an array or push; of anything else none.
    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Array(items) | Reply::Push(items) => items,
            _ => &[],
        }
    }

    /// Name and value of a map or of a flat array of pairs, in the order sent.
    pub fn pairs(&self) -> Vec<(String, String)> {
        match self {
            Reply::Map(pairs) => pairs.iter().map(|(k, v)| (k.text(), v.text())).collect(),
            other => {
                let pair = |p: &[Reply]| (p[0].text(), p[1].text());
                other.items().chunks_exact(2).map(pair).collect()
            }
        }
    }

    /// The value of one field of an entry as `SENTINEL MASTER` sends it.
    pub fn field(&self, name: &str) -> Option<String> {
        self.pairs().into_iter().find(|(k, _)| k == name).map(|(_, v)| v)
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Simple(t) => write!(f, "+{t}"),
            Reply::Error(t) => write!(f, "-{t}"),
            Reply::Integer(n) => write!(f, ":{n}"),
            Reply::Bulk(t) => write!(f, "{t:?}"),
            Reply::Null => f.write_str("null"),
            Reply::Verbatim(t) => write!(f, "={t:?}"),
            Reply::Other(t) => f.write_str(t),
            Reply::Array(items) => f.debug_list().entries(items).finish(),
            Reply::Push(items) => write!(f, ">{items:?}"),
            Reply::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(k, v)| (k, v))).finish(),
        }
    }
}

/// One connection. A reply that does not come within the timeout is an error.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects to a loopback port; replies may take 2 s.
    pub fn connect(port: u16) -> io::Result<Client> {
        Client::connect_with(port, Duration::from_secs(2))
    }

    /// Connects to a loopback port; connection and each reply may take `timeout`.
    pub fn connect_with(port: u16, timeout: Duration) -> io::Result<Client> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Sends a command and takes the next reply.
    pub fn call<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<Reply> {
        self.send(words)?;
        self.receive()
    }

    /// Sends a command.
    pub fn send<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<()> {
        let mut frame = format!("*{}\r\n", words.len()).into_bytes();
        for word in words.iter().map(AsRef::as_ref) {
            frame.extend(format!("${}\r\n", word.len()).bytes());
            frame.extend([word, b"\r\n"].concat());
        }
        self.send_raw(&frame)
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Whether something arrives within `wait`; the end of the connection is an error.
    pub fn is_readable(&mut self, wait: Duration) -> io::Result<bool> {
        let usual = self.stream.get_ref().read_timeout()?;
        self.stream.get_ref().set_read_timeout(Some(wait))?;
        let look = self.stream.fill_buf().map(|bytes| bytes.len());
        self.stream.get_ref().set_read_timeout(usual)?;
        match look {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Takes the next reply.
    pub fn receive(&mut self) -> io::Result<Reply> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\r\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
        let (kind, rest) = line.split_at(line.chars().next().map_or(0, char::len_utf8));
        let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("no RESP: {line:?}"));
        let number = || rest.parse::<i64>().map_err(|_| bad());
        Ok(match kind {
            "+" => Reply::Simple(rest.into()),
            "-" => Reply::Error(rest.into()),
            ":" => Reply::Integer(number()?),
            "_" => Reply::Null,
            "$" | "=" | "*" | ">" | "~" if number()? < 0 => Reply::Null,
            "$" => Reply::Bulk(self.blob(number()? as usize)?),
            "=" => Reply::Verbatim(self.blob(number()? as usize)?),
            "*" | "~" => Reply::Array(self.many(number()? as usize)?),
            ">" => Reply::Push(self.many(number()? as usize)?),
            "%" => {
                let flat = self.many(2 * number()? as usize)?;
                let mut flat = flat.into_iter();
                let mut pairs = Vec::new();
                while let (Some(key), Some(value)) = (flat.next(), flat.next()) {
                    pairs.push((key, value));
                }
                Reply::Map(pairs)
            }
            "#" | "," | "(" => Reply::Other(line),
            _ => return Err(bad()),
        })
    }

    fn blob(&mut self, length: usize) -> io::Result<String> {
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    fn many(&mut self, count: usize) -> io::Result<Vec<Reply>> {
        (0..count).map(|_| self.receive()).collect()
    }
}

/// One command on a connection of its own; `None` if the server cannot be reached in time.
pub fn ask(port: u16, words: &[&str]) -> Option<Reply> {
    Client::connect(port).ok()?.call(words).ok()
}
