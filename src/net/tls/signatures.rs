//! That a handshake is signed by the key in the certificate that was shown: for verifiers of our own, on either side.
//!
//! Contract: the macro writes those methods of a `ServerCertVerifier` or a `ClientCertVerifier` that look at signatures,
//! which rustls leaves to whoever looks at certificates; the implementing type has a `provider`.
//! Invariants: whatever else a verifier takes, a signature that is wrong is refused.
//! Not here: which certificates are taken (`client`, `clients`, `dane`).

macro_rules! verify_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

pub(super) use verify_signatures;
