//! Handshakes over real sockets with certificates made here, by rcgen and by openssl, and files
//! that change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair as Key, KeyUsagePurpose,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::reload::Watch;
use super::*;
use crate::config::ciphers;
use crate::config::transport::{KeyPair, TlsVersions};
use crate::config::types::Secret;

/// A folder with an authority that signs certificates.
struct Authority {
    dir: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, Key>,
}

impl Authority {
    fn new() -> Authority {
        Authority::named("The Authority")
    }

    fn named(name: &str) -> Authority {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, Key::generate().unwrap()).unwrap();
        fs::write(dir.path().join("ca.crt"), issuer.pem()).unwrap();
        Authority { dir, issuer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Signs a certificate `name.crt` and writes its key `name.key`.
    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let key = Key::generate().unwrap();
        let mut params = CertificateParams::new(vec!["some.where.else".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.crt")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn pair(&self, name: &str) -> KeyPair {
        KeyPair {
            cert_file: Some(self.path(&format!("{name}.crt"))),
            key_file: Some(self.path(&format!("{name}.key"))),
            key_pass: None,
        }
    }

    /// Settings that show `name` and trust this authority.
    fn settings(&self, name: &str) -> TlsSettings {
        TlsSettings {
            port: 1,
            links: true,
            server: self.pair(name),
            ca_file: Some(self.path("ca.crt")),
            ..TlsSettings::default()
        }
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.dir.path())
            .output()
            .expect("openssl is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {said}");
    }
}

/// Makes a certificate good from the beginning of one year to that of another.
fn lives(params: &mut CertificateParams, from: i32, to: i32) {
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
}

/// What each side says of a connection between the two, over which a byte goes either way.
async fn meet(server: &Arc<Tls>, client: &Arc<Tls>) -> (Result<(), String>, Result<(), String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = async {
        let mut stream = server.accept(listener.accept().await?.0).await?;
        let byte = stream.read_u8().await?;
        stream.write_u8(byte + 1).await?;
        stream.shutdown().await
    };
    let asking = async {
        let mut stream = client.connect(TcpStream::connect(address).await?).await?;
        stream.write_u8(1).await?;
        stream.flush().await?;
        assert_eq!(stream.read_u8().await?, 2);
        Ok(())
    };
    let both = async { tokio::join!(serving, asking) };
    let (served, asked) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    let told = |result: io::Result<()>| {
        result.map_err(|error| match trouble(&error) {
            Some(Trouble::Refused(why)) => why,
            Some(Trouble::Broken(why)) => format!("broken: {why}"),
            None => error.to_string(),
        })
    };
    (told(served), told(asked))
}

fn open(settings: &TlsSettings) -> Arc<Tls> {
    Tls::open(settings).unwrap()
}

const BOTH_GOOD: (Result<(), String>, Result<(), String>) = (Ok(()), Ok(()));

#[tokio::test]
async fn the_chain_counts_and_no_name() {
    let authority = Authority::new();
    authority.sign("node", |_| {});
    let tls = open(&authority.settings("node"));
    assert_eq!(meet(&tls, &tls).await, BOTH_GOOD);
    for versions in [TlsVersions { v12: true, v13: false }, TlsVersions { v12: false, v13: true }] {
        let one = open(&TlsSettings { versions, ..authority.settings("node") });
        assert_eq!(meet(&tls, &one).await, BOTH_GOOD, "{versions:?}");
        assert_eq!(meet(&one, &tls).await, BOTH_GOOD, "{versions:?}");
    }
    let chosen = TlsSettings {
        ciphers: vec![ciphers::TLS12[2]],
        ciphersuites: vec![ciphers::TLS13[1]],
        prefer_server_ciphers: true,
        session_caching: false,
        ..authority.settings("node")
    };
    assert_eq!(meet(&open(&chosen), &tls).await, BOTH_GOOD);
    let folder = tempfile::tempdir().unwrap();
    fs::copy(authority.path("ca.crt"), folder.path().join("1234abcd.0")).unwrap();
    fs::write(folder.path().join("README"), "no certificate").unwrap();
    let from_folder = TlsSettings {
        ca_file: None,
        ca_dir: Some(folder.path().to_owned()),
        ..authority.settings("node")
    };
    assert_eq!(meet(&open(&from_folder), &open(&from_folder)).await, BOTH_GOOD);
}

#[test]
fn every_suite_that_a_configuration_can_name_is_offered() {
    for suite in ciphers::TLS13.iter().chain(&ciphers::TLS12) {
        assert!(offered(suite).is_some(), "{suite:?}");
    }
}

#[tokio::test]
async fn who_is_not_accepted_is_told_why_on_both_sides() {
    let (authority, other) = (Authority::new(), Authority::named("Another"));
    let double = Authority::new();
    for authority in [&authority, &other, &double] {
        authority.sign("node", |_| {});
    }
    authority.sign("old", |params| lives(params, 2001, 2002));
    authority.sign("future", |params| lives(params, 2190, 2191));
    authority.sign("client", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let good = open(&authority.settings("node"));
    let stranger = open(&other.settings("node"));
    let nothing = TlsSettings { port: 0, server: KeyPair::default(), ..authority.settings("node") };
    let v12 = TlsSettings {
        versions: TlsVersions { v12: true, v13: false },
        ..authority.settings("node")
    };
    let v13 = TlsSettings {
        versions: TlsVersions { v12: false, v13: true },
        ..authority.settings("node")
    };
    for (server, client, says_server, says_client) in [
        (
            &stranger,
            &good,
            "does not know the authority that signed our",
            "no authority of 'tls-ca",
        ),
        (&good, &stranger, "does not know", "no authority"),
        // The name of the authority is the same, its key is not.
        (&good, &open(&double.settings("node")), "has another key there", "has another key"),
        (&open(&authority.settings("old")), &good, "our certificate has expired", "it has expired"),
        (&open(&authority.settings("future")), &good, "", "it is not good yet"),
        (&open(&authority.settings("client")), &good, "", "not meant for this use"),
        (&good, &open(&nothing), "it shows no certificate", "it wants a certificate"),
        (&open(&v12), &open(&v13), "no TLS version", "no TLS version in common"),
    ] {
        let (served, asked) = meet(server, client).await;
        let (served, asked) = (served.unwrap_err(), asked.unwrap_err());
        let as_said = served.contains(says_server) && asked.contains(says_client);
        assert!(as_said, "{says_client}: {served} | {asked}");
    }
}

#[tokio::test]
async fn clients_are_asked_as_the_setting_says() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.sign("node", |_| {});
    other.sign("node", |_| {});
    let bare =
        open(&TlsSettings { port: 0, server: KeyPair::default(), ..authority.settings("node") });
    let known = open(&authority.settings("node"));
    let stranger = open(&TlsSettings { client: other.pair("node"), ..authority.settings("node") });
    for (auth_clients, lets_in) in [
        (AuthClients::No, [true, true, true]),
        (AuthClients::Optional, [true, true, false]),
        (AuthClients::Yes, [false, true, false]),
    ] {
        let server = open(&TlsSettings { auth_clients, ..authority.settings("node") });
        for (client, let_in) in [&bare, &known, &stranger].into_iter().zip(lets_in) {
            let met = meet(&server, client).await;
            assert_eq!(met == BOTH_GOOD, let_in, "{auth_clients:?}: {met:?}");
        }
    }
}

#[tokio::test]
async fn what_openssl_makes_by_hand_is_good_too() {
    let authority = Authority::new();
    let (good, other) = (|tls: &TlsSettings| open(tls), Authority::new());
    // One self-signed certificate, its own authority.
    authority.openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout self.key -out self.crt -days 9 -subj /CN=self",
    );
    let mut own = authority.settings("self");
    own.ca_file = own.server.cert_file.clone();
    assert_eq!(meet(&good(&own), &good(&own)).await, BOTH_GOOD);

    // Version 1, as `openssl x509 -req` makes without an extension file.
    authority.openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.crt -days 9 -subj /CN=root",
    );
    other.openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.crt -days 9 -subj /CN=root",
    );
    for kind in ["rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-256"] {
        authority
            .openssl(&format!("req -newkey {kind} -nodes -keyout v1.key -out v1.csr -subj /CN=v1"));
        authority.openssl(
            "x509 -req -in v1.csr -CA root.crt -CAkey root.key -CAcreateserial -days 9 -out v1.crt",
        );
        let mut old = authority.settings("v1");
        old.ca_file = Some(authority.path("root.crt"));
        for v13 in [true, false] {
            let versions = TlsVersions { v12: !v13, v13 };
            let tls = good(&TlsSettings { versions, ..old.clone() });
            assert_eq!(meet(&tls, &tls).await, BOTH_GOOD, "{kind} {versions:?}");
        }
        let mut forged = old.clone();
        forged.ca_file = Some(other.path("root.crt"));
        let (_, asked) = meet(&good(&old), &good(&forged)).await;
        let asked = asked.unwrap_err();
        assert!(asked.contains("its signature is wrong"), "{asked}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_named_with_its_directive() {
    let authority = Authority::new();
    authority.sign("a", |_| {});
    authority.sign("b", |_| {});
    authority.openssl("genrsa -aes128 -passout pass:secret -traditional -out old.key 2048");
    fs::write(authority.path("junk"), "-----BEGIN CERTIFICATE-----\n@@\n").unwrap();
    let good = authority.settings("a");
    let with = |cert: &str, key: &str, ca: &str| {
        let mut settings = good.clone();
        settings.server.cert_file = Some(authority.path(cert));
        settings.server.key_file = Some(authority.path(key));
        settings.ca_file = Some(authority.path(ca));
        settings
    };
    for (settings, directive, says) in [
        (with("gone", "a.key", "ca.crt"), "tls-cert-file", "No such file or directory"),
        (with("a.key", "a.key", "ca.crt"), "tls-cert-file", "there is no certificate in it"),
        (with("junk", "a.key", "ca.crt"), "tls-cert-file", "not PEM"),
        (with("a.crt", "gone", "ca.crt"), "tls-key-file", "No such file or directory"),
        (with("a.crt", "a.crt", "ca.crt"), "tls-key-file", "there is no private key in it"),
        (with("a.crt", "b.key", "ca.crt"), "tls-key-file", "not the key of the certificate"),
        (with("a.crt", "old.key", "ca.crt"), "tls-key-file", "openssl pkcs8 -topk8"),
        (with("a.crt", "a.key", "gone"), "tls-ca-cert-file", "No such file or directory"),
        (with("a.crt", "a.key", "a.key"), "tls-ca-cert-file", "there is no certificate in it"),
    ] {
        let error = Tls::open(&settings).unwrap_err();
        assert_eq!(error.directive, directive, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn an_encrypted_key_is_opened_with_its_password() {
    let authority = Authority::new();
    authority.sign("a", |_| {});
    authority.openssl("pkcs8 -topk8 -in a.key -passout pass:s3cret -out locked.key");
    let with = |pass: Option<&str>| {
        let mut settings = authority.settings("a");
        settings.server.key_file = Some(authority.path("locked.key"));
        settings.server.key_pass = pass.map(Secret::new);
        Tls::open(&settings)
    };
    with(Some("s3cret")).unwrap();
    let wrong = with(Some("wr0ng")).unwrap_err().to_string();
    assert!(wrong.contains("the password does not open it") && !wrong.contains("wr0ng"), "{wrong}");
    let none = with(None).unwrap_err();
    assert!(none.message.contains("it is encrypted"), "{none}");
}

/// The name in the certificate that a server shows.
async fn shown(server: &Arc<Tls>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = async { server.accept(listener.accept().await.unwrap().0).await };
    let asking = async {
        let stream = server.connect(TcpStream::connect(address).await.unwrap()).await.unwrap();
        let Stream::Tls(stream) = stream else { panic!("no TLS") };
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        String::from_utf8_lossy(&shown).into_owned()
    };
    tokio::join!(serving, asking).1
}

#[tokio::test]
async fn changed_files_are_served_and_broken_ones_are_not() {
    let authority = Authority::new();
    authority.sign("first", |_| {});
    authority.sign("second", |_| {});
    let copy = |from: &str, to: &str| {
        fs::copy(authority.path(from), authority.path(to)).unwrap();
    };
    copy("first.crt", "now.crt");
    copy("first.key", "now.key");
    let tls = open(&authority.settings("now"));
    let (now, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let fresh = tokio::spawn(tls.clone().keep_fresh(now.clone(), stop.clone()));
    assert!(shown(&tls).await.contains("first"));

    // A certificate without its key: what there was goes on.
    copy("second.crt", "now.crt");
    let mut watch = Watch::of(&tls);
    let error = tls.look(&mut watch, true).unwrap().unwrap_err();
    assert!(error.message.contains("not the key of the certificate"), "{error}");
    assert!(tls.look(&mut watch, false).is_none(), "it was told");
    now.notify_one();
    assert!(shown(&tls).await.contains("first"));

    // The key follows, and nobody says so.
    copy("second.key", "now.key");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !shown(&tls).await.contains("second") {
        assert!(tokio::time::Instant::now() < deadline, "the new certificate is not served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    fresh.await.unwrap();
}

#[test]
fn what_expires_soon_is_told_when_it_is_read() {
    let authority = Authority::new();
    authority.sign("old", |params| lives(params, 2001, 2002));
    let warnings = open(&authority.settings("old")).warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let (directive, text) = &warnings[0];
    assert_eq!(*directive, "tls-cert-file");
    assert!(text.contains("old.crt has expired"), "{text}");
    assert!(Path::new(&authority.path("old.crt")).exists());
}
