"""This pod's certificate, as Certmint keeps it in the pod: read again when it was renewed."""

import ssl
from pathlib import Path

DIRECTORY = Path("/var/run/secrets/certmint.dev")


class Identity:
    """The TLS settings of one side, server or client, from the newest files."""

    def __init__(self, side):
        self.side = side
        self.version = None
        self.settings = None

    def context(self):
        """The settings for the next connection."""
        try:
            # tls.crt is a link into a directory that is replaced as a whole. Where it leads to is the version, and
            # what is read there belongs together.
            version = (DIRECTORY / "tls.crt").resolve(strict=True).parent
            if version != self.version:
                if self.version:
                    print("reading the renewed certificate", flush=True)
                self.settings = self.read(version)
                self.version = version
        except OSError as error:
            # Replaced again at this very moment: the next connection finds it.
            if self.settings is None:
                raise
            print(f"keeping the certificate read before: {error}", flush=True)
        return self.settings

    def read(self, version):
        # With a cafile, the certificate authorities of the operating system are not trusted.
        settings = ssl.create_default_context(self.side, cafile=version / "ca.crt")
        settings.minimum_version = ssl.TLSVersion.TLSv1_3
        settings.load_cert_chain(version / "tls.crt", version / "tls.key")
        if self.side is ssl.Purpose.CLIENT_AUTH:
            # Python's servers ask for no certificate unless they are told to.
            settings.verify_mode = ssl.CERT_REQUIRED
            # No resumption: every connection shows its certificate.
            settings.num_tickets = 0
        return settings
