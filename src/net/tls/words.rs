//! What went wrong with TLS, in words that say whose certificate or setting it is.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Why a TLS connection was not made, or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The other side is there, and one side does not accept the other's certificate or terms: a
    /// setting is wrong, here or there.
    Refused(String),
    /// Something else that only TLS knows.
    Broken(String),
}

/// What an error of a stream says about TLS; `None` if it is no matter of TLS.
pub fn trouble(error: &io::Error) -> Option<Trouble> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let text = match error {
        Error::InvalidCertificate(why) => format!("its certificate is not accepted: {}", bad(why)),
        Error::NoCertificatesPresented => {
            "it shows no certificate ('tls-auth-clients' wants one)".to_owned()
        }
        Error::AlertReceived(alert) => match refused(*alert) {
            Some(text) => text.to_owned(),
            None => return Some(Trouble::Broken(format!("the other side says {alert:?}"))),
        },
        Error::PeerIncompatible(why) => {
            format!("no TLS version or cipher suite in common ({why:?}): see 'tls-protocols'")
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS on this port".to_owned()
        }
        other => return Some(Trouble::Broken(other.to_string())),
    };
    Some(Trouble::Refused(text))
}

fn bad(why: &CertificateError) -> String {
    use CertificateError as Bad;
    match why {
        Bad::UnknownIssuer => {
            "no authority of 'tls-ca-cert-file' or 'tls-ca-cert-dir' has signed it".into()
        }
        Bad::Expired | Bad::ExpiredContext { .. } => "it has expired".into(),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
            "it is not good yet (compare the clocks)".into()
        }
        Bad::BadSignature => {
            "its signature is wrong: the authority of that name in 'tls-ca-cert-file' has another \
             key"
            .into()
        }
        Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => {
            "it is not meant for this use (extendedKeyUsage must have both serverAuth and \
             clientAuth)"
                .into()
        }
        Bad::Other(error) => error.to_string(),
        other => other.to_string(),
    }
}

fn refused(alert: AlertDescription) -> Option<&'static str> {
    use AlertDescription as Alert;
    Some(match alert {
        Alert::UnknownCA => "it does not know the authority that signed our certificate",
        Alert::CertificateRequired | Alert::NoCertificate => {
            "it wants a certificate: set 'tls-cert-file' or 'tls-client-cert-file'"
        }
        Alert::CertificateExpired => "it says that our certificate has expired",
        Alert::CertificateRevoked => "it says that our certificate is revoked",
        Alert::BadCertificate
        | Alert::CertificateUnknown
        | Alert::UnsupportedCertificate
        | Alert::AccessDenied => "it does not accept our certificate",
        Alert::DecryptError => {
            "it does not accept our certificate: the authority of that name has another key there"
        }
        Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            "no cipher suite in common, or it wants a certificate: see 'tls-ciphers' and \
             'tls-cert-file'"
        }
        Alert::ProtocolVersion => "no TLS version in common: see 'tls-protocols'",
        _ => return None,
    })
}
