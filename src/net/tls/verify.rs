//! Whom we believe: who shows a certificate that leads to an authority of ours, whatever name it
//! carries.
//!
//! rustls checks chains strictly. Redis's OpenSSL takes two kinds more, which are common where
//! people made their certificates by hand, so they are good here, too: a certificate that stands
//! among the authorities itself (one self-signed file for everything), and one of X.509 version 1
//! (`openssl x509 -req` without an extension file), if an authority of ours signed it.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, ServerName, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    SignatureScheme,
};
use x509_cert::der::{Decode, Encode};
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::{Certificate, Version};

use super::TlsError;
use super::files::Trusted;

/// What both sides share.
#[derive(Clone)]
pub(super) struct Verifier {
    trusted: Arc<Trusted>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({} authorities)", self.trusted.certificates.len())
    }
}

impl Verifier {
    pub(super) fn new(trusted: Arc<Trusted>, provider: &CryptoProvider) -> Verifier {
        Verifier { trusted, algorithms: provider.signature_verification_algorithms }
    }

    /// Looks at clients that come; without one, `mandatory` refuses them.
    pub(super) fn for_clients(
        self,
        mandatory: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let roots = self.trusted.roots.clone();
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        let chain = chain.build().map_err(|error| TlsError {
            directive: "tls-ca-cert-file",
            message: format!("Failed to configure CA certificate(s) file/directory: {error}"),
            help: "give the certificates of those who may sign for clients".into(),
        })?;
        Ok(Arc::new(Clients { common: self, chain, mandatory }))
    }

    /// A second look at what the strict check refuses.
    fn reconsider(
        &self,
        end_entity: &CertificateDer<'_>,
        now: UnixTime,
        refusal: Error,
    ) -> Result<(), Error> {
        let Ok(certificate) = Certificate::from_der(end_entity) else { return Err(refusal) };
        let stands_here = self.trusted.certificates.iter().any(|known| known == end_entity);
        let old = certificate.tbs_certificate.version == Version::V1;
        if !stands_here && !old {
            return Err(refusal);
        }
        is_in_time(&certificate, now)?;
        if stands_here { Ok(()) } else { self.is_signed_here(&certificate, now) }
    }

    /// Whether one of our authorities signed it, without others between.
    fn is_signed_here(&self, certificate: &Certificate, now: UnixTime) -> Result<(), Error> {
        let unreadable = |_| Error::from(CertificateError::BadEncoding);
        let signed = certificate.tbs_certificate.to_der().map_err(unreadable)?;
        let authorities = self.trusted.certificates.iter();
        let authorities = authorities.filter_map(|der| Certificate::from_der(der).ok());
        let issuer = &certificate.tbs_certificate.issuer;
        let mut refusal = CertificateError::UnknownIssuer.into();
        for authority in authorities.filter(|a| a.tbs_certificate.subject == *issuer) {
            let key = &authority.tbs_certificate.subject_public_key_info;
            let algorithm = self.algorithms.all.iter().find(|algorithm| {
                is(&key.algorithm, algorithm.public_key_alg_id().as_ref())
                    && is(&certificate.signature_algorithm, algorithm.signature_alg_id().as_ref())
            });
            let good = algorithm.is_some_and(|algorithm| {
                let signature = certificate.signature.raw_bytes();
                algorithm
                    .verify_signature(key.subject_public_key.raw_bytes(), &signed, signature)
                    .is_ok()
            });
            match good.then(|| is_in_time(&authority, now)) {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => refusal = error,
                None => refusal = CertificateError::BadSignature.into(),
            }
        }
        Err(refusal)
    }

    fn tls12(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(key) = key_of_old(cert) else {
            return verify_tls12_signature(message, cert, dss, &self.algorithms);
        };
        let possible = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == dss.scheme);
        let unknown = PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme;
        let (_, possible) = possible.ok_or(unknown)?;
        let verifies = |algorithm: &&dyn SignatureVerificationAlgorithm| {
            is(&key.algorithm, algorithm.public_key_alg_id().as_ref())
                && algorithm
                    .verify_signature(key.subject_public_key.raw_bytes(), message, dss.signature())
                    .is_ok()
        };
        match possible.iter().any(verifies) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    fn tls13(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match key_of_old(cert).and_then(|key| key.to_der().ok()) {
            Some(key) => {
                let key = SubjectPublicKeyInfoDer::from(key);
                verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
            }
            None => verify_tls13_signature(message, cert, dss, &self.algorithms),
        }
    }
}

/// The key in a certificate of version 1, which rustls does not read.
fn key_of_old(cert: &CertificateDer<'_>) -> Option<x509_cert::spki::SubjectPublicKeyInfoOwned> {
    let certificate = Certificate::from_der(cert).ok()?.tbs_certificate;
    (certificate.version == Version::V1).then_some(certificate.subject_public_key_info)
}

/// Whether an algorithm is the one that webpki writes so: without the outermost tag and length,
/// which take two bytes here.
fn is(algorithm: &AlgorithmIdentifierOwned, id: &[u8]) -> bool {
    algorithm.to_der().is_ok_and(|der| der.get(2..) == Some(id))
}

fn is_in_time(certificate: &Certificate, now: UnixTime) -> Result<(), Error> {
    let validity = &certificate.tbs_certificate.validity;
    if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// Looks at those whom we connect to.
#[derive(Debug)]
pub(super) struct ChainOnly(pub(super) Verifier);

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let strict = ParsedCertificate::try_from(end_entity).and_then(|parsed| {
            let (roots, all) = (&self.0.trusted.roots, self.0.algorithms.all);
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, all)
        });
        strict.or_else(|refusal| self.0.reconsider(end_entity, now, refusal))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.algorithms.supported_schemes()
    }
}

/// Looks at clients that come.
#[derive(Debug)]
struct Clients {
    common: Verifier,
    chain: Arc<dyn ClientCertVerifier>,
    mandatory: bool,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let strict = self.chain.verify_client_cert(end_entity, intermediates, now);
        strict.or_else(|refusal| {
            self.common.reconsider(end_entity, now, refusal)?;
            Ok(ClientCertVerified::assertion())
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.common.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.common.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.common.algorithms.supported_schemes()
    }
}
