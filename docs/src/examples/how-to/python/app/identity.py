"""This pod's certificate from Certmint's files, which are read again after a renewal."""

import ssl
from pathlib import Path

DIRECTORY = Path("/var/run/secrets/certmint.dev")


class Identity:
    """TLS settings of a server or client, from the newest files."""

    def __init__(self, side):
        self.side = side
        self.version = None
        self.settings = None

    def context(self):
        """Returns the settings for the next connection."""
        try:
            # tls.crt is a symbolic link into a directory that is replaced as a whole. The link's target is the
            # version. All files in that directory belong to the same version.
            version = (DIRECTORY / "tls.crt").resolve(strict=True).parent
            if version != self.version:
                if self.version:
                    print("reading the renewed certificate", flush=True)
                self.settings = self.read(version)
                self.version = version
        except OSError as error:
            # The files were replaced during the read. The next connection reads them.
            if self.settings is None:
                raise
            print(f"keeping the certificate read before: {error}", flush=True)
        return self.settings

    def read(self, version):
        # With a cafile, the operating system's certificate authorities are not trusted.
        settings = ssl.create_default_context(self.side, cafile=version / "ca.crt")
        settings.minimum_version = ssl.TLSVersion.TLSv1_3
        settings.load_cert_chain(version / "tls.crt", version / "tls.key")
        if self.side is ssl.Purpose.CLIENT_AUTH:
            # By default Python's servers request no certificate.
            settings.verify_mode = ssl.CERT_REQUIRED
            # Without resumption every connection presents its certificate.
            settings.num_tickets = 0
        return settings
