//! Images with programs from Debian packages and the libraries that these programs load.

mod languages;
mod recipes;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

pub use self::languages::{java, node, python};
pub use self::recipes::{envoy, gnutls, haproxy, nginx, postgres, tools};
use super::{Image, KIND, oci};
use crate::cache::{Cache, Key, remove_dir};
use crate::packages::{unpack, unpack_wheels};
use crate::{command, progress};

/// Content of an image. Paths in packages are absolute. A `*` stands for the only entry of a directory, such as a
/// version.
struct Recipe {
    name: &'static str,
    packages: &'static [&'static str],
    /// Wheels from PyPI for programs that Debian does not have, as `NAME==VERSION --hash=sha256:…`. They are
    /// unpacked to [`WHEELS`].
    wheels: &'static [&'static str],
    /// Programs. They are copied with their libraries, and linked from `/usr/bin`.
    programs: &'static [&'static str],
    /// Other files of the packages. Modules (`*.so`) are copied with their libraries, and directories with
    /// their content.
    files: &'static [&'static str],
    /// Files that do not come from the packages: the path without the leading `/`, and the content.
    written: &'static [(&'static str, &'static str)],
    config: oci::Config<'static>,
}

/// Directory of the unpacked wheels.
const WHEELS: &str = "/opt/wheels";

/// The shell and small programs of busybox.
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

fn build(cache: &Cache, recipe: &Recipe) -> Result<Image> {
    let release = fs::read_to_string("/etc/debian_version").context(
        "images with nginx, curl and openssl are built from Debian packages; use a machine with Debian",
    )?;
    let key =
        [recipe.packages, recipe.wheels, recipe.programs, recipe.files, recipe.config.entrypoint, APPLETS]
            .concat()
            .into_iter()
            .chain(recipe.written.iter().flat_map(|(path, text)| [*path, *text]))
            .fold(Key::default().text(release.trim()).text(recipe.config.stop_signal), Key::text);
    let directory = cache.entry(KIND, recipe.name, &key, |directory| {
        progress::step(&format!("building the image {} from Debian packages", recipe.name), || {
            let packages = directory.join("packages");
            unpack(recipe.packages, &packages)?;
            unpack_wheels(recipe.wheels, &path_in(&packages, Path::new(WHEELS)))?;
            let root = directory.join("root");
            select(recipe, &packages, &root)?;
            oci::write(recipe.name, &root, &recipe.config, directory)?;
            remove_dir(&packages)?;
            remove_dir(&root)
        })
    })?;
    Image::open(recipe.name, &directory)
}

/// Copies the files of the recipe, and the libraries of its programs, from `packages` to `root`.
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
        let program = expand(packages, program)?;
        copy(packages, root, &program)?;
        link(root, &program)?;
        copy_libraries(packages, root, loader, &program)?;
    }
    for file in recipe.files {
        let file = expand(packages, file)?;
        copy(packages, root, &file)?;
        if file.extension().is_some_and(|extension| extension == "so") {
            copy_libraries(packages, root, loader, &file)?;
        }
    }
    for (path, text) in recipe.written {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a file needs a directory")?)?;
        fs::write(path, text)?;
    }
    APPLETS.iter().try_for_each(|applet| Ok(symlink("busybox", root.join("usr/bin").join(applet))?))
}

/// Replaces `*` in a path with the only entry of its directory.
fn expand(packages: &Path, path: &str) -> Result<PathBuf> {
    let Some((before, after)) = path.split_once("/*/") else {
        return Ok(path.into());
    };
    let path_on_disk = path_in(packages, Path::new(before));
    let entries =
        fs::read_dir(&path_on_disk).with_context(|| format!("cannot list {}", path_on_disk.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    match names.as_slice() {
        [name] => Ok(Path::new(before).join(name).join(after)),
        _ => bail!("{before} should contain one directory, but contains {names:?}"),
    }
}

/// Links a program from `/usr/bin`, so that it is found by its name.
fn link(root: &Path, program: &Path) -> Result<()> {
    let name = program.file_name().context("a program needs a name")?;
    let link = root.join("usr/bin").join(name);
    if !root.join("usr/sbin").join(name).exists() && !link.exists() {
        symlink(program, link)?;
    }
    Ok(())
}

fn copy_libraries(packages: &Path, root: &Path, loader: &Path, program: &Path) -> Result<()> {
    libraries(packages, loader, program)?.iter().try_for_each(|library| copy(packages, root, library))
}

/// Returns the libraries of `program`, as the dynamic loader lists them.
fn libraries(packages: &Path, loader: &Path, program: &Path) -> Result<Vec<PathBuf>> {
    let places =
        ["usr/lib/x86_64-linux-gnu", "usr/lib"].map(|place| packages.join(place).display().to_string());
    let listed = command::output(
        Command::new(resolve(packages, loader)?)
            .args(["--inhibit-cache", "--library-path", &places.join(":"), "--list"])
            .arg(resolve(packages, program)?),
    )?;
    if listed.contains("not found") {
        bail!("{} needs a library that is in none of the packages:\n{listed}", program.display());
    }
    let of_packages = |line: &str| {
        let path = line.split_whitespace().find(|word| word.starts_with('/'))?;
        Some(Path::new("/").join(Path::new(path).strip_prefix(packages).ok()?))
    };
    Ok(listed.lines().filter_map(of_packages).collect())
}

/// Copies a file, or a directory with its content. Links are replaced with their targets.
fn copy(packages: &Path, root: &Path, path: &Path) -> Result<()> {
    copy_as(packages, &resolve(packages, path)?, &path_in(root, path))
}

fn copy_as(packages: &Path, source: &Path, target: &Path) -> Result<()> {
    if source.is_dir() {
        for entry in fs::read_dir(source).with_context(|| format!("cannot list {}", source.display()))? {
            let name = entry?.file_name();
            let within_packages = Path::new("/").join(source.strip_prefix(packages)?).join(&name);
            // The targets of some links exist only after an installation, so such links are left out.
            if let Ok(source) = resolve(packages, &within_packages) {
                copy_as(packages, &source, &target.join(&name))?;
            }
        }
        return Ok(());
    }
    fs::create_dir_all(target.parent().context("a file needs a directory")?)?;
    fs::copy(source, target).with_context(|| format!("cannot copy {}", source.display()))?;
    Ok(())
}

/// Follows links below `root` as if `root` were the root directory.
fn resolve(root: &Path, path: &Path) -> Result<PathBuf> {
    let mut current = path.to_path_buf();
    for _ in 0..10 {
        let path_on_disk = path_in(root, &current);
        match fs::read_link(&path_on_disk) {
            Ok(link) => current = current.parent().unwrap_or(Path::new("/")).join(link),
            Err(_) if path_on_disk.exists() => return Ok(path_on_disk),
            Err(_) => bail!("none of the packages contains {}", path.display()),
        }
    }
    bail!("{} is a link to itself", path.display())
}

fn path_in(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}
