//! Makes a TLS server configuration from [`crate::config::Tls`].

use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::config::Tls;

/// Why a certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate is not PEM.
    #[error("the certificate of `tls` is not PEM")]
    Certificate(#[source] pem::Error),
    /// The key is not PEM.
    #[error("the key of `tls` is not a private key in PEM without a passphrase")]
    Key(#[source] pem::Error),
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("certificate and key of `tls` cannot be used together")]
    Pair(#[source] rustls::Error),
}

/// The configuration of a server for TLS 1.2 and 1.3 with HTTP/1.1.
pub(super) fn server(tls: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(tls.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(tls.key.expose().as_bytes()).map_err(TlsError::Key)?;
    // The provider is set explicitly, so that other users of the library in the process make no difference.
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
