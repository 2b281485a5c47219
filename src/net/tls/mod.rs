//! TLS with rustls: what is shown to others and whom we trust, read from files, and read again when
//! they change, while connections that stand go on with what they have.
//!
//! As in Redis, a certificate is good if it leads to an authority that we know (`verify`); the name
//! in it is not compared with anything, since nodes are known by addresses that come and go.

mod files;
mod reload;
#[cfg(test)]
mod tests;
mod verify;
mod words;

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::ALL_CIPHER_SUITES;
use rustls::pki_types::{IpAddr, ServerName};
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Stream;
use crate::config::ciphers::Suite;
use crate::config::transport::{AuthClients, TlsSettings};
use files::{Dated, Stamps, Trusted};
use verify::{ChainOnly, Verifier};

pub use words::{Trouble, trouble};

/// How long a client's handshake may take; it holds a place within `maxclients` meanwhile.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// A file of TLS cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {help}")]
pub struct TlsError {
    /// Redis's directive that names the file.
    pub directive: &'static str,
    /// What is wrong, in Redis's words where Redis has them.
    pub message: String,
    /// How to mend it.
    pub help: String,
}

/// What all TLS connections are made with.
#[derive(Debug)]
pub struct Tls {
    settings: TlsSettings,
    current: RwLock<Arc<Current>>,
}

/// What the files say.
#[derive(Debug)]
struct Current {
    /// For clients that come; `None` without `tls-cert-file`.
    server: Option<Arc<ServerConfig>>,
    /// For links that go out.
    client: Arc<ClientConfig>,
    /// The certificates by their files, with their times.
    dated: Vec<Dated>,
    /// How the files looked before they were read.
    stamps: Stamps,
}

impl Tls {
    /// Reads all files.
    ///
    /// # Errors
    /// A file is missing, cannot be read or does not match another one.
    pub fn open(settings: &TlsSettings) -> Result<Arc<Tls>, TlsError> {
        let current = RwLock::new(Arc::new(Current::read(settings)?));
        Ok(Arc::new(Tls { settings: settings.clone(), current }))
    }

    /// Warnings about certificates that have expired or soon will.
    pub fn warnings(&self) -> Vec<(&'static str, String)> {
        self.current()
            .dated
            .iter()
            .filter_map(|dated| Some((dated.directive, dated.warning()?)))
            .collect()
    }

    /// Lets a client in; its handshake may take 10 s.
    ///
    /// # Errors
    /// The handshake failed; [`trouble`] tells why.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        let server = self.current().server.clone();
        let server = server.ok_or_else(|| io::Error::other("there is no tls-cert-file"))?;
        let handshake = TlsAcceptor::from(server).accept(stream);
        match tokio::time::timeout(HANDSHAKE_MAX, handshake).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream?.into()))),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Makes the handshake of a link; how long it may take is the caller's matter.
    ///
    /// # Errors
    /// The handshake failed; [`trouble`] tells why.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<Stream> {
        // Names are not checked, and none is sent.
        let name = ServerName::IpAddress(IpAddr::from(stream.peer_addr()?.ip()));
        let connector = TlsConnector::from(self.current().client.clone());
        Ok(Stream::Tls(Box::new(connector.connect(name, stream).await?.into())))
    }

    fn current(&self) -> Arc<Current> {
        // Only whole values are put there.
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Current {
    fn read(settings: &TlsSettings) -> Result<Current, TlsError> {
        let provider = Arc::new(provider(settings));
        // Before reading: a change meanwhile is seen later.
        let stamps = files::stamps(settings);
        let trusted = Arc::new(files::trusted(settings)?);
        let mut dated: Vec<Dated> = trusted.dated.iter().cloned().collect();
        let own = files::pair(&settings.server, files::SERVER, &provider)?;
        let client = files::pair(&settings.client, files::CLIENT, &provider)?;
        dated.extend(own.iter().chain(&client).map(|(_, dated)| dated.clone()));
        let [own, client] = [own, client].map(|pair| pair.map(|(key, _)| Arc::new(key)));
        let versions = versions(settings);
        let server = own.clone().map(|own| {
            let resolver = Arc::new(SingleCertAndKey::from(own));
            server_config(settings, &provider, &trusted, &versions, resolver)
        });
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ChainOnly(Verifier::new(
                trusted, &provider,
            ))));
        let mut client = match client.or(own) {
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
            None => builder.with_no_client_auth(),
        };
        client.enable_sni = false;
        // A resumed session would not look at the certificate again.
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Current { server: server.transpose()?, client: Arc::new(client), dated, stamps })
    }
}

fn server_config(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
    trusted: &Arc<Trusted>,
    versions: &[&'static SupportedProtocolVersion],
    resolver: Arc<SingleCertAndKey>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(unusable)?;
    let builder = match settings.auth_clients {
        AuthClients::No => builder.with_no_client_auth(),
        asked => {
            let verifier = Verifier::new(trusted.clone(), provider);
            let mandatory = asked == AuthClients::Yes;
            builder.with_client_cert_verifier(verifier.for_clients(mandatory, provider)?)
        }
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.ignore_client_order = settings.prefer_server_ciphers;
    if !settings.session_caching {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else if let Some(size) = settings.session_cache_size {
        // 0 means without limit in Redis; memory has one.
        let size = if size == 0 { SESSIONS_MAX } else { (size as usize).min(SESSIONS_MAX) };
        config.session_storage = ServerSessionMemoryCache::new(size);
    }
    Ok(Arc::new(config))
}

/// Most sessions of clients that are kept for resumption.
const SESSIONS_MAX: usize = 20 << 10;

/// ring's cryptography, with the cipher suites that are asked for, in that order.
fn provider(settings: &TlsSettings) -> CryptoProvider {
    let asked = settings.ciphersuites.iter().chain(&settings.ciphers);
    let cipher_suites = asked.filter_map(offered).collect();
    CryptoProvider { cipher_suites, ..rustls::crypto::ring::default_provider() }
}

fn offered(suite: &Suite) -> Option<SupportedCipherSuite> {
    let mut all = ALL_CIPHER_SUITES.iter();
    all.find(|offered| u16::from(offered.suite()) == suite.code).copied()
}

fn versions(settings: &TlsSettings) -> Vec<&'static SupportedProtocolVersion> {
    let wanted = [(settings.versions.v13, &TLS13), (settings.versions.v12, &TLS12)];
    wanted.into_iter().filter(|(wanted, _)| *wanted).map(|(_, version)| version).collect()
}

/// A combination of settings with which rustls cannot work.
fn unusable(error: rustls::Error) -> TlsError {
    TlsError {
        directive: "tls-port",
        message: format!("These TLS settings do not go together: {error}"),
        help: "check 'tls-protocols', 'tls-ciphers' and 'tls-ciphersuites'".into(),
    }
}
