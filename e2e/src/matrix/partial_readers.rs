//! Functions and programs that read a `ca.crt` with two roots: some of them read only the first certificate.

use anyhow::{Result, ensure};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::command;
use certmint_local_cluster::images::{self, Image};

use super::page::{Observed, ReaderRow};
use super::roots::{Root, Roots};
use super::sandbox::{Network, Sandbox};
use super::servers::{Files, ROOTS, USER, words};

/// Function or program that reads certificates.
pub(super) struct Reader {
    /// Name in the output and on the page.
    pub(super) name: &'static str,
    image: fn(&Cache) -> Result<Image>,
    file: Files,
    /// Program that prints the subjects of the certificates that it read from `ROOTS`.
    program: &'static [&'static str],
}

const JAVA: &str = r#"
import java.io.FileInputStream;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.util.List;

public class Reader {
    public static void main(String... arguments) throws Exception {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        try (var file = new FileInputStream(arguments[0])) {
            var read = arguments[1].equals("all") ? factory.generateCertificates(file) : List.of(factory.generateCertificate(file));
            for (var certificate : read) {
                System.out.println(((X509Certificate) certificate).getSubjectX500Principal());
            }
        }
    }
}
"#;

const KEYTOOL: &str = r#"
keytool='java --module java.base/sun.security.tools.keytool.Main -keystore /tmp/roots.p12 -storepass changeit'
$keytool -importcert -noprompt -alias roots -file "$1" >&2
$keytool -list -v
"#;

/// All readers.
pub(super) const READERS: &[Reader] = &[
    Reader {
        name: "Java: `keytool -importcert`",
        image: images::java,
        file: Files::Text("keytool.sh", KEYTOOL),
        program: &["sh", "-e", "/app/keytool.sh", ROOTS],
    },
    Reader {
        name: "Java: `CertificateFactory.generateCertificate`",
        image: images::java,
        file: Files::Text("Reader.java", JAVA),
        program: &["java", "/app/Reader.java", ROOTS, "first"],
    },
    Reader {
        name: "Java: `CertificateFactory.generateCertificates`",
        image: images::java,
        file: Files::Text("Reader.java", JAVA),
        program: &["java", "/app/Reader.java", ROOTS, "all"],
    },
    Reader {
        name: "Node: `new X509Certificate`",
        image: images::node,
        file: Files::None,
        program: &[
            "node",
            "-p",
            "new crypto.X509Certificate(fs.readFileSync('/var/run/secrets/certmint.dev/ca.crt')).subject",
        ],
    },
    Reader {
        name: "Python: `ssl.create_default_context(cafile=…)`",
        image: images::python,
        file: Files::None,
        program: &[
            "python3",
            "-c",
            "import ssl, sys; print(ssl.create_default_context(cafile=sys.argv[1]).get_ca_certs())",
            ROOTS,
        ],
    },
    Reader {
        name: "`openssl x509`",
        image: images::tools,
        file: Files::None,
        program: &["openssl", "x509", "-noout", "-subject", "-in", ROOTS],
    },
    Reader {
        name: "`openssl storeutl -certs`",
        image: images::tools,
        file: Files::None,
        program: &["openssl", "storeutl", "-certs", "-text", "-noout", ROOTS],
    },
    Reader {
        name: "`certtool --certificate-info`",
        image: images::gnutls,
        file: Files::None,
        program: &["certtool", "--certificate-info", "--infile", ROOTS],
    },
];

impl Reader {
    /// Runs the program with two roots, and observes whether it reads both.
    pub(super) fn run(&self, cache: &Cache, roots: &Roots) -> Result<Observed> {
        let image = (self.image)(cache)?;
        let sandbox = Sandbox::new(cache, &image, USER, &["/app"])?;
        for (name, text) in self.file.read()? {
            sandbox.write(&format!("/app/{name}"), &text)?;
        }
        sandbox.publish(&roots.issue(Root::Old, "shop", "client", &[Root::Old, Root::New])?)?;
        let printed = command::output(&mut sandbox.command(Network::Own, &words(self.program)))?;
        let old = printed.contains(&Root::Old.end_of_common_name());
        let new = printed.contains(&Root::New.end_of_common_name());
        ensure!(old, "the program does not read the first certificate:\n{printed}");
        Ok(Observed::Reader(ReaderRow { name: self.name, reads_all: new }))
    }
}
