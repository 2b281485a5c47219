//! The doors beside the TCP port: TLS, the Unix socket, and protected mode at each.

use std::net::SocketAddr;

use rcgen::CertifiedKey;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::oracle::Oracle;
use super::*;
use crate::api::connection::{Knock, run};
use crate::config::transport::{AuthClients, KeyPair, TlsSettings, UnixSettings};
use crate::net::tls::Tls;
use crate::net::{Doors, Gate, Stream, listen_unix};

/// The settings of a server with this `requirepass`.
fn settings(password: Option<&str>) -> ApiSettings {
    let requirepass = password.map(Secret::new);
    let settings = SentinelSettings { requirepass, ..SentinelSettings::default() };
    let (users, _) = Users::open(&settings, UserLines::default()).expect("good users");
    ApiSettings::new(&settings, "/etc/sentinel.conf", users)
}

/// A server behind these doors that nobody's core answers.
fn behind(doors: Doors, change: impl FnOnce(&mut ApiSettings)) -> CancellationToken {
    let (handle, _asked) = Handle::new();
    let mut settings = settings(None);
    change(&mut settings);
    let stop = CancellationToken::new();
    tokio::spawn(serve(doors, handle, settings, stop.clone()));
    stop
}

/// A certificate that stands for itself.
fn tls(folder: &std::path::Path) -> Arc<Tls> {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap();
    let (cert_file, key_file) = (folder.join("crt"), folder.join("key"));
    std::fs::write(&cert_file, cert.pem()).unwrap();
    std::fs::write(&key_file, signing_key.serialize_pem()).unwrap();
    let ca_file = Some(cert_file.clone());
    let server = KeyPair { cert_file: Some(cert_file), key_file: Some(key_file), key_pass: None };
    let auth_clients = AuthClients::Optional;
    let settings =
        TlsSettings { port: 1, links: true, server, ca_file, auth_clients, ..Default::default() };
    Tls::open(&settings).unwrap()
}

async fn ask(stream: &mut Stream, line: &str) -> String {
    stream.write_all(line.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = vec![0; 4096];
    let count = within(stream.read(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

#[tokio::test]
async fn tls_carries_long_replies_and_its_end_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let tls = tls(folder.path());
    let listening = listen(&["127.0.0.1".into()], 0, TCP_BACKLOG).unwrap();
    let port = listening.port;
    let doors = Doors { tls: Some((listening, tls.clone())), ..Doors::default() };
    assert_eq!(doors.port(), port);
    let stop = behind(doors, |_| {});
    let connect = async || {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        within(tls.connect(stream)).await.unwrap()
    };
    let mut stream = connect().await;
    assert_eq!(ask(&mut stream, "PING\r\n").await, "+PONG\r\n");
    let line = ask(&mut stream, "CLIENT LIST\r\n").await;
    assert!(line.contains("addr=127.0.0.1:") && line.contains(" flags=N "), "{line}");
    // Hundreds of KB, far more than TLS or the socket keeps, and QUIT behind them.
    let many = "COMMAND DOCS\r\n".repeat(50) + "QUIT\r\n";
    stream.write_all(many.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut everything = Vec::new();
    within(stream.read_to_end(&mut everything)).await.expect("the end of TLS is said");
    assert!(everything.len() > 500_000 && everything.ends_with(b"+OK\r\n"), "{}", everything.len());

    // Who speaks in clear, or not at all, keeps nobody else waiting.
    let silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut clear = Wire::connect(port).await;
    clear.send(b"PING\r\n").await;
    let told = clear.rest().await;
    assert!(!told.contains("PONG"), "{told:?}");
    assert_eq!(ask(&mut connect().await, "PING\r\n").await, "+PONG\r\n");
    drop(silent);
    stop.cancel();
}

#[tokio::test]
async fn the_last_byte_of_a_reply_arrives_through_tls_though_the_socket_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let tls = tls(folder.path());
    let listening = listen(&["127.0.0.1".into()], 0, TCP_BACKLOG).unwrap();
    let address: SocketAddr = ([127, 0, 0, 1], listening.port).into();
    // TLS takes a whole reply at once, and the socket cannot: the rest follows without a further
    // word of the client's.
    socket2::SockRef::from(&listening.sockets[0]).set_send_buffer_size(4096).unwrap();
    let doors = Doors { tls: Some((listening, tls.clone())), ..Doors::default() };
    let stop = behind(doors, |_| {});
    let connect = async || {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = within(socket.connect(address)).await.unwrap();
        within(tls.connect(stream)).await.unwrap()
    };
    let mut stream = connect().await;
    stream.write_all(b"COMMAND DOCS\r\nQUIT\r\n").await.unwrap();
    stream.flush().await.unwrap();
    let mut one = Vec::new();
    within(stream.read_to_end(&mut one)).await.unwrap();
    let length = one.len() - b"+OK\r\n".len();

    let mut stream = connect().await;
    stream.write_all(b"COMMAND DOCS\r\n").await.unwrap();
    stream.flush().await.unwrap();
    let mut again = vec![0; length];
    within(stream.read_exact(&mut again)).await.unwrap();
    assert_eq!(again, one[..length]);
    stop.cancel();
}

#[tokio::test]
async fn the_unix_socket_is_another_way_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let settings = UnixSettings { path: Some(path.clone()), ..UnixSettings::default() };
    let unix = listen_unix(&settings, 5).unwrap();
    // Protected mode is for the network.
    let stop =
        behind(Doors { unix, ..Doors::default() }, |settings| settings.protected_mode = true);
    let mut stream = Stream::Unix(UnixStream::connect(&path).await.unwrap());
    let line = ask(&mut stream, "CLIENT LIST\r\n").await;
    let shown = path.display();
    assert!(line.contains(&format!(" addr={shown}:0 laddr={shown}:0 ")), "{line}");
    assert!(line.contains(" flags=U "), "{line}");
    let mut other = Stream::Unix(UnixStream::connect(&path).await.unwrap());
    let killed = ask(&mut other, &format!("CLIENT KILL ADDR {shown}:0 SKIPME yes\r\n")).await;
    assert_eq!(killed, ":1\r\n");
    stop.cancel();
    until("its file goes", async || !path.exists()).await;
}

/// What a server answers to somebody who comes from this address.
async fn welcome(peer: &str, password: Option<&str>) -> (String, u64) {
    let (handle, _asked) = Handle::new();
    let mut settings = settings(password);
    settings.protected_mode = true;
    let api = Arc::new(crate::api::Api {
        gate: Gate::new(10),
        users: settings.users.clone(),
        names: crate::api::table::Names::new(Default::default()),
        settings,
        port: 1,
        started: std::time::Instant::now(),
        handle,
        clients: Arc::default(),
        counters: Default::default(),
        complained_s: Default::default(),
        pause: tokio::sync::watch::Sender::new(None),
        stop: CancellationToken::new(),
    });
    let listening = listen(&["127.0.0.1".into()], 0, 1).unwrap();
    let mut wire = Wire::connect(listening.port).await;
    let (stream, _) = listening.sockets[0].accept().await.unwrap();
    let peer: SocketAddr = format!("{peer}:5").parse().unwrap();
    let permit = Gate::new(1).admit().unwrap();
    tokio::spawn(run(api.clone(), Knock::Tcp(stream, peer), permit));
    wire.send(b"PING\r\nQUIT\r\n").await;
    (wire.rest().await, api.gate.refused())
}

#[tokio::test]
async fn protected_mode_lets_in_who_is_here_or_knows_a_password() {
    for local in ["127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"] {
        assert_eq!(welcome(local, None).await, ("+PONG\r\n+OK\r\n".into(), 0), "{local}");
    }
    let (denied, count) = welcome("192.0.2.1", None).await;
    assert!(denied.starts_with("-DENIED ") && denied.ends_with("\r\n"), "{denied}");
    assert_eq!(count, 1);
    let (asked, _) = welcome("192.0.2.1", Some("sesame")).await;
    assert!(asked.starts_with("-NOAUTH "), "{asked}");

    // Redis 7.0 counts nothing but 127.0.0.1 and ::1 as here.
    let oracle = Oracle::start("protected-mode yes").await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.5:0".parse().unwrap()).unwrap();
    let address: SocketAddr = format!("127.0.0.1:{}", oracle.port).parse().unwrap();
    let stream = within(socket.connect(address)).await.unwrap();
    let mut theirs = Wire { stream, input: BytesMut::new() };
    assert_eq!(denied, theirs.rest().await);
}
