//! Images of the how-to pages' programs that are compiled: one static program each.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::system::static_program;
use super::{Image, KIND};
use crate::cache::{Cache, Key};
use crate::{command, machine, repository};

const NAME: &str = "payments-go";

/// The payment service in Go and its caller, built as its page says.
///
/// # Errors
/// When Go is absent or refuses the source.
pub fn payments_go(cache: &Cache) -> Result<Image> {
    let source = repository::root().join("docs/src/examples/how-to/go/app");
    let directory = cache.entry(KIND, NAME, &key(&source)?, |directory| {
        machine::require_program("go", "version", "install Go 1.26 or newer")?;
        let program = directory.join(NAME);
        command::output(
            Command::new("go")
                .args(["build", "-trimpath", "-buildvcs=false", "-o"])
                .arg(&program)
                .arg(".")
                .env("CGO_ENABLED", "0")
                .current_dir(&source),
        )?;
        static_program(NAME, &program, directory)
    })?;
    Image::open(NAME, &directory)
}

fn key(source: &Path) -> Result<Key> {
    let entries = fs::read_dir(source).with_context(|| format!("cannot list {}", source.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    files.iter().try_fold(Key::default(), |key, file| key.file(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prints_nothing(language: &str, program: &str, arguments: &[&str]) {
        let source = repository::root().join("docs/src/examples/how-to").join(language).join("app");
        let output = Command::new(program).args(arguments).current_dir(source).output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed);
        assert!(output.status.success() && printed.is_empty(), "{program} {arguments:?}: {printed}");
    }

    #[test]
    fn the_program_in_go_is_formatted_and_vetted() {
        prints_nothing("go", "gofmt", &["-l", "."]);
        prints_nothing("go", "go", &["vet", "."]);
    }

    #[test]
    fn the_programs_in_python_compile_without_a_warning() {
        let compile = "import pathlib\nfor file in pathlib.Path().glob('*.py'): compile(file.read_text(), file, 'exec')";
        prints_nothing("python", "python3", &["-W", "error", "-c", compile]);
    }
}
