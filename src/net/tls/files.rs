//! Certificates and keys from PEM files, and how those files look, by which a change is noticed.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pkcs8::{EncryptedPrivateKeyInfo, SecretDocument};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::der::{Decode, Encode};

use super::TlsError;
use crate::config::diagnostic::os_words;
use crate::config::transport::{KeyPair, TlsSettings};
use crate::config::types::Secret;

/// Largest file that is read, in bytes; the authorities of a whole system take a quarter of it.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most files of `tls-ca-cert-dir`.
const FILES_MAX: usize = 1000;
/// A certificate whose end is nearer than this is warned about, and one that lives shortly in the
/// last fifth of its life.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// The directives of a [`KeyPair`]: certificate and key.
pub(super) type Names = [&'static str; 2];
/// What is shown to clients.
pub(super) const SERVER: Names = ["tls-cert-file", "tls-key-file"];
/// What is shown to nodes and other sentinels.
pub(super) const CLIENT: Names = ["tls-client-cert-file", "tls-client-key-file"];
const CA_FILE: &str = "tls-ca-cert-file";
const CA_DIR: &str = "tls-ca-cert-dir";

/// The authorities that we trust.
#[derive(Debug)]
pub(super) struct Trusted {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// When the last one of `tls-ca-cert-file` ends.
    pub(super) dated: Option<Dated>,
}

/// A file of certificates and the time for which it is good.
#[derive(Debug, Clone)]
pub(super) struct Dated {
    pub(super) directive: &'static str,
    file: PathBuf,
    begins: SystemTime,
    ends: SystemTime,
}

impl Dated {
    fn of(directive: &'static str, file: &Path, der: &[u8]) -> Option<Dated> {
        let validity = x509_cert::Certificate::from_der(der).ok()?.tbs_certificate.validity;
        let time = |time: x509_cert::time::Time| UNIX_EPOCH + time.to_unix_duration();
        let (begins, ends) = (time(validity.not_before), time(validity.not_after));
        Some(Dated { directive, file: file.to_owned(), begins, ends })
    }

    /// Says that it has expired, soon will, or is not good yet.
    pub(super) fn warning(&self) -> Option<String> {
        self.warning_at(SystemTime::now())
    }

    fn warning_at(&self, now: SystemTime) -> Option<String> {
        let file = self.file.display();
        if let Ok(wait) = self.begins.duration_since(now)
            && !wait.is_zero()
        {
            return Some(format!("The certificate {file} is good only in {}", span(wait)));
        }
        match self.ends.duration_since(now) {
            Err(past) => {
                let past = span(past.duration());
                Some(format!("The certificate {file} has expired {past} ago: replace it"))
            }
            Ok(left) => {
                let life = self.ends.duration_since(self.begins).unwrap_or_default();
                let left_text = span(left);
                (left < SOON.min(life / 5))
                    .then(|| format!("The certificate {file} expires in {left_text}: replace it"))
            }
        }
    }
}

fn span(time: Duration) -> String {
    match time.as_secs() / 3600 {
        hours if hours >= 48 => format!("{} days", hours / 24),
        0 => format!("{} minutes", time.as_secs() / 60),
        hours => format!("{hours} hours"),
    }
}

/// A certificate with its chain and its key; `None` if there is none.
pub(super) fn pair(
    pair: &KeyPair,
    [cert, key]: Names,
    provider: &CryptoProvider,
) -> Result<Option<(CertifiedKey, Dated)>, TlsError> {
    let (Some(cert_file), Some(key_file)) = (&pair.cert_file, &pair.key_file) else {
        return Ok(None);
    };
    let bad_cert =
        |why: &str, help: &str| error(cert, "Failed to load certificate", cert_file, why, help);
    let bad_key =
        |why: &str, help: &str| error(key, "Failed to load private key", key_file, why, help);
    let chain = certificates(cert_file).map_err(|why| bad_cert(&why, PEM))?;
    let parsed = chain.first().map(|first| x509_cert::Certificate::from_der(first));
    let Some(Ok(first)) = parsed else {
        return Err(bad_cert("there is no certificate in it", PEM));
    };
    let private =
        private_key(key_file, pair.key_pass.as_ref()).map_err(|(why, help)| bad_key(&why, help))?;
    let key = provider.key_provider.load_private_key(private).map_err(|_| {
        bad_key(
            "this kind of key is not offered",
            "RSA of 2048 to 8192 bits, ECDSA over P-256 or P-384, and Ed25519 are",
        )
    })?;
    let public = first.tbs_certificate.subject_public_key_info.to_der().ok();
    if let (Some(of_cert), Some(of_key)) = (public, key.public_key())
        && of_cert != of_key.as_ref()
    {
        return Err(bad_key(
            &format!("it is not the key of the certificate {}", cert_file.display()),
            "give the key that the certificate was made with",
        ));
    }
    let dated = Dated::of(cert, cert_file, &chain[0]);
    let dated = dated.ok_or_else(|| bad_cert("there is no certificate in it", PEM))?;
    Ok(Some((CertifiedKey::new(chain, key), dated)))
}

const PEM: &str = "give a PEM file that this user may read: -----BEGIN CERTIFICATE-----";
const PEM_KEY: &str = "give a PEM file that this user may read: -----BEGIN PRIVATE KEY-----";

fn error(directive: &'static str, what: &str, file: &Path, why: &str, help: &str) -> TlsError {
    let message = format!("{what}: {}: {why}", file.display());
    TlsError { directive, message, help: help.to_owned() }
}

/// All certificates of a file, at least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err("there is no certificate in it".to_owned()),
        Ok(all) => Ok(all),
        Err(_) => Err("it is not whole: not PEM".to_owned()),
    }
}

fn private_key(
    file: &Path,
    pass: Option<&Secret>,
) -> Result<PrivateKeyDer<'static>, (String, &'static str)> {
    let pem = read(file).map_err(|why| (why, PEM_KEY))?;
    let text = String::from_utf8_lossy(&pem);
    const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    if let Some(at) = text.find(BEGIN) {
        const ASK: &str = "give its password in 'tls-key-file-pass' ('tls-client-key-file-pass')";
        let Some(pass) = pass else { return Err(("it is encrypted".to_owned(), ASK)) };
        return decrypt(&text[at..], pass).map_err(|why| (why, ASK));
    }
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        let help = "write it anew in today's form: openssl pkcs8 -topk8 -in OLD -out NEW";
        return Err(("it is encrypted in a form that is not offered".to_owned(), help));
    }
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| ("there is no private key in it".to_owned(), PEM_KEY))
}

/// Opens PKCS #8 as `openssl pkcs8 -topk8` writes it.
fn decrypt(pem: &str, pass: &Secret) -> Result<PrivateKeyDer<'static>, String> {
    let end = pem.find("-----END").and_then(|at| Some(at + pem[at..].find('\n')?));
    let pem = &pem[..end.unwrap_or(pem.len())];
    let (_, document) =
        SecretDocument::from_pem(pem).map_err(|_| "it is not whole: not PEM".to_owned())?;
    let info = EncryptedPrivateKeyInfo::try_from(document.as_bytes())
        .map_err(|_| "it is encrypted in a form that is not offered".to_owned())?;
    let key = info.decrypt(pass.bytes()).map_err(|_| "the password does not open it".to_owned())?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

/// The authorities of `tls-ca-cert-file` and `tls-ca-cert-dir`; none if neither is given.
pub(super) fn trusted(settings: &TlsSettings) -> Result<Trusted, TlsError> {
    const WHAT: &str = "Failed to configure CA certificate(s) file/directory";
    let mut found = Vec::new();
    let mut dated: Option<Dated> = None;
    if let Some(file) = &settings.ca_file {
        let all = certificates(file).map_err(|why| error(CA_FILE, WHAT, file, &why, PEM))?;
        let times = all.iter().filter_map(|der| Dated::of(CA_FILE, file, der));
        dated = times.max_by_key(|dated| dated.ends);
        add(&mut found, all);
    }
    if let Some(dir) = &settings.ca_dir {
        let bad = |why: &str| error(CA_DIR, WHAT, dir, why, "give a folder of PEM files");
        let files = folder(dir).map_err(|why| bad(&why))?;
        // Whatever else lies there means nothing, as in OpenSSL.
        let all = files.iter().filter_map(|file| certificates(file).ok()).flatten();
        add(&mut found, all);
        if found.is_empty() {
            return Err(bad("there is no certificate in it"));
        }
    }
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(found.iter().cloned());
    if good == 0 && !found.is_empty() {
        let (directive, path) = match (&settings.ca_file, &settings.ca_dir) {
            (Some(file), _) => (CA_FILE, file.as_path()),
            (None, dir) => (CA_DIR, dir.as_deref().unwrap_or(Path::new(""))),
        };
        return Err(error(directive, WHAT, path, "no certificate in it can be read", PEM));
    }
    Ok(Trusted { roots: Arc::new(roots), certificates: found, dated })
}

/// Adds what is not there yet.
fn add(
    found: &mut Vec<CertificateDer<'static>>,
    more: impl IntoIterator<Item = CertificateDer<'static>>,
) {
    for certificate in more {
        if !found.contains(&certificate) {
            found.push(certificate);
        }
    }
}

/// The files of a folder, in order.
fn folder(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(dir).map_err(|cause| os_words(&cause))?;
    let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    let mut files: Vec<PathBuf> = files.take(FILES_MAX).collect();
    files.sort_unstable();
    Ok(files)
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let opened = fs::File::open(file);
    let read = opened.and_then(|open| open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|cause| os_words(&cause))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

/// How files look from outside: time of change in s and ns, number, length; `None` for one that
/// is not there.
pub(super) type Stamps = Vec<(PathBuf, Option<(i64, i64, u64, u64)>)>;

/// How all files look now. Links are followed, by which a whole folder may be exchanged at once.
pub(super) fn stamps(settings: &TlsSettings) -> Stamps {
    let TlsSettings { server, client, ca_file, ca_dir, .. } = settings;
    let files = [&server.cert_file, &server.key_file, &client.cert_file, &client.key_file, ca_file];
    let mut paths: Vec<PathBuf> = files.into_iter().flatten().cloned().collect();
    paths.extend(ca_dir.iter().flat_map(|dir| folder(dir).unwrap_or_default()));
    let stamp = |path: PathBuf| {
        let found = path.metadata().ok();
        let stamp = found.map(|m| (m.mtime(), m.mtime_nsec(), m.ino(), m.len()));
        (path, stamp)
    };
    paths.into_iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_time_and_for_short_lives_later() {
        let now = UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let days = |n: u64| Duration::from_secs(n * 24 * 3600);
        let dated = |begins, ends| Dated {
            directive: CA_FILE,
            file: PathBuf::from("/c.pem"),
            begins,
            ends,
        };
        for (certificate, text) in [
            (dated(now - days(300), now + days(15)), None),
            (dated(now - days(300), now + days(13)), Some("expires in 13 days")),
            (dated(now - days(40), now + days(10)), None),
            (dated(now - days(41), now + days(9)), Some("expires in 9 days")),
            (dated(now - days(1) / 2, now + days(1) / 2), None),
            (dated(now - days(1), now + days(1) / 8), Some("expires in 3 hours")),
            (dated(now - days(9), now - days(3)), Some("has expired 3 days ago")),
            (dated(now + days(2), now + days(9)), Some("is good only in 2 days")),
        ] {
            let warning = certificate.warning_at(now);
            match text {
                Some(text) => {
                    assert!(warning.as_ref().is_some_and(|w| w.contains(text)), "{warning:?}")
                }
                None => assert_eq!(warning, None),
            }
        }
    }
}
