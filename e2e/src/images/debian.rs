//! Images with programs from Debian's packages and the libraries that these load, and nothing more.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Image, KIND, oci};
use crate::cache::{Cache, Key, remove_dir};
use crate::packages::unpack;
use crate::{command, progress};

/// What goes into an image.
struct Recipe {
    name: &'static str,
    packages: &'static [&'static str],
    /// Programs, brought along with their libraries.
    programs: &'static [&'static str],
    /// Other files of the packages.
    files: &'static [&'static str],
    /// Files of our own.
    written: &'static [(&'static str, &'static str)],
    config: oci::Config<'static>,
}

/// The shell and the small programs that are handy in a container.
const BUSYBOX: &str = "/bin/busybox";
const APPLETS: &[&str] = &[
    "base64",
    "cat",
    "cp",
    "cut",
    "date",
    "echo",
    "env",
    "false",
    "find",
    "grep",
    "head",
    "hostname",
    "id",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mv",
    "nc",
    "nslookup",
    "ps",
    "readlink",
    "rm",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "tail",
    "tar",
    "test",
    "touch",
    "tr",
    "true",
    "wc",
    "wget",
    "xargs",
];

const PASSWD: (&str, &str) = ("etc/passwd", "nobody:x:65532:65532:nobody:/tmp:/bin/sh\n");
const GROUP: (&str, &str) = ("etc/group", "nobody:x:65532:\n");

/// nginx for an unprivileged user. It reads `/etc/nginx/conf.d/*.conf`, writes only to `/tmp` (mount an
/// emptyDir there when the root is read-only), and ends gracefully when stopped.
///
/// # Errors
/// When the packages cannot be had.
pub fn nginx(cache: &Cache) -> Result<Image> {
    build(
        cache,
        &Recipe {
            name: "nginx",
            packages: &["nginx-light", "busybox"],
            programs: &["/usr/sbin/nginx", BUSYBOX],
            files: &["/etc/nginx/mime.types"],
            written: &[PASSWD, GROUP, ("etc/nginx/nginx.conf", include_str!("nginx.conf"))],
            config: oci::Config {
                entrypoint: &["/usr/sbin/nginx", "-e", "stderr", "-g", "daemon off;"],
                stop_signal: "SIGQUIT",
            },
        },
    )
}

/// curl, openssl and a shell; without arguments it just stays, to be used with `kubectl exec`.
///
/// # Errors
/// When the packages cannot be had.
pub fn tools(cache: &Cache) -> Result<Image> {
    build(
        cache,
        &Recipe {
            name: "tools",
            packages: &["curl", "openssl", "busybox"],
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

fn build(cache: &Cache, recipe: &Recipe) -> Result<Image> {
    let release = fs::read_to_string("/etc/debian_version").context(
        "images with nginx, curl and openssl are made from Debian's packages, and this is not Debian or alike",
    )?;
    let key = [recipe.packages, recipe.programs, recipe.files, recipe.config.entrypoint, APPLETS]
        .concat()
        .into_iter()
        .chain(recipe.written.iter().flat_map(|(path, text)| [*path, *text]))
        .fold(Key::default().text(release.trim()).text(recipe.config.stop_signal), Key::text);
    let directory = cache.entry(KIND, recipe.name, &key, |directory| {
        progress::step(&format!("making the image {} from Debian's packages", recipe.name), || {
            let packages = directory.join("packages");
            unpack(recipe.packages, &packages)?;
            let root = directory.join("root");
            select(recipe, &packages, &root)?;
            oci::write(recipe.name, &root, &recipe.config, directory)?;
            remove_dir(&packages)?;
            remove_dir(&root)
        })
    })?;
    Image::open(recipe.name, &directory)
}

/// Copies what the recipe names, and the libraries its programs load, from `packages` to `root`.
fn select(recipe: &Recipe, packages: &Path, root: &Path) -> Result<()> {
    for directory in ["bin", "lib", "lib64", "sbin"] {
        fs::create_dir_all(root.join("usr").join(directory))?;
        symlink(format!("usr/{directory}"), root.join(directory))?;
    }
    for directory in ["etc", "tmp", "var/log/nginx", "var/lib/nginx"] {
        fs::create_dir_all(root.join(directory))?;
    }
    let loader = Path::new("/lib64/ld-linux-x86-64.so.2");
    copy(packages, root, loader)?;
    for program in recipe.programs {
        copy(packages, root, Path::new(program))?;
        for library in libraries(packages, loader, program)? {
            copy(packages, root, &library)?;
        }
    }
    for file in recipe.files {
        copy(packages, root, Path::new(file))?;
    }
    for (path, text) in recipe.written {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a file needs a directory")?)?;
        fs::write(path, text)?;
    }
    APPLETS.iter().try_for_each(|applet| Ok(symlink("busybox", root.join("usr/bin").join(applet))?))
}

/// The libraries that `program` loads, asked of the loader that will load them.
fn libraries(packages: &Path, loader: &Path, program: &str) -> Result<Vec<PathBuf>> {
    let places =
        ["usr/lib/x86_64-linux-gnu", "usr/lib"].map(|place| packages.join(place).display().to_string());
    let listed = command::output(
        Command::new(resolve(packages, loader)?)
            .args(["--inhibit-cache", "--library-path", &places.join(":"), "--list"])
            .arg(resolve(packages, Path::new(program))?),
    )?;
    if listed.contains("not found") {
        bail!("{program} needs a library that no package has:\n{listed}");
    }
    let of_packages = |line: &str| {
        let path = line.split_whitespace().find(|word| word.starts_with('/'))?;
        Some(Path::new("/").join(Path::new(path).strip_prefix(packages).ok()?))
    };
    Ok(listed.lines().filter_map(of_packages).collect())
}

fn copy(packages: &Path, root: &Path, path: &Path) -> Result<()> {
    let target = within(root, path);
    fs::create_dir_all(target.parent().context("a file needs a directory")?)?;
    let source = resolve(packages, path)?;
    fs::copy(&source, &target).with_context(|| format!("cannot copy {}", source.display()))?;
    Ok(())
}

/// Follows links below `root` as if it were the root directory.
fn resolve(root: &Path, path: &Path) -> Result<PathBuf> {
    let mut current = path.to_path_buf();
    for _ in 0..10 {
        let there = within(root, &current);
        match fs::read_link(&there) {
            Ok(link) => current = current.parent().unwrap_or(Path::new("/")).join(link),
            Err(_) if there.exists() => return Ok(there),
            Err(_) => bail!("no package has {}", path.display()),
        }
    }
    bail!("{} is a link to itself", path.display())
}

fn within(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}
