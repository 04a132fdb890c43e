"""Verifies tls.crt against ca.crt with the library cryptography, as the certificate of a server and of a client."""

import sys
from pathlib import Path

from cryptography.x509 import DNSName, load_pem_x509_certificates
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

directory, name = Path(sys.argv[1]), sys.argv[2]
leaf, *intermediates = load_pem_x509_certificates((directory / "tls.crt").read_bytes())
roots = load_pem_x509_certificates((directory / "ca.crt").read_bytes())
policy = PolicyBuilder().store(Store(roots))
try:
    policy.build_client_verifier().verify(leaf, intermediates)
    policy.build_server_verifier(DNSName(name)).verify(leaf, intermediates)
except VerificationError as error:
    sys.exit(str(error))
